"""One call to one provider: bytes there, bytes back, over one pooled session.

What became of it comes back as a `Reply`, failures too; an exception here is a fault of ours. Every
wait has a limit: connecting, the first token, the pause between two pieces, the whole.
"""

import asyncio
import logging
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager

import aiohttp

from pointsman.errors import (
    ProviderError,
    ProviderNonsense,
    ProviderTimeout,
    ProviderUnavailable,
)
from pointsman.models_file import ProviderSettings
from services.upstream import provider_errors
from services.upstream.call import AnswerStream, Call, Reply
from services.upstream.models import Endpoint
from services.upstream.reading import late, let_it_end, limit, name, pieces
from services.upstream.sse import DONE, AnswerReader, read_whole

logger = logging.getLogger(__name__)

_MOST_HELD_BYTES = 1024 * 1024
"""What comes before the first token is held back, so that another provider may still answer: but
not more than this."""


class ProviderClient:
    """Calls providers through one session.

    Args:
        session: Its timeouts are overruled by each endpoint's; `auto_decompress` is on.
        answer_limit_bytes: The largest whole answer.
        clock: Monotonic seconds, for what is reported; limits are the event loop's.
    """

    def __init__(
        self,
        session: aiohttp.ClientSession,
        answer_limit_bytes: int,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self._session = session
        self._limit = answer_limit_bytes
        self._clock = clock

    async def complete(self, endpoint: Endpoint, body: bytes) -> Reply:
        """Returns the provider's whole answer, or why there is none."""
        call = Call(endpoint, self._clock)
        try:
            async with (
                limit("total", endpoint, endpoint.settings.total_timeout_seconds),
                self._post(endpoint, body) as response,
            ):
                call.headers_came(response)
                data = await self._read(response)
                if not response.ok:
                    return call.refused(data)
                _expect(response)
                call.read = read_whole(data)
                if call.read.is_error:
                    return call.reported_an_error(data)
                return call.answered(data)
        except ProviderError as error:
            return call.failed(error)

    async def stream(
        self,
        endpoint: Endpoint,
        body: bytes,
        *,
        hide_usage: bool,
        choices: int = 1,
        hold_back: bool = False,
    ) -> Reply:
        """Returns a streamed answer once its first token is in hand, or why there is none.

        Args:
            endpoint: Whom to ask.
            body: What to ask.
            hide_usage: True if the client did not ask for the usage chunk that we asked for.
            choices: How many answers were asked for.
            hold_back: True to wait for the whole answer, so that one which breaks off is a failure
                like any other.
        """
        call = Call(endpoint, self._clock, repeatable=hold_back)
        call.read = reader = AnswerReader(hide_usage=hide_usage, choices=choices)
        budget, seconds = _until_first_token(endpoint.settings)
        try:
            async with limit(budget, endpoint, seconds) as until:
                frames = self._frames(call, reader, body, until, hold_back)
                first = await anext(frames)
        except _Refused as refused:
            return call.refused(refused.body)
        except ProviderError as error:
            if reader.reported is not None:
                return call.reported_an_error(reader.reported)
            return call.failed(error)
        return call.began(AnswerStream(call, first, frames))

    async def _frames(
        self,
        call: Call,
        reader: AnswerReader,
        body: bytes,
        first_token: asyncio.Timeout,
        hold_back: bool,
    ) -> AsyncGenerator[bytes, None]:
        """Yields what the client gets: first all up to the first token, then as it comes."""
        endpoint = call.endpoint
        total_by = asyncio.get_running_loop().time() + endpoint.settings.total_timeout_seconds
        held = bytearray()
        async with self._post(endpoint, body) as response:
            call.headers_came(response)
            if not response.ok:
                raise _Refused(await self._read(response))
            _expect(response, "text/event-stream")
            async for data in pieces(response, endpoint, reader, total_by):
                held += reader.feed(data)
                if reader.begun and not call.first_token_seconds:
                    call.first_token_came()
                    if not call.is_shown:
                        first_token.reschedule(None)
                if held and (call.is_shown or self._may_show(reader, len(held), hold_back)):
                    call.is_shown = True
                    yield bytes(held)
                    held.clear()
                if reader.failure is not None:
                    raise reader.failure
                if reader.done:
                    await let_it_end(response)
                    return
            if not reader.finished:
                raise ProviderUnavailable("The model's provider ended the answer too early.")
            reader.done = True
            yield bytes(held) + DONE

    def _may_show(self, reader: AnswerReader, held_bytes: int, hold_back: bool) -> bool:
        """Returns whether the client may see what is held: from then on nobody else can answer."""
        if hold_back:
            if held_bytes > self._limit:
                raise ProviderNonsense(f"The model's answer is over {self._limit} bytes.")
            return reader.done
        return (reader.begun and reader.failure is None) or held_bytes > _MOST_HELD_BYTES

    @asynccontextmanager
    async def _post(self, endpoint: Endpoint, body: bytes) -> AsyncIterator[aiohttp.ClientResponse]:
        with _as_provider_errors(endpoint):
            try:
                response = await self._posted(endpoint, body)
            except (aiohttp.ClientConnectionResetError, aiohttp.ClientOSError) as error:
                if not _was_not_written(error):
                    raise
                response = await self._posted(endpoint, body)
            async with response:
                yield response

    async def _posted(self, endpoint: Endpoint, body: bytes) -> aiohttp.ClientResponse:
        settings = endpoint.settings
        headers = {
            "content-type": "application/json",
            "accept-encoding": "identity",  # a compressing provider would hold chunks back
            **settings.headers,
            **await endpoint.authenticate(),
        }
        return await self._session.post(
            endpoint.url,
            data=body,
            headers=headers,
            timeout=aiohttp.ClientTimeout(
                total=None, sock_connect=settings.connect_timeout_seconds
            ),
            proxy=endpoint.proxy,
            allow_redirects=False,
        )

    async def _read(self, response: aiohttp.ClientResponse) -> bytes:
        parts = bytearray()
        async for part in response.content.iter_any():
            parts += part
            if len(parts) > self._limit:
                raise ProviderNonsense(f"The model's answer is over {self._limit} bytes.")
        return bytes(parts)


class _Refused(Exception):
    """A stream was answered with a status of 400 or more."""

    def __init__(self, body: bytes) -> None:
        self.body = body


def _until_first_token(settings: ProviderSettings) -> tuple[str, float]:
    """Returns the limit that passes first until a stream has begun, and its seconds."""
    if settings.total_timeout_seconds < settings.first_token_timeout_seconds:
        return "total", settings.total_timeout_seconds
    return "first_token", settings.first_token_timeout_seconds


def _was_not_written(error: Exception) -> bool:
    """Returns whether a kept connection was gone before the request was written to it.

    Then nobody has read it, and that says nothing of the provider.
    """
    gone = aiohttp.ClientConnectionResetError
    return isinstance(error, gone) or isinstance(error.__cause__, gone)


@contextmanager
def _as_provider_errors(endpoint: Endpoint) -> Iterator[None]:
    try:
        yield
    except TimeoutError as error:  # aiohttp's time-outs are ClientErrors too: this comes first
        raise ProviderTimeout(late(endpoint), budget="connect") from error
    except (aiohttp.ClientError, OSError, UnicodeError) as error:  # the last: a host that is none
        # Not repr, which has the request's headers; and what a provider says may quote the key.
        said = provider_errors.without_key(f"{type(error).__name__}: {error}".encode(), endpoint)
        logger.warning(
            "provider failed", extra={"provider": endpoint.provider, "error": said.decode()}
        )
        raise ProviderUnavailable(f"{name(endpoint)} could not be reached, or hung up.") from error


def _expect(response: aiohttp.ClientResponse, content_type: str | None = None) -> None:
    """Raises ProviderNonsense for a redirect (nobody should follow one with a key) and the like."""
    if response.status >= 300 or content_type not in {None, response.content_type}:
        raise ProviderNonsense(
            f"The model's provider answered {response.status} with {response.content_type}"
            + (f" where {content_type} was asked for." if content_type else ".")
        )
