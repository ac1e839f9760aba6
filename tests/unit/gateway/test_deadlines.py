"""Time limits of requests, and how draining brings them forward."""

import asyncio

import pytest

from pointsman.errors import DeadlineExceeded
from services.gateway.deadlines import Deadlines


async def test_what_takes_too_long_is_cancelled() -> None:
    """A request's limit ends whatever it waits for."""
    deadlines = Deadlines(0.01)
    with pytest.raises(DeadlineExceeded):
        async with deadlines.limit(deadlines.of_new_request()):
            await asyncio.Event().wait()


async def test_draining_ends_what_runs_and_what_comes() -> None:
    """A grace that is shorter than the limit counts, for requests that begin during it too."""
    deadlines = Deadlines(3600.0)

    async def wait() -> None:
        async with deadlines.limit(deadlines.of_new_request()):
            await asyncio.Event().wait()

    running = asyncio.ensure_future(wait())
    await asyncio.sleep(0)
    deadlines.bring_forward(0.01)
    for request in (running, wait()):
        with pytest.raises(DeadlineExceeded):
            await request


async def test_draining_gives_no_more_time_than_there_was() -> None:
    """An hour of grace does not prolong a request that has a hundredth of a second."""
    deadlines = Deadlines(0.01)
    with pytest.raises(DeadlineExceeded):
        async with deadlines.limit(deadlines.of_new_request()):
            deadlines.bring_forward(3600.0)
            await asyncio.Event().wait()
