"""Between win rates and log-odds, and the line that makes a router's log-odds honest.

Every trained router ends here: a number on the log-odds scale, Platt's line, `sigmoid`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

_SMALLEST_RATE = 1e-12
"""Rates are kept this far from 0 and 1, about ±27.6 in log-odds: well outside what float32 rates
below 1 can say (±16.6), so that nothing finite is changed at that end."""


def sigmoid(log_odds: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return 1 / (1 + exp(-x)) without overflow, same shape."""
    result: NDArray[np.float64] = 0.5 * (1.0 + np.tanh(0.5 * log_odds))
    return result


def log_odds(rates: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return log(p / (1 - p)), same shape, finite for rates of 0 and 1 too.

    Args:
        rates: in [0, 1].
    """
    inside = np.clip(np.asarray(rates, dtype=np.float64), _SMALLEST_RATE, 1.0 - _SMALLEST_RATE)
    result: NDArray[np.float64] = np.log(inside) - np.log1p(-inside)
    return result


@dataclass(frozen=True, kw_only=True)
class Platt:
    """Platt's line ``scale · x + bias`` on log-odds; as it comes it changes nothing.

    Source: Platt 1999, "Probabilistic outputs for support vector machines".
    """

    scale: float = 1.0
    """Slope; below 1 it draws win rates towards the middle, and above 0 it keeps their order."""

    bias: float = 0.0
    """Intercept, in log-odds."""

    def apply(self, log_odds: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return calibrated log-odds, same shape."""
        result: NDArray[np.float64] = self.scale * log_odds + self.bias
        return result

    def to_array(self) -> NDArray[np.float64]:
        """Return float64[2], scale and bias, as archives store them."""
        return np.asarray([self.scale, self.bias], dtype=np.float64)

    @classmethod
    def from_array(cls, numbers: NDArray[np.float64]) -> Platt:
        """Read what `to_array` returned.

        Raises:
            ValueError: these are not two finite numbers.
        """
        scale, bias = (float(number) for number in numbers)
        if not np.isfinite([scale, bias]).all():
            raise ValueError(f"Platt's line has scale {scale} and bias {bias}")
        return cls(scale=scale, bias=bias)
