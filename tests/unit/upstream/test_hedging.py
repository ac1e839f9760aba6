"""A race of two calls: whoever answers first is taken, and nothing of the other is left."""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any

import pytest

from pointsman.reliability import HedgeSettings
from services.upstream.hedging import Hedging

GOOD, BAD = "good", "bad"


class Runner:
    """A call that ends when the test says so."""

    def __init__(self) -> None:
        self.begun = 0
        self.cancelled = False
        self.may_end = asyncio.Event()
        self.outcome = ""

    async def __call__(self) -> str:
        """Makes the call."""
        self.begun += 1
        try:
            await self.may_end.wait()
        except asyncio.CancelledError:
            self.cancelled = True
            raise
        if self.outcome == "fault":
            raise RuntimeError("a fault of ours")
        return self.outcome

    def end(self, outcome: str) -> None:
        """Ends the call."""
        self.outcome = outcome
        self.may_end.set()


class Race:
    """Two calls, a timer that the test sets off, and what was heard of losers."""

    def __init__(self, share: float = 1.0) -> None:
        self.first, self.second = Runner(), Runner()
        self.lost: list[str | None] = []
        self.is_late = asyncio.Event()
        self.waits: list[float] = []
        self.told = asyncio.Event()
        self.told.set()
        self.hedging: Hedging[str] = Hedging(
            HedgeSettings(share=share), self._sleep, is_good=lambda outcome: outcome == GOOD
        )

    async def _sleep(self, seconds: float) -> None:
        self.waits.append(seconds)
        await self.is_late.wait()

    async def _lost(self, outcome: str | None) -> None:
        self.lost.append(outcome)
        await self.told.wait()

    def start(self, after_seconds: float | None = 2.0) -> asyncio.Task[str]:
        """Begins the race."""
        race: Coroutine[Any, Any, str] = self.hedging.race(
            self.first, self.second, after_seconds, self._lost
        )
        return asyncio.create_task(race)

    async def both_under_way(self) -> asyncio.Task[str]:
        """Returns the race once the second has begun."""
        task = self.start()
        self.is_late.set()
        await until(lambda: self.second.begun > 0)
        return task


async def until(holds: Callable[[], object]) -> None:
    """Lets every task go on until this holds."""
    for _ in range(100):
        if holds():
            return
        await asyncio.sleep(0)
    raise AssertionError("it never holds")


@pytest.fixture(autouse=True)
async def no_task_left() -> AsyncIterator[None]:
    """A task that outlives its race holds a connection that is paid for."""
    before = asyncio.all_tasks()
    yield
    for _ in range(3):  # a timer that was cancelled ends in the loop's next turn
        await asyncio.sleep(0)
    assert asyncio.all_tasks() - before == {asyncio.current_task()}


async def test_a_first_that_is_fast_enough_runs_alone() -> None:
    """Most requests cost what they cost without hedging."""
    race = Race()
    task = race.start()
    await until(lambda: race.waits)
    race.first.end(GOOD)
    assert await task == GOOD
    assert (race.waits, race.second.begun, race.lost) == ([2.0], 0, [])


async def test_without_knowing_what_is_slow_nothing_is_timed() -> None:
    """A guess would double the traffic of a model that is always slow."""
    race = Race()
    race.first.end(BAD)
    assert await race.start(None) == BAD
    assert (race.waits, race.second.begun) == ([], 0)


@pytest.mark.parametrize("winner", ["first", "second"])
async def test_whoever_is_good_first_is_taken_and_the_other_cut(winner: str) -> None:
    """The loser's provider must stop writing, and its call is known to be paid for."""
    race = Race()
    task = await race.both_under_way()
    runners = {"first": race.first, "second": race.second}
    runners.pop(winner).end(GOOD)
    (other,) = runners.values()
    assert await task == GOOD
    assert (other.cancelled, race.lost) == (True, [None])


@pytest.mark.parametrize("order", [("first", "second"), ("second", "first")])
async def test_a_failure_does_not_win_while_the_other_runs(order: tuple[str, str]) -> None:
    """A provider that fails fast must not beat one that is about to answer."""
    race = Race()
    task = await race.both_under_way()
    runners = {"first": race.first, "second": race.second}
    runners[order[0]].end(BAD)
    for _ in range(5):
        await asyncio.sleep(0)
    assert not task.done()
    runners[order[1]].end(GOOD)
    assert await task == GOOD
    assert race.lost == [BAD]


@pytest.mark.parametrize("outcomes", [(BAD, GOOD), (GOOD, BAD)])
async def test_of_two_that_end_together_the_good_one_wins(outcomes: tuple[str, str]) -> None:
    """An answer that is there and paid for must not be thrown away for a failure."""
    for _ in range(20):  # a set of tasks has no order of its own
        race = Race()
        task = await race.both_under_way()
        race.first.end(outcomes[0])
        race.second.end(outcomes[1])
        assert await task == GOOD


async def test_two_failures_are_one_failure() -> None:
    """The race ends when there is nobody left to wait for."""
    race = Race()
    task = await race.both_under_way()
    race.first.end(BAD)
    race.second.end(BAD)
    assert await task == BAD
    assert race.lost == [BAD]


async def test_who_hangs_up_ends_both() -> None:
    """Two calls that nobody waits for are twice as dear as one."""
    race = Race()
    task = await race.both_under_way()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert (race.first.cancelled, race.second.cancelled) == (True, True)
    assert race.lost == [None, None]


async def test_who_hangs_up_before_the_second_begins_ends_the_first() -> None:
    """The timer must not begin a call that nobody wants."""
    race = Race()
    task = race.start()
    await until(lambda: race.waits and race.first.begun)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert (race.first.cancelled, race.second.begun) == (True, 0)


async def test_who_hangs_up_while_the_loser_is_sent_away_loses_no_answer() -> None:
    """The winner's stream is open by then, and somebody has to close it."""
    race = Race()
    race.told.clear()
    task = await race.both_under_way()
    race.second.end(GOOD)
    await until(lambda: race.lost)
    task.cancel()
    race.told.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert GOOD in race.lost


async def test_a_fault_of_ours_ends_both() -> None:
    """It is raised where it can be logged, and leaves no call behind."""
    race = Race()
    task = await race.both_under_way()
    race.first.end("fault")
    with pytest.raises(RuntimeError, match="a fault of ours"):
        await task
    assert race.second.cancelled


@pytest.mark.parametrize(("share", "requests", "at_most"), [(0.1, 100, 10), (0.5, 9, 4)])
async def test_no_more_than_the_share_is_asked_for_twice(
    share: float, requests: int, at_most: int
) -> None:
    """When everything is slow, hedging must not double the load of those who are slow from it."""
    race = Race(share)
    race.is_late.set()
    for _ in range(requests):
        race.first, race.second = Runner(), Runner()
        task = race.start()
        for _ in range(10):
            await asyncio.sleep(0)
        race.first.end(GOOD)
        assert await task == GOOD
    assert at_most - 1 <= len(race.lost) <= at_most


def test_a_share_of_nothing_turns_it_off() -> None:
    """Both calls are paid for: nobody is to find that on a bill."""
    assert not Race(0.0).hedging.is_on
    assert Race(0.1).hedging.is_on
