"""A race of two: when the first is slow, a second is asked, and whoever answers first is taken.

After J. Dean and L. Barroso, The Tail at Scale (2013). It is paid for twice, so a share limits it.
"""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from typing import Any, Generic, TypeVar

from pointsman.reliability import HedgeSettings
from services.upstream.retries import RetryBudget

T = TypeVar("T")
Runner = Callable[[], Coroutine[Any, Any, T]]


class Hedging(Generic[T]):
    """Races calls for one model.

    Args:
        settings: How many, and from when on.
        sleep: Waits.
        is_good: Whether what a call came to ends the race; if not, the other may still win.
    """

    def __init__(
        self,
        settings: HedgeSettings,
        sleep: Callable[[float], Awaitable[None]],
        is_good: Callable[[T], bool],
    ) -> None:
        self.is_on = settings.share > 0
        self.min_calls = settings.min_calls
        self._budget = RetryBudget(settings.share, reserve=0)
        self._sleep = sleep
        self._is_good = is_good

    async def race(
        self,
        first: Runner[T],
        second: Runner[T],
        after_seconds: float | None,
        lost: Callable[[T | None], Awaitable[None]],
    ) -> T:
        """Returns what the winner came to.

        Args:
            first: Makes the call.
            second: Makes another, if the first takes longer than that:
            after_seconds: None if nobody knows how long is long.
            lost: Told what the loser came to, None if it was cut short.
        """
        self._budget.request()
        if after_seconds is None:
            return await first()
        running = [asyncio.create_task(first())]
        try:
            if await self._is_slow(running[0], after_seconds) and self._budget.take():
                running.append(asyncio.create_task(second()))
            winner = await self._winner(running)
            await _end([task for task in running if task is not winner], lost)
        except BaseException:
            await _end(running, lost)  # the winner too, if there is one: nobody will take it
            raise
        return winner.result()

    async def _is_slow(self, task: asyncio.Task[T], after_seconds: float) -> bool:
        timer = asyncio.ensure_future(self._sleep(after_seconds))
        try:
            await asyncio.wait({task, timer}, return_when=asyncio.FIRST_COMPLETED)
            return not task.done()
        finally:
            timer.cancel()

    async def _winner(self, running: list[asyncio.Task[T]]) -> asyncio.Task[T]:
        waiting = set(running)
        while True:
            done, waiting = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
            good = [task for task in done if self._is_good(task.result())]
            if good or not waiting:
                return (good or list(done))[0]


async def _end(
    running: Sequence[asyncio.Task[T]], lost: Callable[[T | None], Awaitable[None]]
) -> None:
    for task in running:
        task.cancel()
    for outcome in await asyncio.gather(*running, return_exceptions=True):
        await lost(None if isinstance(outcome, BaseException) else outcome)
