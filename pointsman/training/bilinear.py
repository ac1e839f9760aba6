"""Embedded outcomes → the bilinear form: the fitting itself, in torch.

What is learned is where the weak model fails: over prompts of another kind than those trained
on, that carries further than who won (docs/training-log.md).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from tqdm import tqdm

from pointsman.routers.mf import BilinearWeights


@dataclass(frozen=True, kw_only=True)
class FitSettings:
    """How strongly the form is held back; chosen by leaving whole subjects out."""

    rank: int = 8
    """k, the length of a model's vector. RouteLLM has 128 for 64 models and 65,000 battles."""

    ridge: float = 3.0
    """Penalty on the squared length of each pair's vector, on standardised embeddings and on the
    scale of least squares. Small values fit the training subjects, large ones travel further."""

    shrinkage: float = 10.0
    """Penalty on a model's distance from its tier; large values make all pairs one pair, and the
    result depend less on the seed."""

    iterations: int = 4
    """Steps of L-BFGS. Stopping this early holds back more than any ridge: the first steps follow
    what all sources agree on. Going on fits the training subjects better and others worse."""

    seed: int = 0


@dataclass(frozen=True, kw_only=True, eq=False)
class Examples:
    """n soft labels over p embedded prompts."""

    embeddings: NDArray[np.float32]
    """float32[p, d]."""

    prompt_index: NDArray[np.int64]
    """int64[n] into ``embeddings``."""

    strong_index: NDArray[np.int64]
    """int64[n] into ``model_names``."""

    weak_index: NDArray[np.int64]
    """int64[n] into ``model_names``."""

    source_index: NDArray[np.int64]
    """int64[n]: each source has its own intercept, which is not served."""

    targets: NDArray[np.float64]
    """float64[n] in [0, 1]: how surely the strong model is needed."""

    weights: NDArray[np.float64]
    """float64[n], positive."""

    model_names: tuple[str, ...]

    tiers: NDArray[np.float32]
    """float32[m]: +1 for models that are mostly the strong one, else -1; see `tiers_of`."""

    def subset(self, rows: NDArray[np.bool_]) -> Examples:
        """Return the examples that ``rows`` (bool[n]) marks, over the same prompts."""
        return replace(
            self,
            prompt_index=self.prompt_index[rows],
            strong_index=self.strong_index[rows],
            weak_index=self.weak_index[rows],
            source_index=self.source_index[rows],
            targets=self.targets[rows],
            weights=self.weights[rows],
        )


LOGISTIC_CURVATURE = 0.22
"""Mean p (1 - p) of the outcomes: turns a ridge on least squares into one on log-odds."""


def fit_bilinear(examples: Examples, settings: FitSettings, description: str) -> BilinearWeights:
    """Return the fitted form, uncalibrated (scale 1, bias 0).

    Args:
        examples: what to learn from.
        settings: penalties, rank, seed.
        description: what the progress bar says.
    """
    used = np.unique(examples.prompt_index)
    inside = examples.embeddings[used]  # (q, d)
    mean, deviation = inside.mean(axis=0), inside.std(axis=0) + 1e-6
    standardised = torch.from_numpy((inside - mean) / deviation)
    problem = _Problem(examples, np.searchsorted(used, examples.prompt_index), settings)
    parameters = problem.initial(dimension=inside.shape[1])
    optimizer = torch.optim.LBFGS(
        list(parameters.values()),
        max_iter=settings.iterations,
        history_size=20,
        tolerance_grad=1e-7,
        tolerance_change=1e-10,
        line_search_fn="strong_wolfe",
    )
    with tqdm(desc=description, unit="step", leave=False, disable=None) as progress:

        def closure() -> Tensor:
            optimizer.zero_grad()
            loss = problem.loss(standardised, **parameters)
            loss.backward()
            progress.update()
            progress.set_postfix(loss=f"{loss.item():.5f}")
            return loss

        with one_thread():
            optimizer.step(closure)
    projection = parameters["projection"].detach().numpy() / deviation
    return BilinearWeights(
        model_names=examples.model_names,
        model_vectors=parameters["vectors"].detach().numpy().astype(np.float32),
        projection=projection.astype(np.float32),
        classifier=parameters["classifier"].detach().numpy().astype(np.float32),
    )


@contextmanager
def one_thread() -> Iterator[None]:
    """Add up in one order: with several threads the order, and so the fit, follows the load."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


class _Problem:
    """The loss over fixed examples, as a function of the parameters."""

    def __init__(
        self, examples: Examples, prompt_index: NDArray[np.int64], settings: FitSettings
    ) -> None:
        self.settings = settings
        self.prompts = torch.from_numpy(prompt_index)
        self.strong = torch.from_numpy(examples.strong_index)
        self.weak = torch.from_numpy(examples.weak_index)
        self.sources = torch.from_numpy(examples.source_index)
        self.targets = torch.from_numpy(examples.targets.astype(np.float32))
        weights = examples.weights / examples.weights.sum()
        self.weights = torch.from_numpy(weights.astype(np.float32))
        self.source_count = int(examples.source_index.max()) + 1
        self.model_count = len(examples.model_names)
        self.tiers = torch.from_numpy(examples.tiers)[:, None]  # (m, 1)
        pairs, inverse = np.unique(
            np.stack([examples.strong_index, examples.weak_index]), axis=1, return_inverse=True
        )
        self.pairs = torch.from_numpy(pairs)  # (2, r)
        share = np.bincount(inverse.ravel(), weights)
        self.pair_weights = torch.from_numpy(share.astype(np.float32))  # (r,)

    def initial(self, dimension: int) -> dict[str, Tensor]:
        """Return the parameters at the start: two tiers, opposite each other, and no opinion."""
        generator = torch.Generator().manual_seed(self.settings.seed)
        rank = self.settings.rank
        noise = torch.randn(self.model_count, rank, generator=generator)
        vectors = self.tiers.expand(-1, rank) / rank**0.5 + 0.05 * noise
        return {
            "vectors": vectors.clone().requires_grad_(),
            "projection": torch.zeros(rank, dimension, requires_grad=True),
            "classifier": torch.ones(rank, requires_grad=True),
            "intercepts": torch.zeros(self.source_count, requires_grad=True),
        }

    def loss(
        self,
        standardised: Tensor,
        vectors: Tensor,
        projection: Tensor,
        classifier: Tensor,
        intercepts: Tensor,
    ) -> Tensor:
        """Return cross-entropy plus penalties, a scalar."""
        unit = torch.nn.functional.normalize(vectors, dim=1)  # (m, k)
        projected = standardised @ projection.T  # (q, k)
        difference = (unit[self.strong] - unit[self.weak]) * classifier  # (n, k)
        log_odds = (projected[self.prompts] * difference).sum(dim=1) + intercepts[self.sources]
        fit = torch.nn.functional.binary_cross_entropy_with_logits(
            log_odds, self.targets, weight=self.weights, reduction="sum"
        )
        pair_difference = (unit[self.pairs[0]] - unit[self.pairs[1]]) * classifier  # (r, k)
        lengths = (pair_difference @ projection).square().sum(dim=1)  # (r,)
        ridge = self.settings.ridge * LOGISTIC_CURVATURE / 2 * (self.pair_weights @ lengths)
        rank = self.settings.rank
        distance = (unit - self.tiers / rank**0.5).square().sum(dim=1).mean()
        size = (classifier - 1.0).square().mean()
        return fit + ridge + self.settings.shrinkage * (distance + size)


def tiers_of(
    strong_index: NDArray[np.int64], weak_index: NDArray[np.int64], weights: NDArray[np.float64]
) -> NDArray[np.float32]:
    """Return float32[m]: +1 for models that are mostly the strong one, else -1.

    Args:
        strong_index: int64[n], numbers of models.
        weak_index: int64[n].
        weights: float64[n].
    """
    count = int(max(strong_index.max(), weak_index.max())) + 1
    strong = np.bincount(strong_index, weights, minlength=count)
    weak = np.bincount(weak_index, weights, minlength=count)
    return np.where(strong > weak, 1.0, -1.0).astype(np.float32)
