"""Embeddings → fewer numbers whose cosine says which prompts are as hard as one another.

An encoder's own cosine tells topics apart. Difficulty is one direction among its hundreds, so the
map whitens what varies most, and puts beside it the direction along which the weak model fails.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, kw_only=True)
class ProjectionSettings:
    """How embeddings are mapped."""

    dimension: int = 96
    """k, numbers per prompt: the index holds so many for each, and reads them all a request."""

    whitening_ridge: float = 0.01
    """Of the mean variance, added to each component's before it is scaled to one: small values
    raise what hardly varies, noise too, to the level of what varies most."""

    supervision: float = 0.3
    """Length of the direction of difficulty against that of all whitened ones together: 0 leaves
    it out, 1 is half of each similarity. More fits the training sources better and others worse."""

    regression_ridge: float = 1.0
    """Of the mean variance, added when that direction is fitted: large values travel further."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Projection:
    """``x → matrix (x - mean)``, to be scaled to unit length."""

    mean: NDArray[np.float32]
    """float32[d]."""

    matrix: NDArray[np.float32]
    """float32[k, d]."""


def fit_projection(
    embeddings: NDArray[np.float32], difficulty: NDArray[np.float64], settings: ProjectionSettings
) -> Projection:
    """Return the map for p embedded prompts.

    Args:
        embeddings: float32[p, d].
        difficulty: float64[p], how surely the weak model falls short, whatever its zero.
        settings: k, at most d; ridges; how much difficulty counts.
    """
    mean = embeddings.mean(axis=0)
    centered = (embeddings - mean).astype(np.float64)
    covariance = centered.T @ centered / len(centered)  # (d, d)
    variances, directions = np.linalg.eigh(covariance)  # ascending
    ridge = variances.mean()
    supervised = settings.supervision > 0
    count = min(settings.dimension - supervised, len(variances))
    order = np.argsort(variances)[::-1][:count]
    scale = 1.0 / np.sqrt(np.maximum(variances[order], 0.0) + settings.whitening_ridge * ridge)
    matrix = directions[:, order].T * scale[:, None]  # (k, d)
    if supervised:
        gradient = centered.T @ (difficulty - difficulty.mean()) / len(centered)
        slope = (directions.T @ gradient) / (variances + settings.regression_ridge * ridge)
        direction = directions @ slope  # (d,)
        deviation = float(np.sqrt(direction @ covariance @ direction))
        if deviation > 0:
            length = settings.supervision * np.sqrt(count) / deviation
            matrix = np.concatenate([matrix, length * direction[None]])
    return Projection(mean=mean, matrix=matrix.astype(np.float32))
