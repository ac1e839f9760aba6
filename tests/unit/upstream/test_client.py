"""One call to a provider, against a provider that really listens."""

import asyncio
import base64
import gzip
import itertools
import json
import logging
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, ExitStack
from typing import Any, NamedTuple

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from pointsman.upstream.v1 import upstream_pb2 as pb
from services.upstream.call import Reply
from services.upstream.client import ProviderClient
from services.upstream.models import Endpoint

ANSWER = b'{"choices": [{"message": {}}], "usage": {"prompt_tokens": 3, "completion_tokens": 5}}'
CHUNK = b'data: {"choices":[{"delta":{"content":"Hi"},"finish_reason":null}]}\n\n'
FINISH = b'data: {"choices":[{"delta":{},"finish_reason":"stop"}]}\n\n'
USAGE = b'data: {"choices":[],"usage":{"prompt_tokens":3,"completion_tokens":5}}\n\n'
DONE = b"data: [DONE]\n\n"
LIMIT_BYTES = 1000
KEY = "sk-very-secret"

ROLE = b'data: {"choices":[{"delta":{"role":"assistant","content":""},"finish_reason":null}]}\n\n'

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Streamed(NamedTuple):
    """A streamed answer, read to its end."""

    reply: Reply
    frames: bytes
    """What the client would read."""
    error: bytes
    """Why it is not whole; empty if it is."""

    @property
    def outcome(self) -> pb.AttemptOutcome.ValueType:
        """How the call ended."""
        return self.reply.attempt.outcome


class Gated:
    """A provider that streams piece by piece, each when the test says so."""

    def __init__(self, *writes: bytes) -> None:
        self._writes = writes
        self._may_write = asyncio.Semaphore(0)
        self.began = asyncio.Event()

    def go_on(self, pieces: int = 1) -> None:
        """Has so many more pieces be sent."""
        for _ in range(pieces):
            self._may_write.release()

    async def answer(self, request: web.Request) -> web.StreamResponse:
        """Streams."""
        response = web.StreamResponse(headers={"content-type": "text/event-stream"})
        await response.prepare(request)
        self.began.set()
        for data in self._writes:
            await self._may_write.acquire()
            await response.write(data)
        return response


class Providers:
    """Starts providers, and calls them through one session."""

    def __init__(self, stack: AsyncExitStack, session: aiohttp.ClientSession, make: Any) -> None:
        self._stack = stack
        self._make = make
        self.client = ProviderClient(session, LIMIT_BYTES, itertools.count().__next__)

    async def __call__(self, handler: Handler, **settings: Any) -> Endpoint:
        """Starts a provider that answers chat completions by the handler."""
        app = web.Application()
        app.router.add_post("/v1/chat/completions", handler)
        server = TestServer(app)
        await server.start_server(shutdown_timeout=0)
        self._stack.push_async_callback(server.close)
        return self.at(str(server.make_url("/v1")), **settings)

    async def speaking(self, raw: bytes, *, body: bytes = b"{}", **settings: Any) -> Endpoint:
        """Starts a provider that answers anything with these bytes and hangs up."""

        async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readuntil(b"\r\n\r\n")
            await reader.readexactly(len(body))
            writer.write(raw)
            writer.close()

        server = await asyncio.start_server(answer, "127.0.0.1", 0)
        self._stack.push_async_callback(server.wait_closed)
        self._stack.callback(server.close)
        port = server.sockets[0].getsockname()[1]
        return self.at(f"http://127.0.0.1:{port}/v1", **settings)

    def at(self, base_url: str, **settings: Any) -> Endpoint:
        """Returns a model's endpoint."""
        endpoint: Endpoint = self._make(base_url, **settings)
        return endpoint

    async def complete(self, endpoint: Endpoint, body: bytes = b"{}") -> Reply:
        """Asks for a whole answer."""
        return await self.client.complete(endpoint, body)

    async def begin(self, endpoint: Endpoint, **wishes: Any) -> Reply:
        """Asks for a streamed answer."""
        return await self.client.stream(endpoint, b"{}", **{"hide_usage": False, **wishes})

    async def stream(self, endpoint: Endpoint, **wishes: Any) -> Streamed:
        """Asks for a streamed answer and reads all of it."""
        reply = await self.begin(endpoint, **wishes)
        if reply.stream is None:
            return Streamed(reply, b"", b"")
        frames = b"".join([part async for part in reply.stream.frames()])
        await reply.stream.aclose()
        return Streamed(reply, frames, reply.stream.error)

    async def stream_in_two(self, first: bytes, second: bytes, **wishes: Any) -> Streamed:
        """Asks for a streamed answer whose second part is sent when the first has been shown."""
        provider = Gated(first, second)
        provider.go_on()
        reply = await self.begin(await self(provider.answer), **wishes)
        assert reply.stream is not None
        frames = bytearray()
        async for part in reply.stream.frames():
            frames += part
            provider.go_on()
        await reply.stream.aclose()
        return Streamed(reply, bytes(frames), reply.stream.error)


@pytest.fixture
async def providers(endpoint: Callable[..., Endpoint]) -> AsyncIterator[Providers]:
    """Real servers on ports of the kernel's choice, in this very loop."""
    async with AsyncExitStack() as stack:
        session = await stack.enter_async_context(aiohttp.ClientSession())
        yield Providers(stack, session, endpoint)


def answering(
    body: bytes = ANSWER, status: int = 200, headers: dict[str, str] | None = None
) -> Handler:
    """A provider that always answers the same."""

    async def handle(request: web.Request) -> web.Response:
        return web.Response(
            body=body,
            status=status,
            headers={"content-type": "application/json", **(headers or {})},
        )

    return handle


def streaming(
    *writes: bytes, headers: dict[str, str] | None = None, then_silent: bool = False
) -> Handler:
    """A provider that streams these bytes and ends the body, or never does."""

    async def handle(request: web.Request) -> web.StreamResponse:
        kind = {"content-type": "text/event-stream", **(headers or {})}
        response = web.StreamResponse(headers=kind)
        await response.prepare(request)
        for data in writes:
            await response.write(data)
        return await silent(request) if then_silent else response

    return handle


async def silent(request: web.Request) -> web.Response:
    """A provider that never answers."""
    await asyncio.Event().wait()
    raise AssertionError("unreachable")


def error_of(body: bytes) -> dict[str, Any]:
    """Reads an error body."""
    error: dict[str, Any] = json.loads(body)["error"]
    return error


async def test_a_whole_answer_comes_back_byte_for_byte(providers: Providers) -> None:
    """Nothing of the answer is rewritten on its way."""
    answer = await providers.complete(await providers(answering(ANSWER, 200)))
    assert (answer.status, answer.body, answer.headers) == (200, ANSWER, {})
    assert answer.read is not None
    assert answer.read.usage == pb.Usage(input_tokens=3, output_tokens=5)
    assert (answer.failure, answer.stream, answer.budget) == (None, None, "")
    assert answer.attempt.outcome == pb.ATTEMPT_OUTCOME_OK


async def test_the_provider_gets_body_key_and_headers(providers: Providers) -> None:
    """The operator's key opens the provider; compression would hold chunks back."""
    seen: dict[str, Any] = {}

    async def handle(request: web.Request) -> web.Response:
        seen.update(headers=request.headers, body=await request.read())
        return web.Response(body=ANSWER)

    one = await providers(handle, headers={"x-team": "routing"})
    await providers.complete(one, b'{"model": "acme-1"}')
    assert seen["body"] == b'{"model": "acme-1"}'
    headers = seen["headers"]
    assert headers["authorization"] == f"Bearer {KEY}"
    assert (headers["content-type"], headers["x-team"]) == ("application/json", "routing")
    assert headers["accept-encoding"] == "identity"


async def test_without_a_key_there_is_no_authorization(providers: Providers) -> None:
    """`Bearer None` is refused by providers that want no key."""
    seen: list[str] = []

    async def handle(request: web.Request) -> web.Response:
        seen.extend(name.lower() for name in request.headers)
        return web.Response(body=ANSWER)

    await providers.complete(await providers(handle, key=None))
    assert "content-type" in seen
    assert "authorization" not in seen


async def test_an_attempt_is_timed(providers: Providers) -> None:
    """Headers first, then the whole: two numbers that tell a slow start from a long answer."""
    answer = await providers.complete(await providers(answering()))
    attempt = answer.attempt
    assert (attempt.model, attempt.provider, attempt.status) == ("strong", "acme", 200)
    assert (attempt.headers_seconds, attempt.seconds) == (1, 2)  # the clock counts its readings


RELAYED = {
    "retry-after": "7",
    "retry-after-ms": "7000",
    "x-should-retry": "true",
    "x-ratelimit-remaining-tokens": "0",
}


async def test_a_throttled_client_hears_when_to_come_back(providers: Providers) -> None:
    """The official client sleeps for as long as `retry-after` says; no other header goes on."""
    body = b'{"error": {"message": "slow down"}}'
    others = {"set-cookie": "a=b", "server": "acme", "openai-organization": "secret"}
    answer = await providers.complete(await providers(answering(body, 429, {**RELAYED, **others})))
    assert (answer.status, answer.body, answer.headers) == (429, body, RELAYED)
    assert answer.attempt.outcome == pb.ATTEMPT_OUTCOME_THROTTLED


@pytest.mark.parametrize("status", [401, 403])
async def test_a_refused_key_is_not_the_clients_trouble(providers: Providers, status: int) -> None:
    """The client's own key is fine, and trying again cannot help."""
    body = b'{"error": {"message": "Incorrect API key"}}'
    answer = await providers.complete(await providers(answering(body, status)))
    assert answer.status == 502
    assert error_of(answer.body)["code"] == "provider_unauthorized"
    assert answer.headers.get("x-should-retry") == "false"
    assert answer.attempt.outcome == pb.ATTEMPT_OUTCOME_UNAUTHORIZED
    assert answer.attempt.status == status


async def test_a_refused_key_is_an_error_in_the_log(
    providers: Providers, caplog: pytest.LogCaptureFixture
) -> None:
    """Somebody has to be told, and it is not the client."""
    await providers.complete(await providers(answering(b"", 401)))
    (record,) = [one for one in caplog.records if one.levelno == logging.ERROR]
    assert vars(record)["provider"] == "acme"


@pytest.mark.parametrize("status", [400, 404, 422, 500, 503])
async def test_a_providers_error_keeps_its_status(providers: Providers, status: int) -> None:
    """A mistake of the client's is told in the provider's own words, whatever their shape."""
    answer = await providers.complete(await providers(answering(b"<h1>no</h1>", status)))
    assert (answer.status, error_of(answer.body)["message"]) == (status, "<h1>no</h1>")


@pytest.mark.parametrize("body", [b"", b"OK", b"[]", b"<html></html>"])
async def test_a_success_that_is_no_answer_is_a_502(providers: Providers, body: bytes) -> None:
    """A login page with status 200 must not reach a client as a completion."""
    answer = await providers.complete(await providers(answering(body)))
    assert answer.status == 502
    assert error_of(answer.body)["code"] == "provider_nonsense"


@pytest.mark.parametrize("status", [301, 304, 307])
async def test_a_redirect_is_not_an_answer(providers: Providers, status: int) -> None:
    """The key must not follow it to another host, and the client must not either."""
    answer = await providers.complete(
        await providers(answering(b"{}", status, {"location": "http://127.0.0.1:1/elsewhere"}))
    )
    assert answer.status == 502
    assert error_of(answer.body)["code"] == "provider_nonsense"


async def test_an_answer_over_the_limit_is_a_502(providers: Providers) -> None:
    """A message of any size would not fit through gRPC."""
    padding = LIMIT_BYTES - len(b'{"a":""}')
    fits, over = (b'{"a":"' + b"x" * n + b'"}' for n in (padding, padding + 1))
    assert (await providers.complete(await providers(answering(fits)))).status == 200
    answer = await providers.complete(await providers(answering(over)))
    assert (answer.status, error_of(answer.body)["code"]) == (502, "provider_nonsense")


async def test_a_provider_that_is_not_there_is_a_502(providers: Providers) -> None:
    """The message says which provider, and nothing of addresses."""
    with socket.socket() as bound:  # bound, not listening: every connection is refused
        bound.bind(("127.0.0.1", 0))
        port = bound.getsockname()[1]
        answer = await providers.complete(providers.at(f"http://127.0.0.1:{port}/v1"))
    error = error_of(answer.body)
    assert (answer.status, error["code"]) == (502, "provider_unavailable")
    assert "acme" in error["message"]
    assert str(port) not in error["message"]
    assert (answer.attempt.status, answer.attempt.headers_seconds) == (0, 0)
    assert answer.attempt.outcome == pb.ATTEMPT_OUTCOME_UNAVAILABLE


async def test_a_provider_that_does_not_answer_is_a_504(providers: Providers) -> None:
    """The operator's time limit ends the waiting."""
    answer = await providers.complete(await providers(silent, total_timeout_seconds=0.01))
    assert (answer.status, error_of(answer.body)["code"]) == (504, "provider_timeout")
    assert answer.budget == "total"
    assert answer.attempt.outcome == pb.ATTEMPT_OUTCOME_TIMEOUT


BROKEN = {
    "hangs up": b"",
    "garbage": b"GARBAGE\r\n\r\n",
    "speaks TLS": b"\x15\x03\x01\x00\x02\x02\x46",
    "endless header": b"HTTP/1.1 200 OK\r\nx: " + b"a" * 100_000 + b"\r\n\r\n",
    "cut body": b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\n{}",
    "cut chunk": b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\n{}",
    "broken gzip": b"HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\ncontent-length: 2\r\n\r\n{}",
}


@pytest.mark.parametrize("raw", BROKEN.values(), ids=BROKEN)
async def test_a_provider_that_speaks_no_http_is_a_502(providers: Providers, raw: bytes) -> None:
    """Whatever is at the other end of a wrong URL, the client gets an error it can read."""
    answer = await providers.complete(await providers.speaking(raw))
    assert (answer.status, error_of(answer.body)["code"]) == (502, "provider_unavailable")


@pytest.mark.parametrize("raw", BROKEN.values(), ids=BROKEN)
async def test_no_failure_shows_the_key(
    providers: Providers, raw: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    """Aiohttp's errors carry the request with its headers; logs are read by many."""
    caplog.set_level(logging.DEBUG)
    one = await providers.speaking(raw)
    answer = await providers.complete(one)
    streamed = await providers.begin(one)
    assert caplog.records
    assert KEY not in str([vars(record) for record in caplog.records])
    assert KEY.encode() not in answer.body
    assert KEY.encode() not in streamed.body


@pytest.mark.parametrize("url", ["http://", "http://[::1/v1", "http://a..b/v1", "http://a b/v1"])
async def test_an_address_that_is_none_is_a_502(providers: Providers, url: str) -> None:
    """A slip in the models file is told to the operator's log, not as a fault of ours."""
    answer = await providers.complete(providers.at(url))
    assert (answer.status, error_of(answer.body)["code"]) == (502, "provider_unavailable")


async def test_a_key_that_a_provider_quotes_is_masked(providers: Providers) -> None:
    """Some providers repeat what they were given."""
    body = b'{"error": {"message": "I was sent ' + KEY.encode() + b'"}}'
    answer = await providers.complete(await providers(answering(body, 400)))
    assert error_of(answer.body)["message"] == "I was sent ***"


async def test_a_stream_begins_with_its_first_token(providers: Providers) -> None:
    """What the gateway makes an HTTP response of: a head, frames and an end."""
    one = await providers(streaming(CHUNK, FINISH, USAGE, DONE, headers=RELAYED))
    reply = await providers.begin(one)
    assert (reply.status, reply.body, reply.headers) == (200, b"", RELAYED)
    assert reply.attempt.outcome == pb.ATTEMPT_OUTCOME_STREAMING
    assert reply.first_token_seconds > reply.attempt.headers_seconds
    assert reply.stream is not None
    assert b"".join([part async for part in reply.stream.frames()]) == CHUNK + FINISH + USAGE + DONE
    assert (reply.stream.error, reply.stream.budget) == (b"", "")
    assert reply.read is not None
    assert reply.read.usage == pb.Usage(input_tokens=3, output_tokens=5)
    assert reply.attempt.outcome == pb.ATTEMPT_OUTCOME_OK
    await reply.stream.aclose()
    assert reply.attempt.outcome == pb.ATTEMPT_OUTCOME_OK


async def test_frames_come_as_the_provider_sends_them(providers: Providers) -> None:
    """The first token must not wait for the last: the provider waits for it to be shown here."""
    streamed = await providers.stream_in_two(CHUNK, FINISH + DONE)
    assert (streamed.frames, streamed.error) == (CHUNK + FINISH + DONE, b"")


async def test_a_role_alone_does_not_begin_an_answer(providers: Providers) -> None:
    """A provider that greets and then fails can still be left for another, and nobody saw it."""
    provider = Gated(ROLE, b": ping\n\n", CHUNK, FINISH + DONE)
    provider.go_on(2)
    begun = asyncio.create_task(providers.begin(await providers(provider.answer)))
    await provider.began.wait()
    assert not begun.done()
    provider.go_on(2)
    reply = await begun
    assert reply.stream is not None
    frames = b"".join([part async for part in reply.stream.frames()])
    assert frames == ROLE + b": ping\n\n" + CHUNK + FINISH + DONE


TOOL_CALL = (
    b'data: {"choices":[{"delta":{"tool_calls":[{"index":0,"id":"c","function":{"name":"f"}}]},'
    b'"finish_reason":null}]}\n\n'
)


@pytest.mark.parametrize("first", [CHUNK, TOOL_CALL, FINISH])
async def test_words_tools_and_ends_begin_an_answer(providers: Providers, first: bytes) -> None:
    """An agent's client waits for the tool call, and an empty answer is one too."""
    provider = Gated(ROLE, first)
    provider.go_on(2)
    reply = await providers.begin(await providers(provider.answer))
    assert reply.stream is not None
    assert await anext(reply.stream.frames()) == ROLE + first
    await reply.stream.aclose()


@pytest.mark.parametrize(
    ("writes", "again"),
    [
        ((ROLE,), False),
        ((ROLE, b"data: what?\n\n"), False),
        ((ROLE, CHUNK + b"data: what?\n\n"), False),
        ((DONE,), False),
        ((ROLE, DONE), False),
        ((b'data: {"error":{"message":"overloaded"}}\n\n',), False),
    ],
)
async def test_what_goes_wrong_before_the_first_token_is_a_failure(
    providers: Providers, writes: tuple[bytes, ...], again: bool
) -> None:
    """There is still a status to say it with, and another provider to ask."""
    reply = await providers.begin(await providers(streaming(*writes)))
    assert (reply.status, reply.stream) == (502, None)
    assert reply.failure is not None
    assert (reply.failure.elsewhere, reply.failure.again, reply.failure.blame) == (
        True,
        again,
        True,
    )
    assert reply.attempt.outcome == pb.ATTEMPT_OUTCOME_UNAVAILABLE


async def test_a_line_that_breaks_before_a_word_of_the_provider_is_tried_again(
    providers: Providers,
) -> None:
    """Nothing was begun there: nothing is paid for twice."""
    for reply in (
        await providers.begin(await providers.speaking(b"")),
        await providers.complete(await providers.speaking(b"")),
    ):
        assert reply.failure is not None
        assert reply.failure.again


@pytest.mark.parametrize("streamed", [True, False])
async def test_an_error_with_status_200_is_an_error(providers: Providers, streamed: bool) -> None:
    """OpenRouter answers so when its provider fails; the words are kept and the key is not."""
    error = b'{"error":{"message":"overloaded ' + KEY.encode() + b'","code":503}}'
    if streamed:
        reply = await providers.begin(await providers(streaming(b"data: " + error + b"\n\n")))
    else:
        reply = await providers.complete(await providers(answering(error)))
    assert (reply.status, reply.attempt.status) == (502, 200)
    assert error_of(reply.body)["message"] == "overloaded ***"
    assert reply.failure is not None
    assert (reply.failure.elsewhere, reply.failure.blame) == (True, True)
    assert reply.attempt.outcome == pb.ATTEMPT_OUTCOME_UNAVAILABLE


async def test_usage_that_only_we_asked_for_is_counted_and_hidden(providers: Providers) -> None:
    """The bill needs it and the client did not ask."""
    one = await providers(streaming(CHUNK, FINISH, USAGE, DONE))
    streamed = await providers.stream(one, hide_usage=True)
    assert streamed.frames == CHUNK + FINISH + DONE
    assert streamed.reply.read is not None
    assert streamed.reply.read.usage is not None
    assert streamed.reply.read.usage.output_tokens == 5


@pytest.mark.parametrize("streamed", [True, False])
async def test_cached_and_reasoning_tokens_are_read(providers: Providers, streamed: bool) -> None:
    """They have prices of their own."""
    usage = (
        b'"usage":{"prompt_tokens":9,"completion_tokens":5,'
        b'"prompt_tokens_details":{"cached_tokens":4},'
        b'"completion_tokens_details":{"reasoning_tokens":2}}'
    )
    chunk = b'data: {"choices":[],' + usage + b"}\n\n"
    if streamed:
        reply = (await providers.stream(await providers(streaming(CHUNK, FINISH, chunk)))).reply
    else:
        reply = await providers.complete(
            await providers(answering(b'{"choices":[],' + usage + b"}"))
        )
    assert reply.read is not None
    assert reply.read.usage == pb.Usage(
        input_tokens=9, output_tokens=5, cached_input_tokens=4, reasoning_tokens=2
    )


async def test_a_finished_answer_without_its_end_gets_one(providers: Providers) -> None:
    """`transformers serve` leaves `[DONE]` out, and some clients wait for it."""
    streamed = await providers.stream(await providers(streaming(CHUNK, FINISH)))
    assert streamed.frames == CHUNK + FINISH + DONE
    assert (streamed.error, streamed.outcome) == (b"", pb.ATTEMPT_OUTCOME_OK)


async def test_a_finished_answer_whose_body_never_ends_is_whole(providers: Providers) -> None:
    """Some servers keep the line open; nothing is missing, and nobody is to wait for the limit."""
    provider = streaming(CHUNK + FINISH + USAGE, then_silent=True)
    streamed = await providers.stream(await providers(provider, idle_timeout_seconds=0.05))
    assert streamed.frames == CHUNK + FINISH + USAGE + DONE
    assert streamed.error == b""


STREAM_HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ncontent-length: 9999\r\n\r\n"


@pytest.mark.parametrize("end", [b"", USAGE, USAGE + DONE])
async def test_a_finished_answer_whose_line_breaks_is_whole(
    providers: Providers, end: bytes
) -> None:
    """A provider that hangs up right behind its last word has said it."""
    streamed = await providers.stream(await providers.speaking(STREAM_HEAD + CHUNK + FINISH + end))
    assert streamed.frames == CHUNK + FINISH + end.removesuffix(DONE) + DONE
    assert streamed.error == b""


async def test_what_came_before_the_line_broke_is_not_lost(providers: Providers) -> None:
    """A client that reads slowly gets all that its provider had sent, not only what it had read."""
    go_on, gone = asyncio.Event(), asyncio.Event()

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(STREAM_HEAD + CHUNK)
        await go_on.wait()
        writer.write(CHUNK + FINISH + DONE)
        writer.close()
        await writer.wait_closed()
        gone.set()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        reply = await providers.begin(providers.at(f"http://127.0.0.1:{port}/v1"))
        assert reply.stream is not None
        frames = reply.stream.frames()
        assert await anext(frames) == CHUNK
        go_on.set()
        await gone.wait()
        for _ in range(100):  # the end of the line gets here in one of the loop's next turns
            await asyncio.sleep(0)
        assert b"".join([part async for part in frames]) == CHUNK + FINISH + DONE
        assert reply.stream.error == b""
        await reply.stream.aclose()


@pytest.mark.parametrize("end", [b"", FINISH[:20], USAGE, DONE])
async def test_an_answer_that_ends_early_is_not_tidied_up(providers: Providers, end: bytes) -> None:
    """A client must not take half an answer for a whole one."""
    streamed = await providers.stream_in_two(CHUNK, end)
    assert streamed.frames.startswith(CHUNK)
    assert DONE not in streamed.frames
    assert error_of(streamed.error)["code"] == "provider_unavailable"
    assert streamed.outcome == pb.ATTEMPT_OUTCOME_UNAVAILABLE


SECOND = CHUNK.replace(b'"delta"', b'"index":1,"delta"')


@pytest.mark.parametrize("end", [b"", DONE])
async def test_of_two_answers_both_must_be_finished(providers: Providers, end: bytes) -> None:
    """With n=2 one may be cut off while the other is whole."""
    streamed = await providers.stream_in_two(CHUNK, SECOND + FINISH + end, choices=2)
    assert DONE not in streamed.frames
    assert error_of(streamed.error)["code"] == "provider_unavailable"


async def test_a_connection_that_breaks_in_mid_stream_is_told(providers: Providers) -> None:
    """What had come is kept; the end says that it is not all."""
    streamed = await providers.stream(await providers.speaking(STREAM_HEAD + CHUNK))
    assert streamed.frames == CHUNK
    assert error_of(streamed.error)["code"] == "provider_unavailable"


PATIENT = {
    "first_token_timeout_seconds": 30,
    "idle_timeout_seconds": 30,
    "total_timeout_seconds": 30,
}


@pytest.mark.parametrize(
    ("provider", "limits", "budget"),
    [
        (silent, {"first_token_timeout_seconds": 0.05}, "first_token"),
        (streaming(then_silent=True), {"first_token_timeout_seconds": 0.05}, "first_token"),
        (streaming(ROLE, then_silent=True), {"first_token_timeout_seconds": 0.05}, "first_token"),
        (
            streaming(ROLE, then_silent=True),
            {"first_token_timeout_seconds": 0.2, "idle_timeout_seconds": 0.01},
            "first_token",
        ),
        (silent, {"total_timeout_seconds": 0.05}, "total"),
        (streaming(ROLE, then_silent=True), {"total_timeout_seconds": 0.05}, "total"),
    ],
)
async def test_a_stream_whose_first_token_is_late_is_a_504(
    providers: Providers, provider: Handler, limits: dict[str, float], budget: str
) -> None:
    """Models that think have the time that they are given, whatever may pass between two tokens."""
    reply = await providers.begin(await providers(provider, **{**PATIENT, **limits}))
    assert (reply.status, error_of(reply.body)["code"]) == (504, "provider_timeout")
    assert (reply.budget, reply.attempt.outcome) == (budget, pb.ATTEMPT_OUTCOME_TIMEOUT)
    assert reply.failure is not None
    assert (reply.failure.again, reply.failure.elsewhere) == (False, True)


@pytest.mark.parametrize("budget", ["idle", "total"])
async def test_a_provider_that_falls_silent_in_mid_stream_is_told(
    providers: Providers, budget: str
) -> None:
    """Between two pieces, or in all; what had come is kept."""
    limits = {**PATIENT, f"{budget}_timeout_seconds": 0.5}
    streamed = await providers.stream(await providers(streaming(CHUNK, then_silent=True), **limits))
    assert streamed.frames == CHUNK
    assert error_of(streamed.error)["code"] == "provider_timeout"
    assert streamed.outcome == pb.ATTEMPT_OUTCOME_TIMEOUT
    assert streamed.reply.stream is not None
    assert streamed.reply.stream.budget == budget


async def test_the_first_tokens_limit_ends_with_the_first_token(providers: Providers) -> None:
    """A long answer is not a late one: only the idle limit passes here."""
    limits = {**PATIENT, "first_token_timeout_seconds": 0.5, "idle_timeout_seconds": 0.7}
    streamed = await providers.stream(await providers(streaming(CHUNK, then_silent=True), **limits))
    assert streamed.reply.stream is not None
    assert streamed.reply.stream.budget == "idle"


async def test_no_connection_in_time_is_a_504(providers: Providers) -> None:
    """A machine that is gone answers nothing at all; it is known within the connect limit."""
    with ExitStack() as sockets:
        listening = sockets.enter_context(socket.socket())
        listening.bind(("127.0.0.1", 0))
        listening.listen(0)
        for _ in range(3):  # the backlog is full then, and the kernel lets no other in
            waiting = sockets.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(listening.getsockname())
        url = f"http://127.0.0.1:{listening.getsockname()[1]}/v1"
        one = providers.at(url, connect_timeout_seconds=0.05)
        for reply in (await providers.complete(one), await providers.begin(one)):
            assert (reply.status, reply.budget) == (504, "connect")
            assert reply.attempt.outcome == pb.ATTEMPT_OUTCOME_TIMEOUT
            assert reply.failure is not None
            assert not reply.failure.again


async def test_an_error_in_mid_stream_keeps_the_providers_words(providers: Providers) -> None:
    """They say more than we could; a key among them goes no further."""
    error = b'{"error":{"message":"out of memory, ' + KEY.encode() + b'","code":"oom"}}'
    rest = b"data: " + error + b"\n\n" + FINISH + DONE
    streamed = await providers.stream_in_two(CHUNK, rest)
    assert streamed.frames == CHUNK
    assert error_of(streamed.error) == {"message": "out of memory, ***", "code": "oom"}


async def test_an_error_of_another_shape_is_told_in_openais(providers: Providers) -> None:
    """The official client loses the message of `{"error": "text"}`."""
    streamed = await providers.stream_in_two(CHUNK, b'data: {"error":"out of memory"}\n\n')
    assert "out of memory" in error_of(streamed.error)["message"]


async def test_what_is_no_chunk_ends_the_stream(providers: Providers) -> None:
    """Clients would raise a parser's error that nobody catches."""
    streamed = await providers.stream_in_two(CHUNK, CHUNK + b"data: what?\n\n" + FINISH)
    assert streamed.frames == CHUNK + CHUNK
    assert error_of(streamed.error)["code"] == "provider_nonsense"


@pytest.mark.parametrize(("status", "told"), [(400, 400), (401, 502), (429, 429), (500, 500)])
async def test_a_stream_that_never_begins_is_an_ordinary_error(
    providers: Providers, status: int, told: int
) -> None:
    """Before the first byte there is still a status to say it with."""
    body = b'{"error": {"message": "no"}}'
    reply = await providers.begin(await providers(answering(body, status, RELAYED)))
    assert (reply.status, reply.attempt.status) == (told, status)
    assert error_of(reply.body)["message"]
    assert reply.headers["retry-after"] == "7"
    assert reply.failure is not None
    assert reply.failure.retry_after_seconds == (7.0 if status >= 429 else None)


async def test_a_refused_key_of_a_stream_is_not_tried_again(providers: Providers) -> None:
    """The official client would try a 502 twice more, each time for nothing."""
    reply = await providers.begin(await providers(answering(b"", 403)))
    assert reply.headers["x-should-retry"] == "false"


@pytest.mark.parametrize("streamed", [True, False])
async def test_a_flagged_prompt_is_the_clients_trouble(
    providers: Providers, streamed: bool
) -> None:
    """OpenRouter's moderation says 403, and means 400; the key is fine."""
    body = b'{"error": {"message": "your input was flagged", "code": 403}}'
    one = await providers(answering(body, 403))
    reply = await (providers.begin(one) if streamed else providers.complete(one))
    assert (reply.status, reply.body) == (400, body)
    assert reply.attempt.outcome == pb.ATTEMPT_OUTCOME_REJECTED


@pytest.mark.parametrize(("body", "status"), [(ANSWER, 200), (b"{}", 307)])
async def test_a_whole_answer_to_a_stream_is_a_502(
    providers: Providers, body: bytes, status: int
) -> None:
    """The official client would show an empty stream and no error."""
    reply = await providers.begin(await providers(answering(body, status)))
    assert (reply.status, error_of(reply.body)["code"]) == (502, "provider_nonsense")


async def test_a_stream_from_nowhere_is_a_502(providers: Providers) -> None:
    """The same answer as for a call that is not streamed."""
    reply = await providers.begin(await providers.speaking(b""))
    assert (reply.status, error_of(reply.body)["code"]) == (502, "provider_unavailable")


@pytest.mark.parametrize("streamed", [True, False])
async def test_a_provider_that_compresses_all_the_same_is_understood(
    providers: Providers, streamed: bool
) -> None:
    """Proxies in between do it unasked."""
    headers = {"content-encoding": "gzip"}
    if streamed:
        one = await providers(streaming(gzip.compress(CHUNK + FINISH + DONE), headers=headers))
        assert (await providers.stream(one)).frames == CHUNK + FINISH + DONE
    else:
        one = await providers(answering(gzip.compress(ANSWER), headers=headers))
        assert (await providers.complete(one)).body == ANSWER


@pytest.mark.parametrize(
    "writes", [(CHUNK,), (CHUNK, b"data: what?\n\n"), (CHUNK, DONE), (CHUNK, SECOND, FINISH)]
)
async def test_held_back_an_answer_that_breaks_off_is_a_failure(
    providers: Providers, writes: tuple[bytes, ...]
) -> None:
    """Nobody has seen any of it, so that it may be asked for again."""
    reply = await providers.begin(await providers(streaming(*writes)), hold_back=True)
    assert (reply.status, reply.stream) == (502, None)
    assert reply.failure is not None
    assert reply.failure.elsewhere


async def test_held_back_a_line_that_breaks_is_tried_again(providers: Providers) -> None:
    """At the same endpoint too: with one there would be no answer else."""
    reply = await providers.begin(await providers.speaking(STREAM_HEAD + CHUNK), hold_back=True)
    assert reply.failure is not None
    assert reply.failure.again


@pytest.mark.parametrize("end", [DONE, b""])
async def test_held_back_an_answer_comes_whole_or_not(providers: Providers, end: bytes) -> None:
    """Its `[DONE]` is there in the first frames that anybody sees."""
    reply = await providers.begin(await providers(streaming(CHUNK, FINISH, end)), hold_back=True)
    assert reply.stream is not None
    assert await anext(reply.stream.frames()) == CHUNK + FINISH + DONE
    assert reply.first_token_seconds < reply.attempt.seconds
    await reply.stream.aclose()


async def test_held_back_an_answer_has_a_limit(providers: Providers) -> None:
    """It stands in our memory."""
    one = await providers(streaming(*[CHUNK] * 20, FINISH, DONE))
    reply = await providers.begin(one, hold_back=True)
    assert (reply.status, error_of(reply.body)["code"]) == (502, "provider_nonsense")


async def test_held_back_a_provider_that_falls_silent_is_a_504(providers: Providers) -> None:
    """The first token has come, so that its limit has ended; the idle one has not."""
    limits = {**PATIENT, "first_token_timeout_seconds": 0.5, "idle_timeout_seconds": 0.7}
    one = await providers(streaming(CHUNK, then_silent=True), **limits)
    reply = await providers.begin(one, hold_back=True)
    assert (reply.status, reply.budget) == (504, "idle")


async def test_what_comes_before_the_first_token_is_not_kept_without_end(
    providers: Providers,
) -> None:
    """A provider that sends comments for ever would eat the upstream's memory."""
    ping = b": " + b"x" * 100_000 + b"\n\n"
    reply = await providers.begin(await providers(streaming(*[ping] * 11, then_silent=True)))
    assert reply.stream is not None
    await reply.stream.aclose()


async def test_a_client_that_leaves_stops_the_provider(providers: Providers) -> None:
    """Tokens that nobody reads are still paid for."""
    cancelled = asyncio.Event()

    async def handle(request: web.Request) -> web.StreamResponse:
        try:
            return await streaming(CHUNK, then_silent=True)(request)
        finally:
            cancelled.set()

    reply = await providers.begin(await providers(handle))
    assert reply.stream is not None
    assert await anext(reply.stream.frames()) == CHUNK
    assert not cancelled.is_set()
    await reply.stream.aclose()
    await cancelled.wait()
    assert reply.attempt.outcome == pb.ATTEMPT_OUTCOME_CANCELLED


async def test_a_caller_that_leaves_stops_a_whole_answer(providers: Providers) -> None:
    """A call that is not streamed costs as much."""
    asked, cancelled = asyncio.Event(), asyncio.Event()

    async def handle(request: web.Request) -> web.StreamResponse:
        asked.set()
        try:
            return await silent(request)
        finally:
            cancelled.set()

    call = asyncio.ensure_future(providers.complete(await providers(handle)))
    await asked.wait()
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    await cancelled.wait()


async def test_a_provider_that_keeps_the_line_open_after_the_end_holds_nobody(
    providers: Providers,
) -> None:
    """`[DONE]` is the end, whatever the provider does with its connection."""
    left = asyncio.Event()

    async def handle(request: web.Request) -> web.StreamResponse:
        try:
            return await streaming(FINISH + DONE, then_silent=True)(request)
        finally:
            left.set()

    streamed = await providers.stream(await providers(handle))
    assert (streamed.frames, streamed.error) == (FINISH + DONE, b"")
    await left.wait()


async def test_connections_are_kept_for_the_next_call(providers: Providers) -> None:
    """A TLS handshake a call would cost more than the routing; most bodies end after `[DONE]`."""
    peers = set()
    read = asyncio.Event()

    async def handle(request: web.Request) -> web.StreamResponse:
        assert request.transport is not None
        peers.add(request.transport.get_extra_info("peername"))
        response = await streaming(FINISH, DONE)(request)
        await read.wait()  # only now does the body end
        return response

    one = await providers(handle)
    for _ in range(3):
        read.clear()
        reply = await providers.begin(one)
        assert reply.stream is not None
        async for frames in reply.stream.frames():
            if DONE in frames:
                read.set()
    assert len(peers) == 1


async def test_no_failure_shows_the_proxys_password(
    providers: Providers, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The session takes proxies, and their passwords, from the environment as everybody does."""
    refusing = await providers.speaking(b"HTTP/1.1 407 No\r\ncontent-length: 0\r\n\r\n", body=b"")
    proxy = refusing.url.removeprefix("http://").partition("/")[0]
    monkeypatch.setenv("https_proxy", f"http://user:hunter2@{proxy}")
    async with aiohttp.ClientSession(trust_env=True) as session:
        client = ProviderClient(session, LIMIT_BYTES)
        answer = await client.complete(providers.at("https://provider.invalid/v1"), b"{}")
    assert error_of(answer.body)["code"] == "provider_unavailable"
    shown = str([vars(record) for record in caplog.records])
    assert "provider failed" in shown
    for secret in ("hunter2", base64.b64encode(b"user:hunter2").decode(), KEY):
        assert secret not in shown


async def test_no_failure_shows_the_operators_headers(
    providers: Providers, caplog: pytest.LogCaptureFixture
) -> None:
    """Some providers take their key in a header of their own."""
    one = await providers.speaking(
        b"GARBAGE\r\n\r\n", headers={"x-operator-token": "sk-in-a-header"}
    )
    await providers.complete(one)
    assert caplog.records
    assert "sk-in-a-header" not in str([vars(record) for record in caplog.records])
