"""Inference off the event loop: a bounded queue in front of N threads.

One prompt at a time per thread beats batching on a CPU, and with one intra-op thread each the
workers do not fight over cores. A full queue refuses at once; a caller that has left is dropped
before anything is computed for it.
"""

import asyncio
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from types import TracebackType
from typing import Generic, Self, TypeVar

from pointsman.errors import Overloaded
from services.scorer.metrics import ScorerMetrics

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Timed(Generic[T]):
    """A result, the seconds it waited for a thread and the seconds a thread spent on it."""

    value: T
    queue_seconds: float
    inference_seconds: float


class InferencePool:
    """N worker threads behind a queue of at most `queue_limit` waiting jobs.

    Args:
        workers: Threads, at least 1.
        queue_limit: Jobs that may wait, at least 0.
        metrics: Where depth, stages and drops are counted.
        clock: Monotonic seconds.
    """

    def __init__(
        self,
        workers: int,
        queue_limit: int,
        metrics: ScorerMetrics,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self.workers = workers
        self._queue_limit = queue_limit
        self._metrics = metrics
        self._clock = clock
        self._executor = ThreadPoolExecutor(workers, thread_name_prefix="infer")
        self._pending = 0
        metrics.queue_limit.set(queue_limit)
        metrics.queue_depth.set_function(lambda: max(0, self._pending - workers))

    def __enter__(self) -> Self:
        """Returns the pool."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Drops what waits and joins the threads."""
        self._executor.shutdown(cancel_futures=True)

    async def run(self, infer: Callable[[], T]) -> Timed[T]:
        """Returns what `infer` returns, computed on a worker thread.

        Raises:
            Overloaded: The queue is full.
        """
        if self._pending >= self.workers + self._queue_limit:
            raise Overloaded(
                f"the queue is full: {self._queue_limit} prompts wait for {self.workers} workers"
            )
        queued_at = self._clock()

        def job() -> Timed[T]:
            started_at = self._clock()
            value = infer()
            return Timed(value, started_at - queued_at, self._clock() - started_at)

        # Not run_in_executor: cancelling must tell whether the job had been started.
        future = self._executor.submit(job)
        self._pending += 1
        loop = asyncio.get_running_loop()
        future.add_done_callback(lambda _: loop.call_soon_threadsafe(self._leave))
        try:
            timed = await asyncio.wrap_future(future)
        except asyncio.CancelledError:
            if future.cancelled():
                self._metrics.dropped.inc()
            raise
        self._metrics.stage_seconds.labels("queue").observe(timed.queue_seconds)
        self._metrics.stage_seconds.labels("infer").observe(timed.inference_seconds)
        return timed

    def _leave(self) -> None:
        self._pending -= 1
