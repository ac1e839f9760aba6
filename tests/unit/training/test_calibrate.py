"""Win rates made honest: the line that is served, the steps beside it, the error that is told."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pointsman.routers.log_odds import sigmoid
from pointsman.training.calibrate import (
    HeldOut,
    UpsideDown,
    expected_calibration_error,
    fit_isotonic,
    fit_platt,
    reliability,
)

SAMPLES = st.lists(
    st.tuples(st.integers(0, 12).map(lambda n: n / 12), st.sampled_from([0.0, 0.5, 1.0])),
    min_size=1,
    max_size=40,
)


def test_platt_finds_the_line_that_made_the_outcomes() -> None:
    """Outcomes that are probabilities on a line give the line back, whatever the weights."""
    generator = np.random.default_rng(0)
    values = generator.normal(scale=2.0, size=400)
    outcomes = sigmoid(0.7 * values - 0.4)
    scale, bias = fit_platt(values, outcomes, generator.uniform(0.1, 3.0, size=400))
    assert (scale, bias) == (pytest.approx(0.7), pytest.approx(-0.4))


def test_platt_heeds_weights() -> None:
    """An outcome of weight 3 is three outcomes."""
    values, outcomes = np.array([-1.0, 0.5, 2.0, 1.0]), np.array([0.0, 1.0, 1.0, 0.0])
    weighted = fit_platt(values, outcomes, np.array([3.0, 1.0, 1.0, 1.0]))
    repeats = [0, 0, 0, 1, 2, 3]
    assert weighted == pytest.approx(fit_platt(values[repeats], outcomes[repeats], np.ones(6)))


def test_an_upside_down_router_is_refused() -> None:
    """There is nothing to ship then."""
    values = np.linspace(-2, 2, 50)
    with pytest.raises(UpsideDown, match=r"the 50 held-out outcomes upside down \(slope -1\)"):
        fit_platt(values, sigmoid(-values), np.ones(50))


@given(SAMPLES)
def test_isotonic_steps_are_the_least_squares_fit(sample: list[tuple[float, float]]) -> None:
    """They never fall, keep the total, and equal the max-min formula for such fits."""
    rates, outcomes = (np.asarray(column) for column in zip(*sample, strict=True))
    distinct, steps = fit_isotonic(rates, outcomes)
    assert np.array_equal(distinct, np.unique(rates))
    assert np.all(np.diff(steps) >= 0)
    fitted = steps[np.searchsorted(distinct, rates)]
    assert fitted.sum() == pytest.approx(outcomes.sum())
    sums = np.array([outcomes[rates == rate].sum() for rate in distinct])
    counts = np.array([(rates == rate).sum() for rate in distinct])
    for place in range(len(distinct)):
        expected = max(
            min(
                sums[first : last + 1].sum() / counts[first : last + 1].sum()
                for last in range(place, len(distinct))
            )
            for first in range(place + 1)
        )
        assert steps[place] == pytest.approx(expected)


@given(SAMPLES, st.integers(1, 12))
def test_bins_hold_every_outcome_once(sample: list[tuple[float, float]], bins: int) -> None:
    """Nearly equal sizes, ascending rates, the same total."""
    rates, outcomes = (np.asarray(column) for column in zip(*sample, strict=True))
    points = reliability(rates, outcomes, bins)
    sizes = [size for _, _, size in points]
    assert sum(sizes) == len(sample)
    assert max(sizes) - min(sizes) <= 1
    assert [rate for rate, _, _ in points] == sorted(rate for rate, _, _ in points)
    total = sum(size * outcome for _, outcome, size in points)
    assert total == pytest.approx(outcomes.sum())


def test_the_error_is_the_mean_gap_of_the_bins() -> None:
    """Two bins of two: gaps 0.1 and 0.3."""
    rates, outcomes = np.array([0.8, 0.1, 0.9, 0.1]), np.array([1.0, 0.0, 0.1, 0.0])
    assert expected_calibration_error(rates, outcomes, bins=2) == pytest.approx(0.2)
    assert expected_calibration_error(outcomes, outcomes) == 0.0
    held_out = HeldOut(rates=rates, outcomes=outcomes)
    assert held_out.error() == expected_calibration_error(rates, outcomes)
