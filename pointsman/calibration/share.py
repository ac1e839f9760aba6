"""By share: win rates of a sample → the threshold that sends a share of it to the strong model.

Plain functions of numpy arrays; the command line and the SDK both come here.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pointsman.routing import StrongShare, decide


@dataclass(frozen=True, kw_only=True)
class ShareCalibration:
    """A threshold and what it does to the sample."""

    target: float
    """The strong share that was asked for, in [0, 1]."""

    threshold: float
    """Strong iff the win rate reaches it."""

    reached: float
    """The strong share of the sample at this threshold; equal win rates move it off the target."""


def calibrate_share(win_rates: ArrayLike, target: float) -> ShareCalibration:
    """Returns the `1 - target` quantile of the win rates, interpolated linearly as pandas does.

    The same threshold as RouteLLM's `calibrate_threshold` gives for these win rates.

    Args:
        win_rates: n strong win rates of prompts, in any order.
        target: the strong share wanted, in [0, 1].

    Raises:
        ValueError: the target or a win rate is not in [0, 1], or there are no win rates.
    """
    rates = checked_win_rates(win_rates)
    threshold = float(np.quantile(rates, 1.0 - _checked_target(target)))
    return ShareCalibration(
        target=target, threshold=threshold, reached=strong_share(rates, threshold)
    )


def calibrate_share_among(quantiles: ArrayLike, target: float) -> ShareCalibration:
    """Returns the threshold for a router of which only the quantiles of its win rates are known.

    A whole percentage gives exactly the threshold of `router-<name>-p<percent>`.

    Args:
        quantiles: float64[1001], win rates at evenly spaced quantiles of the calibration prompts,
            ascending; `reached` is the share of these values.
        target: the strong share wanted, in [0, 1].

    Raises:
        ValueError: the target or a win rate is not in [0, 1], or there are no win rates.
    """
    rates = checked_win_rates(quantiles)
    percent = round(_checked_target(target) * 100)
    if not math.isclose(target * 100, percent, rel_tol=0.0, abs_tol=1e-9):
        return calibrate_share(rates, target)
    threshold = StrongShare(percent).threshold_among(rates.tolist())
    return ShareCalibration(
        target=target, threshold=threshold, reached=strong_share(rates, threshold)
    )


def strong_share(win_rates: ArrayLike, threshold: float) -> float:
    """Returns the share of the win rates that `decide` sends to the strong model, in [0, 1]."""
    rates = np.asarray(win_rates, dtype=np.float64).tolist()
    return sum(decide(rate, threshold) == "strong" for rate in rates) / len(rates)


def strong_counts(
    ordered: NDArray[np.float64], thresholds: NDArray[np.float64]
) -> NDArray[np.int64]:
    """Returns how many win rates go to the strong model at each threshold, as `decide` decides.

    Args:
        ordered: float64[n] win rates, ascending.
        thresholds: float64[m].

    Returns:
        int64[m], each in 0 to n.
    """
    below = np.searchsorted(ordered, thresholds, side="left")  # (m,), strictly below
    return np.asarray(len(ordered) - below, dtype=np.int64)


def checked_win_rates(win_rates: ArrayLike) -> NDArray[np.float64]:
    """Returns the win rates as float64[n].

    Raises:
        ValueError: they are not a list of at least one number in [0, 1].
    """
    rates = np.asarray(win_rates, dtype=np.float64)
    if rates.ndim != 1 or not len(rates):
        raise ValueError(f"win rates must be a list and not empty, got the shape {rates.shape}")
    wrong = rates[~((rates >= 0.0) & (rates <= 1.0))]  # NaN too
    if len(wrong):
        raise ValueError(f"a win rate of {wrong[0]} is not in [0, 1]")
    return rates


def _checked_target(target: float) -> float:
    if not 0.0 <= target <= 1.0:
        raise ValueError(f"a strong share of {target} is not in [0, 1]; 20 % is 0.2")
    return target
