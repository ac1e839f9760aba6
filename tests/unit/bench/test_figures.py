"""Percentiles and medians against values counted by hand."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.figures import Spread, percentile, spread


@pytest.mark.parametrize(("percent", "expected"), [(1, 1.0), (50, 50.0), (99, 99.0), (100, 100.0)])
def test_a_percentile_is_the_nearest_rank(percent: float, expected: float) -> None:
    """Of 1 to 100 the p-th percentile is p, whatever the order."""
    assert percentile([float(n) for n in range(100, 0, -1)], percent) == expected


def test_a_percentile_of_few_values_is_one_of_them() -> None:
    """No figure is made up between two measurements."""
    assert percentile([1.0, 9.0], 50) == 1.0
    assert percentile([1.0, 9.0], 51) == 9.0


def test_the_percentile_of_nothing_is_undefined() -> None:
    """A window without an answer has no latency."""
    assert math.isnan(percentile([], 50))


@given(
    st.lists(st.floats(allow_nan=False), min_size=1, max_size=50),
    st.floats(min_value=0.1, max_value=100),
)
def test_enough_values_do_not_exceed_a_percentile(values: list[float], percent: float) -> None:
    """The definition itself, for any values."""
    found = percentile(values, percent)
    assert found in values
    assert sum(value <= found for value in values) * 100 >= percent * len(values)


def test_a_spread_is_the_median_and_both_ends() -> None:
    """One slow round moves an end and not the median."""
    assert spread([3.0, 1.0, 90.0]) == Spread(median=3.0, low=1.0, high=90.0)


def test_the_spread_of_one_round_is_that_round() -> None:
    """`--rounds 1` is allowed."""
    assert spread([2.0]) == Spread(median=2.0, low=2.0, high=2.0)
