"""The scale every router ends on."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pointsman.routers.log_odds import Platt, log_odds, sigmoid


@given(st.floats(-1e4, 1e4))
def test_sigmoid_never_leaves_its_range(value: float) -> None:
    """Extreme log-odds saturate instead of overflowing."""
    assert 0.0 <= sigmoid(np.asarray([value]))[0] <= 1.0


@given(st.floats(1e-9, 1 - 1e-9))
def test_sigmoid_undoes_log_odds(rate: float) -> None:
    """There and back."""
    assert sigmoid(log_odds(np.asarray([rate])))[0] == pytest.approx(rate, abs=1e-12)


def test_certainty_has_finite_log_odds() -> None:
    """A router that is sure may still be calibrated."""
    certain = log_odds(np.asarray([0.0, 1.0]))
    assert np.isfinite(certain).all()
    assert certain[0] == pytest.approx(-certain[1], abs=1e-3)
    assert sigmoid(certain) == pytest.approx([0.0, 1.0], abs=1e-11)


def test_platts_line() -> None:
    """As it comes, the identity."""
    values = np.asarray([-1.0, 0.0, 2.0])
    assert (Platt().apply(values) == values).all()
    assert Platt(scale=2.0, bias=-1.0).apply(values) == pytest.approx([-3.0, -1.0, 3.0])


@given(st.floats(-1e6, 1e6), st.floats(-1e6, 1e6))
def test_platts_line_survives_an_archive(scale: float, bias: float) -> None:
    """Both numbers, to the last bit."""
    platt = Platt(scale=scale, bias=bias)
    assert Platt.from_array(platt.to_array()) == platt


@pytest.mark.parametrize("numbers", [[], [1.0], [1.0, np.nan], [np.inf, 0.0]])
def test_what_is_no_line_is_refused(numbers: list[float]) -> None:
    """A NaN would reach every win rate."""
    with pytest.raises(ValueError, match=r"unpack|scale"):
        Platt.from_array(np.asarray(numbers))
