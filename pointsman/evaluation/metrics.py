"""How good a router is, as plain functions of numpy arrays: PGR, APGR, CPT, and their intervals.

Words: q is the mean quality of the answers served; ``q_weak`` and ``q_strong`` are the means when
every call goes to one model; strong share is the share of calls sent to strong, in [0, 1].
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

EDGE_COUNT = 11
"""RouteLLM draws its curve through the 11 edges of ten equally filled bins of win rates."""

_BLOCK = 200
"""Bootstrap samples drawn at once: bounds memory at 200 times the number of prompts."""


@dataclass(frozen=True, kw_only=True)
class Interval:
    """A figure and its 95 % interval."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        """Show three digits, as the reports print it."""
        return f"{self.value:.3f} ({self.low:.3f}-{self.high:.3f})"


@dataclass(frozen=True, kw_only=True, eq=False)
class Curve:
    """Quality against strong share, one point per threshold, from all strong to all weak."""

    strong_shares: NDArray[np.float64]
    """float64[11], descending from 1 to 0."""

    qualities: NDArray[np.float64]
    """float64[11], mean quality at each share."""


def pgr(quality: ArrayLike, weak_quality: float, strong_quality: float) -> NDArray[np.float64]:
    """Return (q - q_weak) / (q_strong - q_weak), NaN where both models are equally good."""
    gap = strong_quality - weak_quality
    values = np.asarray(quality, dtype=np.float64)
    if gap == 0:
        return np.full_like(values, np.nan)
    ratio: NDArray[np.float64] = (values - weak_quality) / gap
    return ratio


def cost_quality_curve(
    strong_win_rates: ArrayLike, weak_scores: ArrayLike, strong_scores: ArrayLike
) -> Curve:
    """Return RouteLLM's curve: thresholds at the quantile edges of the win rates themselves.

    Strong iff win rate >= edge; the last edge is strict, so that the curve ends at all weak.
    Where win rates tie, several edges give the same point, which leaves the area unchanged.

    Args:
        strong_win_rates: n win rates.
        weak_scores: n qualities of the weak model's answers, in any unit.
        strong_scores: n qualities of the strong model's answers, in the same unit.

    Raises:
        ValueError: the three differ in length or are empty.
    """
    rates, weak, strong = _aligned(strong_win_rates, weak_scores, strong_scores)
    edges = np.quantile(rates, np.linspace(0.0, 1.0, EDGE_COUNT))  # (11,)
    to_strong = rates[None, :] >= edges[:, None]  # (11, n)
    to_strong[-1] = rates > edges[-1]
    qualities = np.where(to_strong, strong[None, :], weak[None, :]).mean(axis=1)  # (11,)
    return Curve(strong_shares=to_strong.mean(axis=1), qualities=qualities)


def apgr(strong_win_rates: ArrayLike, weak_scores: ArrayLike, strong_scores: ArrayLike) -> float:
    """Return the area under PGR over strong share: 0.5 for chance, NaN if both models are equal.

    The trapezoid through `cost_quality_curve`, as RouteLLM computes it (arXiv:2406.18665).

    Example:
        >>> apgr([0.9, 0.1], weak_scores=[0, 1], strong_scores=[1, 1])
        1.0
    """
    rates, weak, strong = _aligned(strong_win_rates, weak_scores, strong_scores)
    curve = cost_quality_curve(rates, weak, strong)
    heights = pgr(curve.qualities, float(weak.mean()), float(strong.mean()))
    return _area(curve.strong_shares, heights)


def cpt(
    target_pgr: float,
    strong_win_rates: ArrayLike,
    weak_scores: ArrayLike,
    strong_scores: ArrayLike,
) -> float:
    """Return the smallest strong share whose PGR is at least the target, NaN if none reaches it.

    Every distinct threshold is tried, so nothing is interpolated on a curve that may dip.

    Args:
        target_pgr: for example 0.5 for the paper's CPT(50 %).
        strong_win_rates: n win rates.
        weak_scores: n qualities of the weak model's answers.
        strong_scores: n qualities of the strong model's answers.
    """
    rates, weak, strong = _aligned(strong_win_rates, weak_scores, strong_scores)
    order = np.argsort(-rates, kind="stable")
    gains = np.concatenate([[0.0], np.cumsum((strong - weak)[order])]) / len(rates)  # (n + 1,)
    reached = pgr(weak.mean() + gains, float(weak.mean()), float(strong.mean()))
    # A threshold sends equal win rates to strong together: it cuts between distinct ones only.
    ordered = rates[order]
    cuts = np.concatenate([[True], ordered[1:] != ordered[:-1], [True]])  # (n + 1,)
    enough = np.flatnonzero(cuts & (reached >= target_pgr - 1e-12))
    return float(enough[0]) / len(rates) if len(enough) else float("nan")


def bootstrap_apgr(
    strong_win_rates: ArrayLike,
    weak_scores: ArrayLike,
    strong_scores: ArrayLike,
    *,
    seed: int,
    samples: int = 1000,
) -> Interval:
    """Return APGR with its 95 % percentile interval over resampled prompts.

    Resamples in which both models are equally good, where it is undefined, are left out.

    Args:
        strong_win_rates: n win rates.
        weak_scores: n qualities; a prompt with several turns counts as one, by its mean.
        strong_scores: n qualities.
        seed: makes the interval reproducible.
        samples: how many resamples; 1000 settles the ends to about 0.002 of their spread.
    """
    rates, weak, strong = _aligned(strong_win_rates, weak_scores, strong_scores)
    generator = np.random.default_rng(seed)
    values = [
        apgr(rates[rows], weak[rows], strong[rows])
        for start in range(0, samples, _BLOCK)
        for rows in generator.integers(0, len(rates), (min(_BLOCK, samples - start), len(rates)))
    ]
    defined = [value for value in values if not np.isnan(value)] or [float("nan")]
    low, high = np.quantile(defined, [0.025, 0.975])
    return Interval(value=apgr(rates, weak, strong), low=float(low), high=float(high))


def _area(shares: NDArray[np.float64], heights: NDArray[np.float64]) -> float:
    """Return the trapezoid's area for shares that descend."""
    return float(np.sum((shares[:-1] - shares[1:]) * (heights[:-1] + heights[1:]) / 2.0))


def _aligned(*columns: ArrayLike) -> tuple[NDArray[np.float64], ...]:
    arrays = tuple(np.asarray(column, dtype=np.float64) for column in columns)
    lengths = [array.shape for array in arrays]
    if len(set(lengths)) != 1 or arrays[0].ndim != 1 or not len(arrays[0]):
        raise ValueError(f"win rates and scores must be equally long and not empty, got {lengths}")
    return arrays
