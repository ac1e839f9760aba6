"""How good a router is, as plain functions of numpy arrays: PGR, APGR, CPT, and their intervals.

Words: q is the mean quality of the answers served; ``q_weak`` and ``q_strong`` are the means when
every call goes to one model; strong share is the share of calls sent to strong, in [0, 1].
`pointsman.evaluation.methods` chooses between the two curves that are drawn here.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

EDGE_COUNT = 11
"""RouteLLM draws its curve through the 11 edges of ten equally filled bins of win rates."""

SAMPLES = 1000
"""Bootstrap samples: they settle the ends of an interval to about a twentieth of its width."""

_BLOCK = 200
_BLOCK_DRAWS = 4_000_000
"""Bootstrap samples and prompts drawn at once: both bound memory."""

_SAME = 1e-12
"""Relative difference up to which two means are equal: the order of a sum changes it by less."""


@dataclass(frozen=True, kw_only=True)
class Interval:
    """A figure and its 95 % interval."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        """Show three digits, as the reports print it."""
        dash = "-" if self.low >= 0 else " to "  # two minus signs and a dash are not read
        return f"{self.value:.3f} ({self.low:.3f}{dash}{self.high:.3f})"


@dataclass(frozen=True, kw_only=True, eq=False)
class Curve:
    """Quality against strong share, from all strong to all weak."""

    strong_shares: NDArray[np.float64]
    """float64[k], descending from 1 to 0."""

    qualities: NDArray[np.float64]
    """float64[k], mean quality at each share."""


def pgr(quality: ArrayLike, weak_quality: float, strong_quality: float) -> NDArray[np.float64]:
    """Return (q - q_weak) / (q_strong - q_weak), NaN where both models are equally good."""
    gap = strong_quality - weak_quality
    values = np.asarray(quality, dtype=np.float64)
    if abs(gap) <= _SAME * max(abs(weak_quality), abs(strong_quality)):
        return np.full_like(values, np.nan)
    ratio: NDArray[np.float64] = (values - weak_quality) / gap
    return ratio


def cost_quality_curve(
    strong_win_rates: ArrayLike,
    weak_scores: ArrayLike,
    strong_scores: ArrayLike,
    *,
    edges: int = EDGE_COUNT,
) -> Curve:
    """Return RouteLLM's curve: thresholds at the quantile edges of the win rates themselves.

    Strong iff win rate >= edge; the last edge is strict, so that the curve ends at all weak.
    Where win rates tie, several edges give the same point, which leaves the area unchanged.

    Args:
        strong_win_rates: n win rates.
        weak_scores: n qualities of the weak model's answers, in any unit.
        strong_scores: n qualities of the strong model's answers, in the same unit.
        edges: how many edges, at least 2.

    Raises:
        ValueError: the three differ in length or are empty.
    """
    rates, weak, strong = _aligned(strong_win_rates, weak_scores, strong_scores)
    thresholds = quantile_edges(rates, edges)  # (k,)
    to_strong = rates[None, :] >= thresholds[:, None]  # (k, n)
    to_strong[-1] = rates > thresholds[-1]
    qualities = np.where(to_strong, strong[None, :], weak[None, :]).mean(axis=1)  # (k,)
    return Curve(strong_shares=to_strong.mean(axis=1), qualities=qualities)


def quantile_edges(strong_win_rates: NDArray[np.float64], count: int) -> NDArray[np.float64]:
    """Return float64[count]: the edges of count - 1 equally filled bins, lowest to highest."""
    return np.quantile(strong_win_rates, np.linspace(0.0, 1.0, count))


def full_curve(
    strong_win_rates: ArrayLike, weak_scores: ArrayLike, strong_scores: ArrayLike
) -> Curve:
    """Return the whole curve: a point at every distinct win rate, and both ends.

    Prompts with equal win rates go to strong together: one step, and a line along it.

    Args:
        strong_win_rates: n win rates, or anything that orders prompts.
        weak_scores: n qualities of the weak model's answers.
        strong_scores: n qualities of the strong model's answers.

    Raises:
        ValueError: the three differ in length or are empty.
    """
    rates, weak, strong = _aligned(strong_win_rates, weak_scores, strong_scores)
    cuts, gains = gains_at_cuts(rates, strong - weak)
    return Curve(
        strong_shares=cuts[::-1] / len(rates),
        qualities=(weak.mean() + gains / len(rates))[::-1],
    )


def gains_at_cuts(
    rates: NDArray[np.float64], gains: NDArray[np.float64]
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Return where thresholds can cut, and what is gained above each cut in sum.

    Returns:
        int64[k], how many prompts with the highest rates go to strong, from 0 to n: only between
        distinct rates; and float64[k], the sum of those prompts' gains.
    """
    order = np.argsort(-rates, kind="stable")
    ordered = rates[order]
    inner = np.flatnonzero(ordered[1:] != ordered[:-1]) + 1
    cuts = np.concatenate([[0], inner, [len(rates)]])
    return cuts, np.concatenate([[0.0], np.cumsum(gains[order])])[cuts]


def apgr(strong_win_rates: ArrayLike, weak_scores: ArrayLike, strong_scores: ArrayLike) -> float:
    """Return the area under PGR over strong share: 0.5 for chance, NaN if both models are equal.

    The trapezoid through `cost_quality_curve`, as RouteLLM computes it (arXiv:2406.18665).

    Example:
        >>> apgr([0.9, 0.1], weak_scores=[0, 1], strong_scores=[1, 1])
        1.0
    """
    return apgr_of(cost_quality_curve(strong_win_rates, weak_scores, strong_scores))


def apgr_of(curve: Curve) -> float:
    """Return the area under the curve's PGR, NaN if both its ends are equally good."""
    heights = pgr(curve.qualities, float(curve.qualities[-1]), float(curve.qualities[0]))
    return _area(curve.strong_shares, heights)


def auc_of(curve: Curve) -> float:
    """Return the area under quality over strong share, in the unit of quality."""
    return _area(curve.strong_shares, curve.qualities)


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
    curve = full_curve(strong_win_rates, weak_scores, strong_scores)
    reached = pgr(curve.qualities, float(curve.qualities[-1]), float(curve.qualities[0]))
    enough = np.flatnonzero(reached >= target_pgr - _SAME)
    return float(curve.strong_shares[enough[-1]]) if len(enough) else float("nan")


def interpolated_cpt(target_pgr: float, curve: Curve) -> float:
    """Return the strong share at which RouteLLM reads the target off the curve, in [0, 1].

    It interpolates share over quality, whether or not quality rises with share: what comes out of
    a curve that dips is RouteLLM's number and nobody's share. NaN if both models are equally good.
    """
    weak, strong = float(curve.qualities[-1]), float(curve.qualities[0])
    if np.isnan(pgr(weak, weak, strong)):
        return float("nan")
    target = weak + target_pgr * (strong - weak)
    return float(np.interp(target, curve.qualities[::-1], curve.strong_shares[::-1]))


def bootstrap_apgr(
    strong_win_rates: ArrayLike,
    weak_scores: ArrayLike,
    strong_scores: ArrayLike,
    *,
    seed: int,
    samples: int = SAMPLES,
) -> Interval:
    """Return RouteLLM's APGR with its 95 % percentile interval over resampled prompts.

    Resamples in which both models are equally good, where it is undefined, are left out.

    Args:
        strong_win_rates: n win rates.
        weak_scores: n qualities; a prompt with several turns counts as one, by its mean.
        strong_scores: n qualities.
        seed: makes the interval reproducible.
        samples: how many resamples.
    """
    rates, weak, strong = _aligned(strong_win_rates, weak_scores, strong_scores)
    values = [
        apgr(rates[rows], weak[rows], strong[rows])
        for block in resampled_rows(len(rates), seed=seed, samples=samples)
        for rows in block
    ]
    return percentile_interval(apgr(rates, weak, strong), values)


def resampled_rows(count: int, *, seed: int, samples: int = SAMPLES) -> Iterator[NDArray[np.int64]]:
    """Yield int64[b, count] blocks, ``samples`` rows in all: each draws prompts with replacement.

    The rows depend on count and seed alone, so that everything measured on them is paired.
    """
    generator = np.random.default_rng(seed)
    block = max(1, min(_BLOCK, _BLOCK_DRAWS // count))
    for start in range(0, samples, block):
        yield generator.integers(0, count, (min(block, samples - start), count))


def percentile_interval(value: float, sampled: ArrayLike) -> Interval:
    """Return the value between the 2.5 and 97.5 percentiles of the samples that are defined."""
    values = np.asarray(sampled, dtype=np.float64)
    defined = values[~np.isnan(values)]
    if not len(defined):
        return Interval(value=value, low=float("nan"), high=float("nan"))
    low, high = np.quantile(defined, [0.025, 0.975])
    return Interval(value=value, low=float(low), high=float(high))


def _area(shares: NDArray[np.float64], heights: NDArray[np.float64]) -> float:
    """Return the trapezoid's area for shares that descend."""
    return float(np.sum((shares[:-1] - shares[1:]) * (heights[:-1] + heights[1:]) / 2.0))


def _aligned(*columns: ArrayLike) -> tuple[NDArray[np.float64], ...]:
    arrays = tuple(np.asarray(column, dtype=np.float64) for column in columns)
    lengths = [array.shape for array in arrays]
    if len(set(lengths)) != 1 or arrays[0].ndim != 1 or not len(arrays[0]):
        raise ValueError(f"win rates and scores must be equally long and not empty, got {lengths}")
    return arrays
