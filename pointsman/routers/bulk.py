"""Whole data sets through a router: on all cores, in order, and little of them in memory."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor

from pointsman.routers.base import EmbeddingRouter, Router

_AHEAD = 64
"""Prompts in the queue for each thread: enough that none idles while a slow consumer catches up."""
_WAITING = 16
"""Threads for a router whose prompts an endpoint embeds: they wait for it and need no core, and so
many requests at a time are still a guest's."""


def cores() -> int:
    """Returns how many cores this process may use, where the system tells."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def win_rates(
    router: Router, prompts: Iterable[str], *, threads: int | None = None
) -> Iterator[float]:
    """Yields the strong win rate of each prompt, in order, as serving it would.

    Prompts are taken as they are needed, so an endless stream of them is fine.

    Args:
        router: scores one prompt a call, as it does when serving.
        prompts: any number of texts.
        threads: by default `threads_for` the router.

    Raises:
        ValueError: the router returned something that is not a rate in [0, 1].
    """
    threads = threads or threads_for(router)
    waiting: deque[Future[float]] = deque()
    with ThreadPoolExecutor(threads) as pool:
        try:
            for prompt in prompts:
                waiting.append(pool.submit(win_rate, router, prompt))
                if len(waiting) >= threads * _AHEAD:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:  # an error, Ctrl-C, or a consumer that has enough: drop what nobody waits for
            pool.shutdown(wait=False, cancel_futures=True)


def threads_for(router: Router) -> int:
    """Returns how many prompts are best scored at a time: one a core, more where threads wait."""
    if isinstance(router, EmbeddingRouter) and router.embeds_elsewhere:
        return _WAITING
    return cores()


def win_rate(router: Router, prompt: str) -> float:
    """Returns the strong win rate of one prompt.

    Raises:
        ValueError: the router returned something that is not a rate in [0, 1].
    """
    rate = float(router.strong_win_rates([prompt])[0])
    if not 0.0 <= rate <= 1.0:  # another team's router; NaN fails here too
        raise ValueError(f"the router returned {rate}, not a rate in [0, 1]")
    return rate
