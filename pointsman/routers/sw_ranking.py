"""Similarity-weighted ranking: battles over prompts like this one decide, without training.

Every battle weighs ``10 * 10^(s / max s)`` by its prompt's cosine similarity s to the prompt that
is scored; Bradley-Terry on tiers of models gives ratings, and ratings a win rate (Ong et al. 2024,
arXiv:2406.18665, with the maximum over the battles' prompts as in RouteLLM's code). The weights are
summed into the cells of `pointsman.routers.bradley_terry`, which solves them.
"""

from __future__ import annotations

import io
from dataclasses import dataclass, field
from typing import Any
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from pointsman.errors import ConfigError
from pointsman.routers.base import EmbeddingRouter
from pointsman.routers.bradley_terry import LOG_ODDS_PER_POINT, OUTCOMES, cell_ids, fit_cells
from pointsman.routers.embedding import TextEmbedder
from pointsman.routers.log_odds import Platt, sigmoid


@dataclass(frozen=True, kw_only=True, eq=False)
class SimilarityIndex:
    """Embeddings and outcomes of battles: all that scoring needs, and no text.

    p distinct prompts, n battles, T tiers; embeddings of dimension d, compared in dimension k.
    """

    embeddings: NDArray[np.floating]
    """float16 or float32[p, k], unit rows: the battles' prompts."""

    prompt_index: NDArray[np.int32]
    """int32[n], ascending: the row of each battle's prompt."""

    cell: NDArray[np.int16]
    """int16[n]: (first tier * T + second tier) * 3 + outcome, see `bradley_terry`."""

    weights: NDArray[np.float32] | None = None
    """float32[n], at least 0: battles that one row stands for; None is 1 each."""

    tier_count: int
    """T."""

    strong_tier: int
    """Tier of the strong model; 0 is the best."""

    weak_tier: int
    """Tier of the weak model."""

    mean: NDArray[np.float32] | None = None
    """float32[d], taken from an embedding before the projection; None is zero."""

    projection: NDArray[np.float32] | None = None
    """float32[k, d]; None compares embeddings as they are, k = d."""

    sharpness: float = 1.0
    """Factor on the exponent: higher listens to fewer, more similar prompts. 1 is the paper's."""

    compat: bool = False
    """Whether ratings are fitted with RouteLLM's quirk, see `bradley_terry.fit_cells`."""

    platt: Platt = field(default_factory=Platt)
    """Line on the win rate's log-odds; the identity leaves Bradley-Terry's as it is."""

    def __post_init__(self) -> None:
        """Refuse arrays that do not belong together."""
        prompts, battles = len(self.embeddings), len(self.prompt_index)
        tiers, size = range(self.tier_count), self.tier_count**2 * OUTCOMES
        if self.embeddings.ndim != 2 or not prompts or not battles:
            raise ConfigError("an sw_ranking index needs at least one prompt and one battle")
        if self.strong_tier not in tiers or self.weak_tier not in tiers:
            raise ConfigError(
                f"an sw_ranking index with {self.tier_count} tiers has no strong tier "
                f"{self.strong_tier} or no weak tier {self.weak_tier}"
            )
        rows, cells = self.prompt_index, self.cell
        aligned = cells.shape == rows.shape == (battles,)
        aligned &= self.weights is None or self.weights.shape == (battles,)
        if not (aligned and 0 <= rows.min() <= rows.max() < prompts and cells.min() >= 0):
            raise ConfigError("the battles of an sw_ranking index do not fit its prompts")
        if cells.max() >= size:
            raise ConfigError(f"an sw_ranking index has cell {cells.max()} of {size}")
        if self.projection is not None and self.projection.shape[0] != self.embeddings.shape[1]:
            raise ConfigError(
                f"an sw_ranking index projects to {self.projection.shape[0]} numbers and holds "
                f"embeddings of {self.embeddings.shape[1]}"
            )

    @property
    def dimension(self) -> int:
        """Length d of the embeddings that are compared with these prompts."""
        return int((self.embeddings if self.projection is None else self.projection).shape[1])

    @classmethod
    def build(
        cls,
        *,
        embeddings: NDArray[np.floating],
        prompt_index: NDArray[np.integer],
        first_tier: NDArray[np.integer],
        second_tier: NDArray[np.integer],
        outcome: NDArray[np.integer],
        tier_count: int,
        strong_tier: int,
        weak_tier: int,
        weights: NDArray[np.floating] | None = None,
        mean: NDArray[np.floating] | None = None,
        projection: NDArray[np.floating] | None = None,
        sharpness: float = 1.0,
        compat: bool = False,
        platt: Platt | None = None,
        dtype: type[np.float16] | type[np.float32] = np.float16,
    ) -> SimilarityIndex:
        """Return the index of these battles, whatever their order.

        Battles over one prompt in one cell become one row with their weights' sum.

        Args:
            embeddings: float[p, d], as the embedder gives them: mean, projection and
                normalisation are done here.
            prompt_index: int[n], the row of each battle's prompt.
            first_tier: int[n], in [0, T).
            second_tier: int[n], in [0, T).
            outcome: int[n], `FIRST_WON`, `TIE` or `SECOND_WON`.
            tier_count: T.
            strong_tier: tier of the strong model.
            weak_tier: tier of the weak model.
            weights: float[n]; 1 each by default. Battles without weight are left out.
            mean: float[d], see the field.
            projection: float[k, d], see the field.
            sharpness: see the field.
            compat: see the field.
            platt: see the field.
            dtype: how embeddings are stored; float16 moves a cosine by less than 0.001.

        Raises:
            ConfigError: the arrays do not belong together, or no battle has a weight.
            ValueError: a tier or an outcome is out of range.
        """
        cell = cell_ids(first_tier, second_tier, outcome, tier_count)
        size = tier_count**2 * OUTCOMES
        heavy = np.ones(len(cell)) if weights is None else np.asarray(weights, dtype=np.float64)
        together = np.asarray(prompt_index, dtype=np.int64) * size + cell
        keys, inverse = np.unique(together[heavy > 0], return_inverse=True)
        sums = np.bincount(inverse.ravel(), heavy[heavy > 0], len(keys)).astype(np.float32)
        center = None if mean is None else np.asarray(mean, dtype=np.float32)
        matrix = None if projection is None else np.asarray(projection, dtype=np.float32)
        compared = [_unit(row, center, matrix) for row in np.asarray(embeddings, dtype=np.float32)]
        return cls(
            embeddings=np.asarray(compared, dtype=dtype),
            prompt_index=(keys // size).astype(np.int32),
            cell=(keys % size).astype(np.int16),
            weights=None if (sums == 1.0).all() else sums,
            tier_count=tier_count,
            strong_tier=strong_tier,
            weak_tier=weak_tier,
            mean=center,
            projection=matrix,
            sharpness=sharpness,
            compat=compat,
            platt=platt or Platt(),
        )

    def to_bytes(self) -> bytes:
        """Return the index as an .npz archive, the same bytes for the same index."""
        optional = {"weights": self.weights, "mean": self.mean, "projection": self.projection}
        arrays: dict[str, Any] = {
            "embeddings": self.embeddings,
            "prompt_index": self.prompt_index,
            "cell": self.cell,
            "tiers": np.asarray([self.tier_count, self.strong_tier, self.weak_tier], np.int64),
            "sharpness": np.asarray(self.sharpness, dtype=np.float64),
            "compat": np.asarray(self.compat),
            "platt": self.platt.to_array(),
            **{name: array for name, array in optional.items() if array is not None},
        }
        buffer = io.BytesIO()
        np.savez(buffer, **arrays)
        return buffer.getvalue()

    @classmethod
    def from_bytes(cls, data: bytes) -> SimilarityIndex:
        """Read what `to_bytes` wrote.

        Raises:
            ConfigError: the archive is not one of ours.
        """
        try:
            with np.load(io.BytesIO(data), allow_pickle=False) as archive:
                tier_count, strong_tier, weak_tier = (int(tier) for tier in archive["tiers"])
                return cls(
                    embeddings=archive["embeddings"],
                    prompt_index=archive["prompt_index"],
                    cell=archive["cell"],
                    tier_count=tier_count,
                    strong_tier=strong_tier,
                    weak_tier=weak_tier,
                    sharpness=float(archive["sharpness"]),
                    compat=bool(archive["compat"]),
                    platt=Platt.from_array(archive["platt"]),
                    **{
                        name: archive[name]
                        for name in ("weights", "mean", "projection")
                        if name in archive
                    },
                )
        except (OSError, ValueError, KeyError, EOFError, BadZipFile) as error:
            raise ConfigError(f"the bundle's sw_ranking index cannot be read: {error}") from error


class SimilarityRouter(EmbeddingRouter):
    """The index, ready to score: float32 in memory, one small fit per prompt."""

    def __init__(self, embedder: TextEmbedder, index: SimilarityIndex) -> None:
        """Keep the index.

        Raises:
            ConfigError: the index was made of embeddings of another dimension.
        """
        super().__init__(embedder, "sw_ranking", index.dimension)
        self._index = index
        # numpy computes with float16 by casting each time: 13 times slower.
        self._embeddings = np.ascontiguousarray(index.embeddings, dtype=np.float32)  # (p, k)

    def win_rates_of(self, embeddings: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return float32[n] in [0, 1] for float32[n, d] that are embedded already."""
        log_odds = np.asarray([self._log_odds(row) for row in embeddings], dtype=np.float64)
        return sigmoid(self._index.platt.apply(log_odds)).astype(np.float32)

    def _log_odds(self, embedding: NDArray[np.float32]) -> float:
        """Return the strong tier's log-odds of beating the weak one over prompts like this."""
        index = self._index
        query = _unit(embedding, index.mean, index.projection)  # (k,)
        # One dot product a row: a matrix product would start BLAS's threads on every worker.
        similarities = np.vecdot(self._embeddings, query)  # (p,)
        by_prompt = _prompt_weights(similarities, index.sharpness, compat=index.compat)  # (p,)
        weights = by_prompt[index.prompt_index]  # (n,)
        if index.weights is not None:
            weights = weights * index.weights
        tiers = index.tier_count
        sums = np.bincount(index.cell, weights, tiers * tiers * OUTCOMES)
        cells = sums.astype(np.float64).reshape(tiers, tiers, OUTCOMES)
        ratings = fit_cells(cells, compat=index.compat)  # (T,)
        return float(LOG_ODDS_PER_POINT * (ratings[index.strong_tier] - ratings[index.weak_tier]))


def _unit(
    embedding: NDArray[np.float32],
    mean: NDArray[np.float32] | None,
    projection: NDArray[np.float32] | None,
) -> NDArray[np.float32]:
    """Return float32[k] of length 1 for float32[d]; zeros for what has no direction."""
    vector = embedding.astype(np.float64)
    if mean is not None:
        vector = vector - mean
    if projection is not None:
        vector = projection.astype(np.float64) @ vector
    length = np.linalg.norm(vector)
    return (vector / length if length > 0 else vector).astype(np.float32)


def _prompt_weights(
    similarities: NDArray[np.float32], sharpness: float, *, compat: bool
) -> NDArray[np.float64]:
    """Return float64[p] in [0, 1], proportional to ``10^(sharpness * s / max s)``, largest 1.

    Only proportions decide, and these cannot overflow. Where no prompt is similar (max s at most
    0), all weigh the same; RouteLLM's quotient then favours the least similar.
    """
    largest = float(similarities.max())
    if largest == 0 or (largest < 0 and not compat):
        return np.ones(len(similarities))
    exponents = similarities / np.float64(largest)
    weights: NDArray[np.float64] = np.power(10.0, sharpness * (exponents - exponents.max()))
    return weights
