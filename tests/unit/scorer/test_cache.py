"""The same text is predicted once, however many ask and whoever of them leaves."""

import asyncio
from collections import Counter

import pytest
from prometheus_client import CollectorRegistry

from pointsman.errors import DeadlineExceeded, Overloaded
from services.scorer.cache import WinRateCache
from services.scorer.metrics import ScorerMetrics
from services.scorer.workers import Timed


class Oracle:
    """Predicts when it is told to, and counts."""

    def __init__(self, *errors: Exception) -> None:
        self.errors = list(errors)
        self.asked = 0
        self.cancelled = asyncio.Event()
        self.began = asyncio.Event()
        self.go_on = asyncio.Event()

    async def __call__(self) -> Timed[float]:
        """Returns a win rate, or raises the next of the errors."""
        self.asked += 1
        self.began.set()
        try:
            await self.go_on.wait()
        except asyncio.CancelledError:
            self.cancelled.set()
            raise
        if self.errors:
            raise self.errors.pop(0)
        return Timed(0.25, 1.0, 2.0)


@pytest.fixture
def metrics() -> ScorerMetrics:
    """Instruments of this test's own."""
    return ScorerMetrics(CollectorRegistry())


@pytest.fixture
def cache(metrics: ScorerMetrics) -> WinRateCache:
    """A cache of two."""
    return WinRateCache(2, metrics.cache_lookups)


def lookups(metrics: ScorerMetrics) -> Counter[str]:
    """Returns how often each outcome was counted."""
    (family,) = metrics.cache_lookups.collect()
    totals = [one for one in family.samples if one.name.endswith("_total")]
    return Counter({one.labels["outcome"]: int(one.value) for one in totals})


async def ready(cache: WinRateCache, text: str, revision: str = "r1", router: str = "mf") -> bool:
    """Asks with an oracle that answers at once; returns whether the win rate was kept."""
    oracle = Oracle()
    oracle.go_on.set()
    timed, cached = await cache.win_rate(router, revision, text, oracle)
    assert timed.value == 0.25
    assert cached is (oracle.asked == 0)
    return cached


async def test_what_was_predicted_is_kept(cache: WinRateCache, metrics: ScorerMetrics) -> None:
    """The second answer costs no inference, and says so by its times."""
    assert not await ready(cache, "Hello")
    timed, cached = await cache.win_rate("mf", "r1", "Hello", Oracle())
    assert (timed, cached) == (Timed(0.25, 0.0, 0.0), True)
    assert lookups(metrics) == {"predicted": 1, "kept": 1}


async def test_another_router_revision_or_text_is_another_win_rate(cache: WinRateCache) -> None:
    """A bundle that is replaced must not go on answering."""
    assert not await ready(cache, "Hello")
    assert not await ready(cache, "Hello", revision="r2")
    assert not await ready(cache, "Hello", router="bert")
    assert not await ready(cache, "hello")


async def test_the_one_asked_for_longest_ago_goes_first(cache: WinRateCache) -> None:
    """The cache is bounded, and a prompt that is asked again and again stays."""
    for text in ("a", "b"):
        await ready(cache, text)
    assert await ready(cache, "a")
    assert not await ready(cache, "c")
    assert await ready(cache, "a")
    assert not await ready(cache, "b")


async def test_half_an_emoji_has_a_win_rate_too(cache: WinRateCache) -> None:
    """Clients cut text anywhere."""
    assert not await ready(cache, "\ud83d")
    assert await ready(cache, "\ud83d")


async def test_who_asks_at_once_is_answered_by_one_prediction(
    cache: WinRateCache, metrics: ScorerMetrics
) -> None:
    """A burst of the same prompt costs one inference."""
    oracle = Oracle()
    asking = [asyncio.ensure_future(cache.win_rate("mf", "r", "x", oracle)) for _ in range(5)]
    await oracle.began.wait()
    oracle.go_on.set()
    assert {(await one)[0].value for one in asking} == {0.25}
    assert oracle.asked == 1
    assert lookups(metrics) == {"predicted": 1, "shared": 4}


async def test_who_leaves_takes_nobody_along(cache: WinRateCache) -> None:
    """The first to ask may hang up; the others still get their answer."""
    oracle = Oracle()
    first, second = (asyncio.ensure_future(cache.win_rate("mf", "r", "x", oracle)) for _ in "12")
    await oracle.began.wait()
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    oracle.go_on.set()
    assert (await second)[0].value == 0.25
    assert oracle.asked == 1
    assert not oracle.cancelled.is_set()


async def test_the_last_to_leave_ends_the_prediction(cache: WinRateCache) -> None:
    """Nothing is computed for the departed, and the next to ask begins anew."""
    oracle = Oracle()
    asking = [asyncio.ensure_future(cache.win_rate("mf", "r", "x", oracle)) for _ in range(2)]
    await oracle.began.wait()
    for one in asking:
        one.cancel()
    await asyncio.wait(asking)
    await oracle.cancelled.wait()
    assert not await ready(cache, "x", revision="r")


async def test_one_callers_deadline_is_not_anothers(cache: WinRateCache) -> None:
    """Who shared a prediction that failed for its first caller has one made for itself."""
    oracle = Oracle(DeadlineExceeded("too late for the first"))
    first, second = (asyncio.ensure_future(cache.win_rate("mf", "r", "x", oracle)) for _ in "12")
    await oracle.began.wait()
    oracle.go_on.set()
    with pytest.raises(DeadlineExceeded):
        await first
    assert (await second)[0].value == 0.25
    assert oracle.asked == 2


async def test_a_failure_is_not_kept(cache: WinRateCache) -> None:
    """A full queue is full now, not for ever."""
    oracle = Oracle(Overloaded("full"))
    oracle.go_on.set()
    with pytest.raises(Overloaded):
        await cache.win_rate("mf", "r1", "x", oracle)
    assert not await ready(cache, "x")


async def test_without_entries_nothing_is_kept(metrics: ScorerMetrics) -> None:
    """Who measures the encoder switches the cache off."""
    cache = WinRateCache(0, metrics.cache_lookups)
    assert not await ready(cache, "x")
    assert not await ready(cache, "x")
