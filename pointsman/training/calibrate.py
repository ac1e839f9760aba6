"""Win rates against outcomes: the line and the steps that make them honest, and what is left.

Platt's line is what a router serves: two numbers, and it keeps the order of any two prompts. The
isotonic steps are drawn beside it (`report`): where they leave the line, a line is too simple.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pointsman.errors import ConfigError
from pointsman.routers.log_odds import sigmoid

_MOST_NEWTON_STEPS = 50


class UpsideDown(ConfigError, ValueError):
    """A router that ranks prompts it has not seen in the wrong order: there is nothing to ship."""


@dataclass(frozen=True, kw_only=True, eq=False)
class HeldOut:
    """n outcomes that the fit did not see, with the win rates of their prompts as served."""

    rates: NDArray[np.float64]
    """float64[n] in [0, 1]."""

    outcomes: NDArray[np.float64]
    """float64[n] in [0, 1]: how far the weak model fell short."""

    def error(self) -> float:
        """Return the expected calibration error, in [0, 1]."""
        return expected_calibration_error(self.rates, self.outcomes)


def fit_platt(
    log_odds: NDArray[np.float64], outcomes: NDArray[np.float64], weights: NDArray[np.float64]
) -> tuple[float, float]:
    """Return (scale, bias) of the logistic regression of outcomes on log-odds, by Newton.

    Args:
        log_odds: float64[n], from prompts that the fit did not see.
        outcomes: float64[n] in [0, 1].
        weights: float64[n], not negative.

    Raises:
        UpsideDown: the slope is not positive.
    """
    design = np.stack([log_odds, np.ones_like(log_odds)], axis=1)  # (n, 2)
    coefficients = np.zeros(2)
    for _ in range(_MOST_NEWTON_STEPS):
        rates = sigmoid(design @ coefficients)
        gradient = design.T @ (weights * (outcomes - rates))
        curvature = (design * (weights * rates * (1 - rates))[:, None]).T @ design
        step = np.linalg.solve(curvature + 1e-9 * np.eye(2), gradient)
        coefficients = coefficients + step
        if np.abs(step).max() < 1e-10:
            break
    scale, bias = (float(value) for value in coefficients)
    if not scale > 0:
        raise UpsideDown(
            f"the router ranks the {len(outcomes)} held-out outcomes upside down (slope "
            f"{scale:.3g}): it has learnt nothing that carries over; bring more data, or name the "
            "pair whose outcomes these are with --strong-model and --weak-model"
        )
    return scale, bias


def fit_isotonic(
    rates: NDArray[np.float64], outcomes: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the never-falling steps nearest to the outcomes in squares, by pooling neighbours.

    Returns:
        float64[k], the distinct win rates, ascending; and float64[k] in [0, 1], the mean outcome
        of each rate's pool.

    Source: the pool-adjacent-violators algorithm, Ayer et al. 1955.
    """
    distinct, inverse = np.unique(rates, return_inverse=True)
    sums = np.bincount(inverse.ravel(), outcomes)
    counts = np.bincount(inverse.ravel())
    pools: list[tuple[float, int, int]] = []  # sum and number of outcomes, number of rates
    for total, count in zip(sums.tolist(), counts.tolist(), strict=True):
        pool = (total, count, 1)
        while pools and pools[-1][0] * pool[1] >= pool[0] * pools[-1][1]:
            before = pools.pop()
            pool = (before[0] + pool[0], before[1] + pool[1], before[2] + pool[2])
        pools.append(pool)
    means = [total / count for total, count, _ in pools]
    return distinct, np.repeat(means, [length for _, _, length in pools])


def expected_calibration_error(
    rates: NDArray[np.float64], outcomes: NDArray[np.float64], bins: int = 10
) -> float:
    """Return the mean distance between win rate and outcome over equally filled bins, in [0, 1]."""
    points = reliability(rates, outcomes, bins)
    gaps = [count * abs(rate - outcome) for rate, outcome, count in points]
    return float(sum(gaps) / len(rates))


def reliability(
    rates: NDArray[np.float64], outcomes: NDArray[np.float64], bins: int = 10
) -> list[tuple[float, float, int]]:
    """Return mean win rate, mean outcome and size of equally filled bins, lowest rates first.

    Args:
        rates: float64[n].
        outcomes: float64[n] in [0, 1].
        bins: how many; fewer where there are fewer rates.
    """
    order = np.argsort(rates, kind="stable")
    return [
        (float(rates[part].mean()), float(outcomes[part].mean()), len(part))
        for part in np.array_split(order, bins)
        if len(part)
    ]
