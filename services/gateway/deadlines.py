"""Time limits of the requests in flight, which draining brings forward."""

import asyncio
import math
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from pointsman.errors import DeadlineExceeded


class Deadlines:
    """Limits everything a request does, reading and writing too.

    Args:
        timeout_seconds: From a request's head to its answer's end.
    """

    def __init__(self, timeout_seconds: float) -> None:
        self._timeout_seconds = timeout_seconds
        self._latest = math.inf
        self._limits: set[asyncio.Timeout] = set()

    def of_new_request(self) -> float:
        """Returns when a request that begins now must be over, in the loop's time."""
        return asyncio.get_running_loop().time() + self._timeout_seconds

    @asynccontextmanager
    async def limit(self, deadline: float) -> AsyncIterator[None]:
        """Cancels what is inside at the deadline, or earlier if draining brings it forward.

        Raises:
            DeadlineExceeded: It was cancelled so.
        """
        try:
            async with asyncio.timeout_at(min(deadline, self._latest)) as limit:
                self._limits.add(limit)
                try:
                    yield
                finally:
                    self._limits.discard(limit)
        except TimeoutError as error:
            raise DeadlineExceeded("The request was not answered in time.") from error

    def bring_forward(self, seconds: float) -> None:
        """Lets no request, running or new, go on for longer than `seconds` from now."""
        self._latest = asyncio.get_running_loop().time() + seconds
        for limit in self._limits:
            when = limit.when()
            limit.reschedule(self._latest if when is None else min(when, self._latest))
