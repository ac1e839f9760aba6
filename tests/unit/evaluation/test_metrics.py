"""Figures against curves drawn by hand, and the properties every figure of its kind has."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pointsman.evaluation.metrics import (
    Interval,
    apgr,
    apgr_of,
    auc_of,
    bootstrap_apgr,
    cost_quality_curve,
    cpt,
    full_curve,
    interpolated_cpt,
    pgr,
    resampled_rows,
)

RATES = np.arange(20.0)
"""Twenty distinct win rates: the edges 0, 1.9, 3.8, ..., 19 cut off two prompts each."""

RIGHT = np.ones(20)
PERFECT = np.asarray([1.0] * 12 + [0.0] * 8)
"""The weak model fails on exactly the eight prompts with the highest win rates."""


def test_pgr_is_zero_at_weak_and_one_at_strong() -> None:
    """The two ends of every curve, and the middle."""
    assert pgr([60.0, 70.0, 80.0], 60.0, 80.0).tolist() == [0.0, 0.5, 1.0]


def test_pgr_is_undefined_between_equal_models() -> None:
    """There is no gap to recover."""
    assert np.isnan(pgr([1.0], 5.0, 5.0)).all()


def test_the_curve_runs_from_all_strong_to_all_weak() -> None:
    """Eleven edges; the last is strict."""
    curve = cost_quality_curve(RATES, PERFECT, RIGHT)
    assert curve.strong_shares.tolist() == pytest.approx(list(np.linspace(1.0, 0.0, 11)))
    assert curve.qualities[0] == 1.0
    assert curve.qualities[-1] == pytest.approx(12 / 20)


def test_apgr_of_a_perfect_order_by_hand() -> None:
    """PGR is 1 down to share 0.4, then 0.75, 0.5, 0.25 and 0: 0.6 + 0.2."""
    assert apgr(RATES, PERFECT, RIGHT) == pytest.approx(0.8)


def test_apgr_of_the_opposite_order_by_hand() -> None:
    """The same eight failures at the bottom: nothing is gained before share 0.6."""
    assert apgr(RATES, PERFECT[::-1], RIGHT) == pytest.approx(0.2)


def test_equal_win_rates_are_chance() -> None:
    """One tie over everything is a straight line, not a crash."""
    assert apgr(np.full(20, 0.5), np.arange(20) % 2, np.ones(20)) == pytest.approx(0.5)


def test_cpt_is_the_smallest_share_that_reaches_the_target() -> None:
    """Four of eight failures repaired is PGR 0.5, at 4 of 20 calls."""
    assert cpt(0.5, RATES, PERFECT, RIGHT) == pytest.approx(4 / 20)
    assert cpt(0.0, RATES, PERFECT, RIGHT) == 0.0
    assert cpt(1.0, RATES, PERFECT, RIGHT) == pytest.approx(8 / 20)


def test_cpt_never_cuts_between_equal_win_rates() -> None:
    """A threshold sends all of them to strong or none."""
    assert cpt(0.5, [1.0, 1.0, 0.0], [0.0, 0.0, 1.0], [1.0, 1.0, 1.0]) == pytest.approx(2 / 3)


def test_cpt_is_nan_if_nothing_reaches_the_target() -> None:
    """More than the whole gap is out of reach here."""
    assert np.isnan(cpt(1.5, RATES, PERFECT, RIGHT))


def test_bootstrap_is_reproducible_and_holds_the_value() -> None:
    """The interval is a function of the data and the seed."""
    generator = np.random.default_rng(0)
    weak = generator.integers(0, 2, 300).astype(float)
    rates = generator.random(300) - 0.3 * weak
    first = bootstrap_apgr(rates, weak, np.ones(300), seed=5, samples=200)
    assert first == bootstrap_apgr(rates, weak, np.ones(300), seed=5, samples=200)
    assert first.low < first.value < first.high
    assert first.value == apgr(rates, weak, np.ones(300))


def test_an_undefined_figure_has_an_undefined_interval() -> None:
    """Two equal models give NaN throughout, and no warning."""
    interval = bootstrap_apgr([0.1, 0.2], [1.0, 1.0], [1.0, 1.0], seed=0, samples=10)
    assert np.isnan([interval.value, interval.low, interval.high]).all()


def test_an_interval_prints_as_the_reports_show_it() -> None:
    """Three digits, no more than the data carry."""
    assert str(Interval(value=0.58765, low=0.5701, high=0.6)) == "0.588 (0.570-0.600)"
    assert str(Interval(value=0.2, low=-0.1, high=-0.0504)) == "0.200 (-0.100 to -0.050)"


@pytest.mark.parametrize("columns", [([], [], []), ([1.0], [1.0, 2.0], [1.0])])
def test_columns_must_fit(columns: tuple[list[float], ...]) -> None:
    """Misaligned data is an error, not a figure."""
    with pytest.raises(ValueError, match="equally long"):
        apgr(*columns)


outcomes = st.lists(
    st.tuples(st.integers(0, 8), st.integers(0, 1), st.integers(0, 1)), min_size=2, max_size=60
)


@given(outcomes, st.floats(0.1, 10))
def test_apgr_depends_on_the_order_only(rows: list[tuple[int, int, int]], factor: float) -> None:
    """Any rescaling of quality, and any exact monotone map of win rates, changes nothing."""
    rates, weak, strong = np.asarray(rows, dtype=float).T
    if weak.mean() == strong.mean():
        return
    value = apgr(rates, weak, strong)
    assert apgr(rates * 4 + 1, weak, strong) == pytest.approx(value)
    assert apgr(rates, weak * factor + 3, strong * factor + 3) == pytest.approx(value)


def test_the_full_curve_has_a_point_at_every_distinct_win_rate() -> None:
    """Three calls, two of them tied: none, one, all; the tie is one step."""
    curve = full_curve([0.9, 0.5, 0.5], [0.0, 0.0, 1.0], [1.0, 1.0, 1.0])
    assert curve.strong_shares.tolist() == pytest.approx([1.0, 1 / 3, 0.0])
    assert curve.qualities.tolist() == pytest.approx([1.0, 2 / 3, 1 / 3])


def test_the_full_area_by_hand() -> None:
    """PGR climbs to 0.5 over a third of the calls, then to 1 over two: 1/12 + 1/2."""
    curve = full_curve([0.9, 0.5, 0.5], [0.0, 0.0, 1.0], [1.0, 1.0, 1.0])
    assert apgr_of(curve) == pytest.approx(1 / 12 + 1 / 2)
    assert auc_of(curve) == pytest.approx(1 / 3 + 2 / 3 * (1 / 12 + 1 / 2))


def test_interpolated_cpt_is_numpys_interpolation_of_share_over_quality() -> None:
    """By hand: the perfect order reaches half of the gap between two edges, at share 0.2."""
    curve = cost_quality_curve(RATES, PERFECT, RIGHT)
    assert interpolated_cpt(0.5, curve) == pytest.approx(0.2)
    assert interpolated_cpt(0.4, curve) == pytest.approx(0.16)


def test_interpolated_cpt_is_nan_between_equal_models() -> None:
    """There is no gap to read off."""
    assert np.isnan(interpolated_cpt(0.5, cost_quality_curve([1.0, 2.0], [1.0, 1.0], [1.0, 1.0])))


def test_models_whose_means_differ_by_rounding_are_equal() -> None:
    """0.1 + 0.2 + 0.3 and 0.3 + 0.1 + 0.2 differ in the last bit, and that is no gap."""
    assert np.isnan(apgr_of(full_curve([3.0, 2.0, 1.0], [0.1, 0.2, 0.3], [0.3, 0.1, 0.2])))


def test_resampled_rows_do_not_depend_on_how_many_fit_into_memory(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The interval is the same on a machine, and with a benchmark, of any size."""
    whole = np.concatenate(list(resampled_rows(37, seed=3, samples=50)))
    monkeypatch.setattr("pointsman.evaluation.metrics._BLOCK_DRAWS", 37 * 7)
    assert np.array_equal(whole, np.concatenate(list(resampled_rows(37, seed=3, samples=50))))


@given(outcomes)
def test_cpt_is_a_share_of_the_full_curve(rows: list[tuple[int, int, int]]) -> None:
    """It names a point that a threshold reaches, and no smaller share reaches the target."""
    rates, weak, strong = np.asarray(rows, dtype=float).T
    share = cpt(0.5, rates, weak, strong)
    curve = full_curve(rates, weak, strong)
    reached = pgr(curve.qualities, weak.mean(), strong.mean()) >= 0.5 - 1e-9
    if np.isnan(share):
        assert not reached.any()
    else:
        assert share == pytest.approx(curve.strong_shares[reached].min())
