"""Embedded exam questions with labels → a Gaussian kernel, by ridge regression in numpy."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pointsman.routers.kernel import KernelWeights


@dataclass(frozen=True, kw_only=True)
class KernelSettings:
    """How far a label reaches; docs/training-log.md has what was tried."""

    directions: int = 64
    """k, the leading principal directions of the labelled questions; the rest is noise that
    distances had better not see, and would cost time and space."""

    reach: float = 0.5
    """Of a point, in median distances between two labelled questions."""

    ridge: float = 10.0
    """Variance of a label over that of what is learned."""

    most_points: int = 2048
    """Labelled questions that are kept as points; all labels are learned from."""

    seed: int = 0
    """Of the draw of points."""


def fit_kernel(
    embeddings: NDArray[np.float32], targets: NDArray[np.float64], settings: KernelSettings
) -> KernelWeights:
    """Return the fitted kernel, with the targets' mean as its bias.

    With fewer points than labels this is the subset of regressors (Rasmussen and Williams 2006,
    section 8.3.1); else plain kernel ridge regression.

    Args:
        embeddings: float32[n, d].
        targets: float64[n].
        settings: penalties, size and seed.
    """
    centred = embeddings.astype(np.float64) - embeddings.mean(axis=0)
    _, vectors = np.linalg.eigh(centred.T @ centred)
    # An eigenvector's sign is nobody's decision; distances do not depend on it.
    projection = vectors[:, : -settings.directions - 1 : -1].T.astype(np.float32)  # (k, d)
    places = embeddings.astype(np.float64) @ projection.T.astype(np.float64)  # (n, k)
    generator = np.random.default_rng(settings.seed)
    chosen = np.sort(generator.permutation(len(places))[: settings.most_points])
    points = places[chosen].astype(np.float32)
    among = _squares(points, points)
    reach = settings.reach * float(np.sqrt(np.median(among)))
    nearness = np.exp(_squares(places, points) / (-2.0 * reach**2))  # (n, m)
    penalty = settings.ridge * np.exp(among / (-2.0 * reach**2))  # (m, m)
    mean = float(targets.mean())
    system = nearness.T @ nearness + penalty + 1e-6 * np.eye(len(points))
    coefficients = np.linalg.solve(system, nearness.T @ (targets - mean))
    return KernelWeights(
        projection=projection,
        points=points,
        coefficients=coefficients.astype(np.float32),
        reach=reach,
        bias=mean,
    )


def _squares(first: NDArray[np.floating], second: NDArray[np.floating]) -> NDArray[np.float64]:
    """Return float64[n, m], squared distances between two sets of places."""
    one, two = first.astype(np.float64), second.astype(np.float64)
    sums = (one * one).sum(axis=1)[:, None] + (two * two).sum(axis=1)
    result: NDArray[np.float64] = np.maximum(sums - 2.0 * one @ two.T, 0.0)
    return result
