"""The promise about quality is kept as often as it says, and refused where it could not be."""

import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from pointsman.calibration.quality import (
    EVEN_GRID,
    Method,
    Promise,
    calibrate_quality,
    p_values,
    require_rows,
    rows_needed,
    upper_bound,
)
from pointsman.errors import ConfigError

Array = NDArray[np.float64]
METHODS: tuple[Method, ...] = ("clopper-pearson", "hoeffding-bentkus")
SAMPLES = 1000
ROWS = 300


def _population(kind: str) -> tuple[Array, Array, Array]:
    """Win rates that know something, and scores: right or wrong, or graded."""
    generator = np.random.default_rng(7)
    rates = generator.random(5000)
    chance = 0.05 + 0.5 * rates
    lost = generator.random(5000) < chance
    if kind == "binary":
        return rates, np.ones(5000), 1.0 - lost
    return rates, np.full(5000, 0.9), 0.9 - 0.8 * lost * generator.random(5000)


def _true_loss(population: tuple[Array, Array, Array], threshold: float) -> float:
    rates, strong, weak = population
    return float(np.where(rates < threshold, np.maximum(0, strong - weak), 0).mean())


@pytest.mark.parametrize(("kind", "max_loss"), [("binary", 0.1), ("scores", 0.06)])
def test_promise_is_broken_at_most_as_often_as_it_says(kind: str, max_loss: float) -> None:
    """Over 1,000 samples, 5 % of broken promises plus four standard errors are allowed."""
    population = _population(kind)
    generator = np.random.default_rng(11)
    broken, cheaper = 0, 0
    for _ in range(SAMPLES):
        drawn = generator.integers(0, len(population[0]), ROWS)
        sample = tuple(column[drawn] for column in population)
        found = calibrate_quality(*sample, Promise(max_loss=max_loss))
        broken += _true_loss(population, found.threshold) > max_loss
        cheaper += found.cheaper
    slack = 4 * np.sqrt(0.05 * 0.95 / SAMPLES)
    assert broken / SAMPLES <= 0.05 + slack
    assert cheaper > 0.9 * SAMPLES  # all strong would keep any promise


@pytest.mark.parametrize(("kind", "max_loss"), [("binary", 0.1), ("scores", 0.06)])
def test_naive_choice_breaks_the_promise_far_more_often(kind: str, max_loss: float) -> None:
    """The test above can fail: the largest threshold whose loss seen is in bounds does."""
    population = _population(kind)
    generator = np.random.default_rng(11)
    broken = 0
    for _ in range(SAMPLES):
        drawn = generator.integers(0, len(population[0]), ROWS)
        rates, strong, weak = (column[drawn] for column in population)
        order = np.argsort(rates)
        seen = np.cumsum(np.maximum(0, strong - weak)[order]) / ROWS
        below = int(np.searchsorted(seen, max_loss, side="right"))
        broken += _true_loss(population, float([*rates[order], 1.0][below])) > max_loss
    assert broken / SAMPLES > 0.2


def test_exact_bound_is_clopper_pearsons() -> None:
    """No losses among n rows: 1 - (1 - confidence)^(1/n), by hand."""
    assert upper_bound(0, 149, 0.95, "clopper-pearson") == pytest.approx(1 - 0.05 ** (1 / 149))
    assert upper_bound(5, 5, 0.95, "clopper-pearson") == 1.0


@pytest.mark.parametrize("method", METHODS)
@given(
    rows=st.integers(1, 500),
    part=st.floats(0, 1),
    max_loss=st.floats(0.001, 0.999),
    confidence=st.floats(0.5, 0.999),
)
def test_bound_and_p_value_tell_the_same(
    method: Method, rows: int, part: float, max_loss: float, confidence: float
) -> None:
    """The bound that is printed must be under max_loss exactly where the test passed."""
    lost = float(round(part * rows)) if method == "clopper-pearson" else part * rows
    bound = upper_bound(lost, rows, confidence, method)
    p_value = float(p_values(lost, rows, max_loss, method))
    if bound < max_loss * (1 - 1e-9):
        assert p_value <= (1 - confidence) * (1 + 1e-6)
    if bound > max_loss * (1 + 1e-9):
        assert p_value >= (1 - confidence) * (1 - 1e-6)


@given(st.integers(1, 400), st.floats(0, 1), st.floats(0.01, 0.99))
def test_graded_losses_never_get_the_better_p_value(
    rows: int, part: float, max_loss: float
) -> None:
    """The bound for any losses in [0, 1] has to cover right and wrong."""
    lost = float(round(part * rows))
    exact, general = (float(p_values(lost, rows, max_loss, method)) for method in METHODS)
    assert general >= exact * (1 - 1e-9)


@given(st.floats(0.005, 0.9), st.floats(0.5, 0.999))
def test_rows_needed_is_the_least_number_that_passes(max_loss: float, confidence: float) -> None:
    """One row less and the promise is hopeless; as many, and no loss is enough by both methods."""
    rows = rows_needed(max_loss, confidence)
    for method in METHODS:
        assert float(p_values(0, rows, max_loss, method)) <= (1 - confidence) * (1 + 1e-6)
    if rows > 1:
        assert (1 - max_loss) ** (rows - 1) > (1 - confidence) * (1 - 1e-6)


def test_too_few_rows_are_refused_with_how_many_are_missing() -> None:
    """2 % with 95 % confidence takes 149 rows even where every answer is right."""
    require_rows(149, Promise(max_loss=0.02))
    with pytest.raises(ConfigError, match="it takes 149, so 1 are missing"):
        calibrate_quality(np.ones(148), np.ones(148), np.ones(148), Promise(max_loss=0.02))


def test_weak_model_that_loses_nothing_is_all_weak() -> None:
    """Where the weak model is as good, everything but win rates of 1 may go there."""
    found = calibrate_quality(np.full(200, 0.5), np.ones(200), np.ones(200), Promise(max_loss=0.02))
    assert (found.threshold, found.reached, found.loss) == (1.0, 0.0, 0.0)


def test_tied_losses_leave_only_all_strong() -> None:
    """Equal win rates go to weak together or not at all: the threshold is then plainly 0."""
    found = calibrate_quality(
        np.full(200, 0.5), np.ones(200), np.zeros(200), Promise(max_loss=0.02)
    )
    assert (found.threshold, found.reached, found.loss) == (0.0, 1.0, 0.0)
    assert not found.cheaper


def test_grid_decides_which_thresholds_there_are() -> None:
    """Only thresholds chosen without the labels may be returned, or the promise is void."""
    rates, strong, weak = _population("binary")
    found = calibrate_quality(rates, strong, weak, Promise(max_loss=0.1), grid=[0.25, 0.75])
    assert found.threshold == 0.25
    assert calibrate_quality(rates, strong, weak, Promise(max_loss=0.1)).threshold in EVEN_GRID


def test_scores_of_another_range_give_the_same_threshold() -> None:
    """A judge's 1 to 10 is 0 to 1 stretched; loss and bound come back in its unit."""
    rates, strong, weak = _population("scores")
    unit = calibrate_quality(rates, strong, weak, Promise(max_loss=0.05))
    judged = calibrate_quality(
        rates,
        1 + 9 * strong,
        1 + 9 * weak,
        Promise(max_loss=0.45, score_range=(1, 10)),
    )
    assert (unit.method, unit.threshold) == ("hoeffding-bentkus", judged.threshold)
    assert (judged.loss, judged.bound) == pytest.approx((9 * unit.loss, 9 * unit.bound))


def test_right_and_wrong_as_percentages_keeps_the_exact_bound() -> None:
    """0 and 100 are right and wrong too, and deserve the sharper bound."""
    found = calibrate_quality(
        np.linspace(0, 1, 400),
        np.full(400, 100),
        np.where(np.arange(400) % 3, 100, 0),
        Promise(max_loss=5, score_range=(0, 100)),
    )
    assert found.method == "clopper-pearson"
    assert found.loss < found.bound <= 5


@pytest.mark.parametrize(
    ("terms", "told"),
    [
        ({"max_loss": 0}, "above 0"),
        ({"max_loss": 1}, "below 1"),
        ({"max_loss": float("nan")}, "nan"),
        ({"max_loss": 0.1, "confidence": 95}, "0.95"),
        ({"max_loss": 0.1, "score_range": (1, 0)}, "lower end comes first"),
    ],
)
def test_promise_without_sense_is_refused(terms: dict[str, float], told: str) -> None:
    """Nobody should wait for a thousand prompts to hear this."""
    with pytest.raises(ConfigError, match=told):
        Promise(**terms)


@pytest.mark.parametrize(("strong", "weak"), [([1.0, 2.0], [0.0, 0.0]), ([1.0], [0.0])])
def test_columns_that_do_not_fit_are_refused(strong: list[float], weak: list[float]) -> None:
    """A score out of range voids both bounds, and a missing one shifts all others."""
    with pytest.raises(ValueError, match=r"not in|equally long"):
        calibrate_quality([0.1, 0.2], strong, weak, Promise(max_loss=0.5))


def test_missing_scipy_is_told_with_its_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    """The extra that brings it has a name."""
    monkeypatch.setitem(sys.modules, "scipy", None)
    with pytest.raises(ConfigError, match=r"pip install 'pointsman\[eval\]'"):
        require_rows(1000, Promise(max_loss=0.1))
