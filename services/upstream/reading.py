"""Reading what a provider sends, with a limit on every wait and an end to every answer."""

import asyncio
import math
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import aiohttp

from pointsman.errors import ProviderTimeout
from services.upstream.models import Endpoint
from services.upstream.sse import AnswerReader

_LINGER_SECONDS = 0.1
"""After `[DONE]` a provider has so long to end the body; then its connection is not kept."""
_LAST_WORDS_SECONDS = 1.0
"""A provider has so long for usage and `[DONE]` behind the last finish reason."""


@asynccontextmanager
async def limit(budget: str, endpoint: Endpoint, seconds: float) -> AsyncIterator[asyncio.Timeout]:
    """Raises ProviderTimeout if what is inside takes longer."""
    try:
        async with asyncio.timeout(seconds) as limit:
            yield limit
    except TimeoutError as error:
        raise ProviderTimeout(late(endpoint), budget=budget) from error


async def pieces(
    response: aiohttp.ClientResponse, endpoint: Endpoint, reader: AnswerReader, total_by: float
) -> AsyncIterator[bytes]:
    """Yields the body as it comes, all within the total limit, and each piece within the idle one.

    The latter counts once the answer has begun: before that there is the first token's.

    Once every choice has its finish reason, only usage and `[DONE]` may follow: they are waited for
    a moment, and however the body ends then, it has ended.
    """
    clock = asyncio.get_running_loop().time
    while True:
        left = total_by - clock()
        idle_seconds = endpoint.settings.idle_timeout_seconds if reader.begun else math.inf
        if reader.is_all:
            idle_seconds = min(idle_seconds, _LAST_WORDS_SECONDS)
        budget, seconds = ("idle", idle_seconds) if idle_seconds < left else ("total", left)
        try:
            async with limit(budget, endpoint, seconds):
                data = await response.content.readany()
        except ProviderTimeout:
            if reader.is_all:
                response.close()
                return
            raise
        except aiohttp.ClientError:
            if unread := _unread(response.content):
                yield unread
            if reader.is_all:
                return
            raise
        if not data:
            return
        yield data


async def let_it_end(response: aiohttp.ClientResponse) -> None:
    """Reads the end of a body behind `[DONE]`, if it comes soon: its connection can be kept."""
    try:
        async with asyncio.timeout(_LINGER_SECONDS):
            async for _ in response.content.iter_any():
                pass
    except (TimeoutError, aiohttp.ClientError):
        response.close()


def _unread(content: aiohttp.StreamReader) -> bytes:
    """Returns what had come before the connection broke.

    Aiohttp has it and gives only the error: an answer that was whole would be lost when a provider
    hangs up right behind it. There is no public way; where this one ends, that is all that is lost.
    """
    return b"".join(getattr(content, "_buffer", ()))


def late(endpoint: Endpoint) -> str:
    """Returns what is said of a limit that passed."""
    return f"{name(endpoint)} did not answer in time."


def name(endpoint: Endpoint) -> str:
    """Returns what an endpoint is called in messages."""
    return f"The provider {endpoint.provider} of model {endpoint.model}"
