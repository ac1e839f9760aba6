"""Nobody is asked again together with all others, or without end."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pointsman.reliability import RetrySettings
from services.upstream.retries import Backoff, RetryBudget


@pytest.mark.parametrize(
    ("retries", "ceiling"), [(0, 0.25), (1, 0.5), (2, 1.0), (4, 4.0), (5, 4.0), (10_000, 4.0)]
)
def test_a_wait_is_drawn_from_a_range_that_doubles_up_to_a_ceiling(
    retries: int, ceiling: float
) -> None:
    """From 0, so that clients that failed together do not come back together."""
    drawn: list[tuple[float, float]] = []

    def uniform(low: float, high: float) -> float:
        drawn.append((low, high))
        return high / 2

    backoff = Backoff(RetrySettings(backoff_seconds=0.25, max_backoff_seconds=4.0), uniform)
    assert backoff.seconds(retries) == ceiling / 2
    assert drawn == [(0.0, ceiling)]


def taken(budget: RetryBudget, requests: int, retries_each: int) -> int:
    """Returns how many retries are allowed, if every request wants so many."""
    count = 0
    for _ in range(requests):
        budget.request()
        count += sum(budget.take() for _ in range(retries_each))
    return count


@given(
    st.floats(0, 1),
    st.integers(0, 20),
    st.integers(0, 500),
    st.integers(0, 5),
)
def test_an_outage_is_multiplied_by_no_more_than_the_share(
    share: float, reserve: int, requests: int, retries_each: int
) -> None:
    """A provider that is down for overload must not get three times its load."""
    retries = taken(RetryBudget(share, reserve), requests, retries_each)
    assert retries <= share * requests + reserve + 1e-6


def test_quiet_hours_are_not_saved_up() -> None:
    """A million good requests must not buy two hundred thousand retries at once."""
    budget = RetryBudget(0.2, 10)
    taken(budget, 1_000_000, 0)
    assert sum(budget.take() for _ in range(100)) == 11


def test_a_rare_request_has_its_retries() -> None:
    """A share of one request is nothing: that is what the reserve is for."""
    assert taken(RetryBudget(0.2, 10), 1, 2) == 2


def test_the_budget_comes_back_with_the_requests() -> None:
    """After an outage everything is as before."""
    budget = RetryBudget(0.5, 2)
    assert taken(budget, 10, 10) == 2 + 5
    assert taken(budget, 4, 0) == 0
    assert [budget.take() for _ in range(3)] == [True, True, False]
