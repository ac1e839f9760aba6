"""The bounded queue: refuses at once, drops who has left, tells where the seconds went."""

import asyncio
import itertools
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest
from prometheus_client import CollectorRegistry

from pointsman.errors import Overloaded
from services.scorer.metrics import ScorerMetrics
from services.scorer.workers import InferencePool


class Gate:
    """A job that says when a thread has begun it, and ends when it is let through."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self.begun = asyncio.Event()
        self._open = threading.Event()

    def __call__(self) -> str:
        """Runs on a worker thread."""
        self._loop.call_soon_threadsafe(self.begun.set)
        self._open.wait()
        return "through"

    def open(self) -> None:
        """Lets the thread through."""
        self._open.set()


@pytest.fixture
def pool_of(metrics: ScorerMetrics) -> Iterator[Callable[..., InferencePool]]:
    """Opens pools that are closed at the end."""
    with ExitStack() as stack:

        def make(
            workers: int, queue_limit: int, clock: Callable[[], float] = time.perf_counter
        ) -> InferencePool:
            return stack.enter_context(InferencePool(workers, queue_limit, metrics, clock))

        yield make


@pytest.fixture
def gate(pool_of: Callable[..., InferencePool]) -> Iterator[Callable[[], Gate]]:
    """Makes gates, all of them opened before the pools are closed: no thread is left waiting."""
    with ExitStack() as stack:

        def make() -> Gate:
            made = Gate()
            stack.callback(made.open)
            return made

        yield make


def depth(registry: CollectorRegistry) -> float | None:
    """Returns the queue's depth as Prometheus sees it."""
    return registry.get_sample_value("pointsman_scorer_queue_depth")


async def started(pool: InferencePool, job: Callable[[], str]) -> asyncio.Task[object]:
    """Hands a job to the pool; returns once it is in the queue."""
    task: asyncio.Task[object] = asyncio.ensure_future(pool.run(job))
    await asyncio.sleep(0)  # one turn of the loop: the task has submitted
    return task


async def test_a_job_runs_on_a_worker_thread(pool_of: Callable[..., InferencePool]) -> None:
    """The event loop goes on answering health checks while a model computes."""
    pool = pool_of(1, 0)
    timed = await pool.run(threading.current_thread)
    assert timed.value is not threading.current_thread()
    assert timed.value.name.startswith("infer")


async def test_waiting_and_computing_are_timed_apart(
    pool_of: Callable[..., InferencePool], registry: CollectorRegistry
) -> None:
    """A slow model and a long queue need different remedies."""
    ticks = iter([10.0, 13.0, 18.0])  # queued, begun, done
    pool = pool_of(1, 0, ticks.__next__)
    timed = await pool.run(lambda: "done")
    assert (timed.value, timed.queue_seconds, timed.inference_seconds) == ("done", 3.0, 5.0)
    for stage, seconds in (("queue", 3.0), ("infer", 5.0)):
        name, labels = "pointsman_scorer_stage_seconds_sum", {"stage": stage}
        assert registry.get_sample_value(name, labels) == seconds


async def test_as_many_jobs_run_at_once_as_there_are_workers(
    pool_of: Callable[..., InferencePool], gate: Callable[[], Gate]
) -> None:
    """Every core computes."""
    pool = pool_of(3, 0)
    jobs = [gate() for _ in range(3)]
    tasks = [await started(pool, job) for job in jobs]
    for job in jobs:
        await job.begun.wait()
    for job in jobs:
        job.open()
    await asyncio.gather(*tasks)


@pytest.mark.parametrize(("workers", "queue_limit"), [(1, 0), (1, 2), (2, 3)])
async def test_a_full_queue_refuses_at_once(
    pool_of: Callable[..., InferencePool],
    registry: CollectorRegistry,
    gate: Callable[[], Gate],
    workers: int,
    queue_limit: int,
) -> None:
    """Waiting behind a queue that is too long only makes a time-out of it."""
    pool = pool_of(workers, queue_limit)
    jobs = [gate() for _ in range(workers + queue_limit)]
    tasks = [await started(pool, job) for job in jobs]
    assert depth(registry) == queue_limit
    with pytest.raises(Overloaded, match=str(queue_limit)):
        await pool.run(lambda: "one too many")
    for job in jobs:
        job.open()
    await asyncio.gather(*tasks)
    assert (await pool.run(lambda: "welcome again")).value == "welcome again"
    assert depth(registry) == 0


async def test_a_caller_that_leaves_the_queue_is_dropped_before_computing(
    pool_of: Callable[..., InferencePool], registry: CollectorRegistry, gate: Callable[[], Gate]
) -> None:
    """Its answer would be read by nobody; its place is free again."""
    computed = []
    pool = pool_of(1, 1)
    running = gate()
    first = await started(pool, running)
    await running.begun.wait()
    waiting = await started(pool, lambda: computed.append(True) or "never")
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert depth(registry) == 0
    next_one = await started(pool, lambda: "next")
    running.open()
    await asyncio.gather(first, next_one)
    assert computed == []
    assert registry.get_sample_value("pointsman_scorer_dropped_total") == 1


async def test_a_caller_that_leaves_while_computing_is_not_counted_as_dropped(
    pool_of: Callable[..., InferencePool], registry: CollectorRegistry, gate: Callable[[], Gate]
) -> None:
    """The work was done; its place is taken until the thread is free."""
    pool = pool_of(1, 0)
    running = gate()
    task = await started(pool, running)
    await running.begun.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    with pytest.raises(Overloaded):
        await pool.run(lambda: "too early")
    running.open()
    assert registry.get_sample_value("pointsman_scorer_dropped_total") == 0


async def test_a_job_that_fails_fails_its_caller_alone(
    pool_of: Callable[..., InferencePool],
) -> None:
    """A bug in a router must cost neither a thread nor a place."""
    pool = pool_of(1, 0)
    for _ in range(3):
        with pytest.raises(ZeroDivisionError):
            await pool.run(lambda: 1 // 0)
    assert (await pool.run(lambda: "fine")).value == "fine"


async def test_closing_drops_who_waits_and_waits_for_who_computes(
    pool_of: Callable[..., InferencePool], gate: Callable[[], Gate]
) -> None:
    """A process that ends leaves no thread behind."""
    counter = itertools.count()
    pool = pool_of(1, 5)
    running = gate()
    first = await started(pool, running)
    await running.begun.wait()
    waiting = [await started(pool, lambda: str(next(counter))) for _ in range(3)]
    running.open()
    await asyncio.to_thread(pool.__exit__, None, None, None)
    assert not any(thread.name.startswith("infer") for thread in threading.enumerate())
    results = await asyncio.gather(first, *waiting, return_exceptions=True)
    assert not isinstance(results[0], BaseException)
    assert next(counter) == sum(not isinstance(one, BaseException) for one in results[1:])
