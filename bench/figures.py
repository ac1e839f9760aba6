"""Plain statistics: a percentile within a round, a median with its range over rounds."""

import math
import statistics
from collections.abc import Sequence

import msgspec


class Spread(msgspec.Struct, frozen=True, kw_only=True):
    """A figure over rounds: its median and how far the rounds lie apart."""

    median: float
    low: float
    high: float


def percentile(values: Sequence[float], percent: float) -> float:
    """Returns the smallest value that at least `percent` % of the values do not exceed.

    The nearest-rank definition: always a value that was measured, never one in between.

    Args:
        values: In any order; NaN is returned if there are none.
        percent: Over 0, up to 100.
    """
    if not values:
        return math.nan
    return sorted(values)[max(0, math.ceil(len(values) * percent / 100) - 1)]


def spread(values: Sequence[float]) -> Spread:
    """Returns the median, the least and the greatest of at least one value."""
    return Spread(median=statistics.median(values), low=min(values), high=max(values))
