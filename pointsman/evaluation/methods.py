"""The two ways to measure a router: the whole curve, or RouteLLM's eleven points.

Both give the same words (APGR, CPT, AUC) to slightly different numbers, so a report says which.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from pointsman.evaluation.metrics import (
    EDGE_COUNT,
    SAMPLES,
    Curve,
    apgr_of,
    cost_quality_curve,
    cpt,
    full_curve,
    gains_at_cuts,
    interpolated_cpt,
    quantile_edges,
    resampled_rows,
)

MetricMode = Literal["full", "routellm"]
METRIC_MODES: tuple[MetricMode, ...] = get_args(MetricMode)

CPT_TARGETS = (20, 50, 80)
"""Percent of the gap between the models; RouteLLM's three."""


@dataclass(frozen=True, kw_only=True)
class Gap:
    """The strong model's mean score less the weak one's, which PGR divides by."""

    value: float
    margin: float
    """Half the width of its 95 % interval."""

    @property
    def shown(self) -> bool:
        """Whether the strong model is shown to be better: only then is more APGR better."""
        return self.value > self.margin


@dataclass(frozen=True, kw_only=True, eq=False)
class Outcomes:
    """How well both models did on the same prompts: what every figure is computed from."""

    weak: NDArray[np.float64]
    """float64[n], scores of the weak model's answers."""
    strong: NDArray[np.float64]
    """float64[n], in the same unit."""

    def __len__(self) -> int:
        return len(self.weak)

    @property
    def gap(self) -> Gap:
        """How much better the strong model is on average."""
        gains = self.strong - self.weak
        return Gap(value=float(gains.mean()), margin=1.96 * float(gains.std()) / len(gains) ** 0.5)


@dataclass(frozen=True, kw_only=True)
class Method:
    """A way to measure."""

    mode: MetricMode = "full"
    """`full`: every distinct win rate is a threshold. `routellm`: the quantile edges only, the last
    one strict, and shares interpolated over quality."""
    edges: int = EDGE_COUNT
    """How many quantile edges; the full curve needs them for nothing but the threshold lines."""

    def curve(self, rates: NDArray[np.float64], outcomes: Outcomes) -> Curve:
        """Returns quality against strong share."""
        if self.mode == "full":
            return full_curve(rates, outcomes.weak, outcomes.strong)
        return cost_quality_curve(rates, outcomes.weak, outcomes.strong, edges=self.edges)

    def cpt(self, target_pgr: float, rates: NDArray[np.float64], outcomes: Outcomes) -> float:
        """Returns the strong share that reaches the target, NaN if nothing does."""
        if self.mode == "full":
            return cpt(target_pgr, rates, outcomes.weak, outcomes.strong)
        return interpolated_cpt(target_pgr, self.curve(rates, outcomes))

    def lines(
        self, rates: NDArray[np.float64], outcomes: Outcomes
    ) -> list[tuple[float, int, float]]:
        """Returns threshold, calls to strong and mean score at each quantile edge, ascending.

        A threshold sends a prompt to strong as `decide` does; only RouteLLM's last is strict.
        """
        edges = quantile_edges(rates, self.edges)
        counts = len(rates) - np.searchsorted(np.sort(rates), edges, side="left")
        if self.mode == "routellm":
            counts[-1] = 0
        cuts, gains = gains_at_cuts(rates, outcomes.strong - outcomes.weak)
        scores = outcomes.weak.mean() + gains[np.searchsorted(cuts, counts)] / len(rates)
        return [
            (float(edge), int(count), float(score))
            for edge, count, score in zip(edges, counts, scores, strict=True)
        ]

    def apgr_samples(
        self,
        columns: Sequence[NDArray[np.float64]],
        outcomes: Outcomes,
        *,
        seed: int,
        samples: int = SAMPLES,
    ) -> NDArray[np.float64]:
        """Returns float64[len(columns), samples]: APGR of each on the same resampled prompts.

        NaN where both models are equally good in the resample.

        Args:
            columns: float64[n] each, the win rates of one router or control.
            outcomes: n prompts' scores.
            seed: makes the resamples reproducible.
            samples: how many.
        """
        blocks = []
        prepared = [_Ordered.by(rates, outcomes) for rates in columns]
        for rows in resampled_rows(len(outcomes), seed=seed, samples=samples):
            if self.mode == "full":
                counts = _counts(rows)
                blocks.append(np.stack([ordered.apgr(counts) for ordered in prepared]))
            else:
                blocks.append(
                    np.asarray([[self._apgr_of(c, outcomes, row) for row in rows] for c in columns])
                )
        return np.concatenate(blocks, axis=1)

    def _apgr_of(
        self, rates: NDArray[np.float64], outcomes: Outcomes, rows: NDArray[np.int64]
    ) -> float:
        sampled = Outcomes(weak=outcomes.weak[rows], strong=outcomes.strong[rows])
        return apgr_of(self.curve(rates[rows], sampled))


@dataclass(frozen=True, kw_only=True, eq=False)
class _Ordered:
    """Prompts sorted once by win rate; a resample only changes how often each one counts."""

    order: NDArray[np.int64]
    starts: NDArray[np.int64]
    """Where each group of equal win rates starts in the order."""
    gains: NDArray[np.float64]
    smallest_gap: float
    """Sums of gains up to this are zero but for rounding."""

    @classmethod
    def by(cls, rates: NDArray[np.float64], outcomes: Outcomes) -> _Ordered:
        gains = outcomes.strong - outcomes.weak
        order = np.argsort(-rates, kind="stable")
        cuts, _ = gains_at_cuts(rates, gains)
        largest = max(np.abs(outcomes.weak).max(), np.abs(outcomes.strong).max())
        return cls(
            order=order,
            starts=cuts[:-1],
            gains=gains[order],
            smallest_gap=1e-12 * len(rates) * float(largest),
        )

    def apgr(self, counts: NDArray[np.float64]) -> NDArray[np.float64]:
        """Returns float64[b] for float64[b, n], how often each prompt counts."""
        weights = counts[:, self.order]  # (b, n)
        widths = np.add.reduceat(weights, self.starts, axis=1)  # (b, groups)
        rises = np.add.reduceat(weights * self.gains, self.starts, axis=1)
        tops = np.cumsum(rises, axis=1)
        areas = np.sum(widths * (tops - rises / 2.0), axis=1) / counts.shape[1]  # (b,)
        gaps = tops[:, -1]
        undefined = np.abs(gaps) <= self.smallest_gap
        ratio: NDArray[np.float64] = areas / np.where(undefined, np.nan, gaps)
        return ratio


def _counts(rows: NDArray[np.int64]) -> NDArray[np.float64]:
    """Returns float64[b, n]: how often each of n prompts stands in each of b rows of n."""
    samples, count = rows.shape
    places = rows + count * np.arange(samples)[:, None]
    return np.bincount(places.ravel(), minlength=rows.size).reshape(rows.shape).astype(np.float64)
