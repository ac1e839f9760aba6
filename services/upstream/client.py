"""One call to one provider: bytes there, bytes back, over one pooled session.

What a client may be told comes back as an `Answer` or as messages of a stream, failures too; an
exception here is a fault of ours. Retries and failover, when they come, wrap these two methods.
"""

import asyncio
import logging
import time
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, aclosing, contextmanager
from dataclasses import dataclass, field

import aiohttp

from pointsman.errors import (
    ProviderError,
    ProviderNonsense,
    ProviderTimeout,
    ProviderUnavailable,
)
from pointsman.upstream.v1 import upstream_pb2 as pb
from services.upstream import provider_errors
from services.upstream.models import Endpoint
from services.upstream.sse import DONE, AnswerReader, usage_of

logger = logging.getLogger(__name__)

_LINGER_SECONDS = 0.1
"""After `[DONE]` a provider has so long to end the body; then its connection is not kept."""


@dataclass(frozen=True, slots=True)
class Answer:
    """A whole answer for the client, an error too."""

    status: int
    body: bytes
    attempt: pb.Attempt
    headers: dict[str, str] = field(default_factory=dict)
    usage: pb.Usage | None = None


class ProviderClient:
    """Calls providers through one session.

    Args:
        session: Its timeouts are overruled by each endpoint's; `auto_decompress` is on.
        answer_limit_bytes: The largest whole answer.
        clock: Monotonic seconds.
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

    async def complete(self, endpoint: Endpoint, body: bytes) -> Answer:
        """Returns the provider's whole answer, or what the client is told instead."""
        call = _Call(endpoint, self._clock)
        try:
            with _as_provider_errors(endpoint):
                async with self._post(endpoint, body) as response:
                    call.headers_came(response.status)
                    data = await self._read(response)
                    if not response.ok:
                        status, headers, data = _refusal(response, data, endpoint)
                        return Answer(status, data, call.end(), headers)
                    _expect(response)
                    usage = usage_of(data)
                    return Answer(response.status, data, call.end(), _relayed(response), usage)
        except ProviderError as error:
            status, attempt = call.fail(error)
            return Answer(status, provider_errors.body_for(error), attempt)

    async def stream(
        self, endpoint: Endpoint, body: bytes, *, hide_usage: bool
    ) -> AsyncGenerator[pb.StreamCompleteResponse, None]:
        """Yields a head and, if its status is 200, frames and a tail."""
        call = _Call(endpoint, self._clock)
        reader = AnswerReader(hide_usage=hide_usage)
        begun = False
        try:
            with _as_provider_errors(endpoint):
                async with self._post(endpoint, body) as response:
                    call.headers_came(response.status)
                    if not response.ok:
                        data = await self._read(response)
                        status, headers, data = _refusal(response, data, endpoint)
                        yield _head(call.end(), status, data, headers)
                        return
                    _expect(response, "text/event-stream")
                    begun = True
                    yield _head(call.so_far(), 200, b"", _relayed(response))
                    async with aclosing(self._frames(response, reader)) as parts:
                        async for frames in parts:
                            yield pb.StreamCompleteResponse(frames=frames)
            yield _tail(call.end(), reader, error=b"")
        except ProviderError as error:
            status, attempt = call.fail(error)
            told = provider_errors.body_for(error)
            if begun:
                yield _tail(attempt, reader, error=_told(reader, endpoint) or told)
            else:
                yield _head(attempt, status, told, {})

    async def _frames(
        self, response: aiohttp.ClientResponse, reader: AnswerReader
    ) -> AsyncGenerator[bytes, None]:
        async for data in response.content.iter_any():
            if frames := reader.feed(data):
                yield frames
            if reader.failure is not None:
                raise reader.failure
            if reader.done:
                await _let_it_end(response)
                return
        if not reader.finished:
            raise ProviderUnavailable("The model's provider ended the answer too early.")
        reader.done = True
        yield DONE

    def _post(
        self, endpoint: Endpoint, body: bytes
    ) -> AbstractAsyncContextManager[aiohttp.ClientResponse]:
        settings = endpoint.settings
        headers = {
            "content-type": "application/json",
            "accept-encoding": "identity",  # a compressing provider would hold chunks back
            **settings.headers,
        }
        if key := endpoint.key.reveal():
            headers["authorization"] = f"Bearer {key}"
        timeout = aiohttp.ClientTimeout(
            total=None,
            sock_connect=settings.connect_timeout_seconds,
            sock_read=settings.read_timeout_seconds,
        )
        return self._session.post(
            endpoint.url,
            data=body,
            headers=headers,
            timeout=timeout,
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


class _Call:
    """Times one call and writes its record."""

    def __init__(self, endpoint: Endpoint, clock: Callable[[], float]) -> None:
        self._endpoint = endpoint
        self._clock = clock
        self._started_at = clock()
        self._attempt = pb.Attempt(model=endpoint.model, provider=endpoint.provider)

    def headers_came(self, status: int) -> None:
        self._attempt.status = status
        self._attempt.headers_seconds = self._clock() - self._started_at
        if status in (401, 403):
            logger.error(
                "provider refuses the key",
                extra={"provider": self._endpoint.provider, "status": status},
            )

    def so_far(self) -> pb.Attempt:
        self._attempt.outcome = pb.ATTEMPT_OUTCOME_STREAMING
        self._attempt.seconds = self._clock() - self._started_at
        return self._attempt

    def end(self) -> pb.Attempt:
        self._attempt.outcome = provider_errors.outcome_of(self._attempt.status)
        self._attempt.seconds = self._clock() - self._started_at
        return self._attempt

    def fail(self, error: ProviderError) -> tuple[int, pb.Attempt]:
        status, self._attempt.outcome = provider_errors.STATUS_BY_KIND[error.kind]
        self._attempt.seconds = self._clock() - self._started_at
        return status, self._attempt


@contextmanager
def _as_provider_errors(endpoint: Endpoint) -> Iterator[None]:
    name = f"The provider {endpoint.provider} of model {endpoint.model}"
    try:
        yield
    except TimeoutError as error:  # aiohttp's time-outs are ClientErrors too: this comes first
        raise ProviderTimeout(f"{name} did not answer in time.") from error
    except (aiohttp.ClientError, OSError, UnicodeError) as error:  # the last: a host that is none
        # Not repr, which has the request's headers; and what a provider says may quote the key.
        said = provider_errors.without_key(f"{type(error).__name__}: {error}".encode(), endpoint)
        logger.warning(
            "provider failed", extra={"provider": endpoint.provider, "error": said.decode()}
        )
        raise ProviderUnavailable(f"{name} could not be reached, or hung up.") from error


def _refusal(
    response: aiohttp.ClientResponse, body: bytes, endpoint: Endpoint
) -> tuple[int, dict[str, str], bytes]:
    return provider_errors.refusal(response.status, _relayed(response), body, endpoint)


def _expect(response: aiohttp.ClientResponse, content_type: str | None = None) -> None:
    """Raises ProviderNonsense for a redirect (nobody should follow one with a key) and the like."""
    if response.status >= 300 or content_type not in {None, response.content_type}:
        raise ProviderNonsense(
            f"The model's provider answered {response.status} with {response.content_type}"
            + (f" where {content_type} was asked for." if content_type else ".")
        )


def _told(reader: AnswerReader, endpoint: Endpoint) -> bytes | None:
    """Returns what the provider itself said of its failure, if it did."""
    if reader.reported is None:
        return None
    shaped = provider_errors.in_openai_shape(502, reader.reported)
    return provider_errors.without_key(shaped, endpoint)


async def _let_it_end(response: aiohttp.ClientResponse) -> None:
    try:
        async with asyncio.timeout(_LINGER_SECONDS):
            async for _ in response.content.iter_any():
                pass
    except (TimeoutError, aiohttp.ClientError):
        response.close()


def _relayed(response: aiohttp.ClientResponse) -> dict[str, str]:
    return {
        name: value
        for name, value in ((n.lower(), v) for n, v in response.headers.items())
        if (
            name in provider_errors.RELAYED_HEADERS
            or name.startswith(provider_errors.RELAYED_PREFIX)
        )
        and value.isascii()
        and value.isprintable()
    }


def _head(
    attempt: pb.Attempt, status: int, body: bytes, headers: dict[str, str]
) -> pb.StreamCompleteResponse:
    head = pb.StreamHead(
        status=status, body=body, headers=headers, model=attempt.model, attempts=[attempt]
    )
    return pb.StreamCompleteResponse(head=head)


def _tail(attempt: pb.Attempt, reader: AnswerReader, *, error: bytes) -> pb.StreamCompleteResponse:
    complete = reader.done and not error
    tail = pb.StreamTail(complete=complete, error=error, usage=reader.usage, attempts=[attempt])
    return pb.StreamCompleteResponse(tail=tail)
