"""Win rates that were predicted before, or are being predicted now, for the same text.

A router gives the same text the same win rate as long as its revision stays the same, so nothing
here ever grows old. Texts are kept as hashes: prompts stay nowhere.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Coroutine
from hashlib import sha256
from typing import Any, Literal

from prometheus_client import Counter

from pointsman.errors import PointsmanError
from services.scorer.workers import Timed

Predict = Callable[[], Coroutine[Any, Any, Timed[float]]]


class _Prediction:
    """A win rate that at least one caller waits for."""

    def __init__(self, task: asyncio.Task[Timed[float]]) -> None:
        self.task = task
        self.callers = 0


class WinRateCache:
    """The win rates asked for last, and those that are under way.

    Args:
        entries: How many are kept; 0 keeps none, and still predicts for all who ask at once once.
        lookups: Counts by outcome: kept, shared (under way already), predicted.
    """

    def __init__(self, entries: int, lookups: Counter) -> None:
        self._entries = entries
        self._lookups = lookups
        self._kept: OrderedDict[bytes, float] = OrderedDict()
        self._under_way: dict[bytes, _Prediction] = {}

    async def win_rate(
        self, router: str, revision: str, text: str, predict: Predict
    ) -> tuple[Timed[float], bool]:
        """Returns a text's win rate, and whether it was there already.

        Args:
            router: The router's name.
            revision: Its revision, which tells win rates apart.
            text: Any text.
            predict: Predicts it; is cancelled when nobody waits for it any more.

        Raises:
            PointsmanError: What `predict` raises, for this caller.
        """
        key = sha256(f"{router}\0{revision}\0{text}".encode("utf-8", "surrogatepass")).digest()
        if (kept := self._kept.get(key)) is not None:
            self._kept.move_to_end(key)
            self._count("kept")
            return Timed(kept, 0.0, 0.0), True
        prediction = self._under_way.get(key)
        if prediction is None:
            self._count("predicted")
            return await self._waited(key, self._begin(key, predict)), False
        self._count("shared")
        try:
            return await self._waited(key, prediction), False
        except PointsmanError:  # the other's deadline, not this caller's
            return await predict(), False

    def _begin(self, key: bytes, predict: Predict) -> _Prediction:
        prediction = _Prediction(asyncio.create_task(predict()))
        self._under_way[key] = prediction
        return prediction

    async def _waited(self, key: bytes, prediction: _Prediction) -> Timed[float]:
        prediction.callers += 1
        try:
            timed = await asyncio.shield(prediction.task)
            self._keep(key, timed.value)
            return timed
        finally:
            prediction.callers -= 1
            if not prediction.callers:
                self._end(key, prediction)

    def _end(self, key: bytes, prediction: _Prediction) -> None:
        """Forgets a prediction that nobody waits for; one that is not done is not needed."""
        if self._under_way.get(key) is prediction:
            del self._under_way[key]
        prediction.task.cancel()

    def _keep(self, key: bytes, value: float) -> None:
        self._kept[key] = value
        if len(self._kept) > self._entries:
            self._kept.popitem(last=False)

    def _count(self, outcome: Literal["kept", "shared", "predicted"]) -> None:
        self._lookups.labels(outcome).inc()
