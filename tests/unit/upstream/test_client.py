"""One call to a provider, against a provider that really listens."""

import asyncio
import base64
import itertools
import json
import logging
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, aclosing
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from pointsman.upstream.v1 import upstream_pb2 as pb
from services.upstream.client import Answer, ProviderClient
from services.upstream.models import Endpoint

ANSWER = b'{"choices": [{"message": {}}], "usage": {"prompt_tokens": 3, "completion_tokens": 5}}'
CHUNK = b'data: {"choices":[{"delta":{"content":"Hi"},"finish_reason":null}]}\n\n'
FINISH = b'data: {"choices":[{"delta":{},"finish_reason":"stop"}]}\n\n'
USAGE = b'data: {"choices":[],"usage":{"prompt_tokens":3,"completion_tokens":5}}\n\n'
DONE = b"data: [DONE]\n\n"
LIMIT_BYTES = 1000
KEY = "sk-very-secret"

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
Parts = list[pb.StreamCompleteResponse]


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

    async def complete(self, endpoint: Endpoint, body: bytes = b"{}") -> Answer:
        """Asks for a whole answer."""
        return await self.client.complete(endpoint, body)

    async def stream(self, endpoint: Endpoint, *, hide_usage: bool = False) -> Parts:
        """Asks for a streamed answer and returns all of it."""
        return [part async for part in self.client.stream(endpoint, b"{}", hide_usage=hide_usage)]


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


def streaming(*writes: bytes, headers: dict[str, str] | None = None) -> Handler:
    """A provider that streams these bytes and ends the body."""

    async def handle(request: web.Request) -> web.StreamResponse:
        kind = {"content-type": "text/event-stream", **(headers or {})}
        response = web.StreamResponse(headers=kind)
        await response.prepare(request)
        for data in writes:
            await response.write(data)
        return response

    return handle


async def silent(request: web.Request) -> web.Response:
    """A provider that never answers."""
    await asyncio.Event().wait()
    raise AssertionError("unreachable")


def error_of(body: bytes) -> dict[str, Any]:
    """Reads an error body."""
    error: dict[str, Any] = json.loads(body)["error"]
    return error


def frames(parts: Parts) -> bytes:
    """Returns what the client would read."""
    return b"".join(part.frames for part in parts)


async def test_a_whole_answer_comes_back_byte_for_byte(providers: Providers) -> None:
    """Nothing of the answer is rewritten on its way."""
    answer = await providers.complete(await providers(answering(ANSWER, 200)))
    assert (answer.status, answer.body, answer.headers) == (200, ANSWER, {})
    assert answer.usage == pb.Usage(input_tokens=3, output_tokens=5)
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
    answer = await providers.complete(await providers(silent, read_timeout_seconds=0.01))
    assert (answer.status, error_of(answer.body)["code"]) == (504, "provider_timeout")
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
    parts = await providers.stream(one)
    assert caplog.records
    assert KEY not in str([vars(record) for record in caplog.records])
    assert KEY.encode() not in answer.body
    assert KEY not in str(parts)


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


async def test_a_stream_is_a_head_frames_and_a_tail(providers: Providers) -> None:
    """The three parts that the gateway makes an HTTP response of."""
    one = await providers(streaming(CHUNK, FINISH, USAGE, DONE, headers=RELAYED))
    parts = await providers.stream(one)
    head, *middle, tail = parts
    assert (head.head.status, head.head.model, dict(head.head.headers)) == (200, "strong", RELAYED)
    assert head.head.attempts[0].outcome == pb.ATTEMPT_OUTCOME_STREAMING
    assert {part.WhichOneof("part") for part in middle} == {"frames"}
    assert frames(parts) == CHUNK + FINISH + USAGE + DONE
    assert (tail.tail.complete, tail.tail.error) == (True, b"")
    assert tail.tail.usage == pb.Usage(input_tokens=3, output_tokens=5)
    assert tail.tail.attempts[0].outcome == pb.ATTEMPT_OUTCOME_OK


async def test_frames_come_as_the_provider_sends_them(providers: Providers) -> None:
    """The first token must not wait for the last."""
    go_on = asyncio.Event()

    async def handle(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"content-type": "text/event-stream"})
        await response.prepare(request)
        await response.write(CHUNK)
        await go_on.wait()
        await response.write(FINISH + DONE)
        return response

    parts = providers.client.stream(await providers(handle), b"{}", hide_usage=False)
    await anext(parts)
    assert (await anext(parts)).frames == CHUNK
    go_on.set()
    assert frames([part async for part in parts]) == FINISH + DONE


async def test_usage_that_only_we_asked_for_is_counted_and_hidden(providers: Providers) -> None:
    """The bill needs it and the client did not ask."""
    one = await providers(streaming(CHUNK, FINISH, USAGE, DONE))
    parts = await providers.stream(one, hide_usage=True)
    assert frames(parts) == CHUNK + FINISH + DONE
    assert parts[-1].tail.usage.output_tokens == 5


async def test_a_finished_answer_without_its_end_gets_one(providers: Providers) -> None:
    """`transformers serve` leaves `[DONE]` out, and some clients wait for it."""
    parts = await providers.stream(await providers(streaming(CHUNK, FINISH)))
    assert frames(parts) == CHUNK + FINISH + DONE
    assert parts[-1].tail.complete


@pytest.mark.parametrize("writes", [(), (CHUNK,), (CHUNK, FINISH[:20])])
async def test_an_answer_that_ends_early_is_not_tidied_up(
    providers: Providers, writes: tuple[bytes, ...]
) -> None:
    """A client must not take half an answer for a whole one."""
    parts = await providers.stream(await providers(streaming(*writes)))
    tail = parts[-1].tail
    assert DONE not in frames(parts)
    assert not tail.complete
    assert error_of(tail.error)["code"] == "provider_unavailable"
    assert tail.attempts[0].outcome == pb.ATTEMPT_OUTCOME_UNAVAILABLE


async def test_a_connection_that_breaks_in_mid_stream_is_told(providers: Providers) -> None:
    """What had come is kept; the tail says that it is not all."""
    head = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ncontent-length: 9999\r\n\r\n"
    parts = await providers.stream(await providers.speaking(head + CHUNK))
    assert frames(parts) == CHUNK
    assert not parts[-1].tail.complete
    assert error_of(parts[-1].tail.error)["code"] == "provider_unavailable"


async def test_a_provider_that_falls_silent_in_mid_stream_is_told(providers: Providers) -> None:
    """The time limit counts between two reads, so long streams may be long."""

    async def handle(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"content-type": "text/event-stream"})
        await response.prepare(request)
        await response.write(CHUNK)
        return await silent(request)

    parts = await providers.stream(await providers(handle, read_timeout_seconds=0.2))
    assert frames(parts) == CHUNK
    assert error_of(parts[-1].tail.error)["code"] == "provider_timeout"
    assert parts[-1].tail.attempts[0].outcome == pb.ATTEMPT_OUTCOME_TIMEOUT


async def test_an_error_in_mid_stream_keeps_the_providers_words(providers: Providers) -> None:
    """They say more than we could; a key among them goes no further."""
    error = b'{"error":{"message":"out of memory, ' + KEY.encode() + b'","code":"oom"}}'
    one = await providers(streaming(CHUNK, b"data: " + error + b"\n\n", FINISH, DONE))
    parts = await providers.stream(one)
    assert frames(parts) == CHUNK
    assert error_of(parts[-1].tail.error) == {"message": "out of memory, ***", "code": "oom"}
    assert not parts[-1].tail.complete


async def test_an_error_of_another_shape_is_told_in_openais(providers: Providers) -> None:
    """The official client loses the message of `{"error": "text"}`."""
    one = await providers(streaming(CHUNK, b'data: {"error":"out of memory"}\n\n'))
    parts = await providers.stream(one)
    assert "out of memory" in error_of(parts[-1].tail.error)["message"]


async def test_what_is_no_chunk_ends_the_stream(providers: Providers) -> None:
    """Clients would raise a parser's error that nobody catches."""
    parts = await providers.stream(await providers(streaming(CHUNK + b"data: what?\n\n" + FINISH)))
    assert frames(parts) == CHUNK
    assert error_of(parts[-1].tail.error)["code"] == "provider_nonsense"


@pytest.mark.parametrize(("status", "told"), [(400, 400), (401, 502), (429, 429), (500, 500)])
async def test_a_stream_that_never_begins_is_an_ordinary_error(
    providers: Providers, status: int, told: int
) -> None:
    """Before the first byte there is still a status to say it with."""
    body = b'{"error": {"message": "no"}}'
    (part,) = await providers.stream(await providers(answering(body, status, RELAYED)))
    assert part.head.status == told
    assert error_of(part.head.body)["message"]
    assert part.head.headers["retry-after"] == "7"
    assert part.head.attempts[0].status == status


async def test_a_refused_key_of_a_stream_is_not_tried_again(providers: Providers) -> None:
    """The official client would try a 502 twice more, each time for nothing."""
    (part,) = await providers.stream(await providers(answering(b"", 403)))
    assert part.head.headers["x-should-retry"] == "false"


@pytest.mark.parametrize(("body", "status"), [(ANSWER, 200), (b"{}", 307)])
async def test_a_whole_answer_to_a_stream_is_a_502(
    providers: Providers, body: bytes, status: int
) -> None:
    """The official client would show an empty stream and no error."""
    (part,) = await providers.stream(await providers(answering(body, status)))
    assert (part.head.status, error_of(part.head.body)["code"]) == (502, "provider_nonsense")


async def test_a_stream_from_nowhere_is_a_502(providers: Providers) -> None:
    """The same answer as for a call that is not streamed."""
    (part,) = await providers.stream(await providers.speaking(b""))
    assert (part.head.status, error_of(part.head.body)["code"]) == (502, "provider_unavailable")


async def test_a_client_that_leaves_stops_the_provider(providers: Providers) -> None:
    """Tokens that nobody reads are still paid for."""
    cancelled = asyncio.Event()

    async def handle(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"content-type": "text/event-stream"})
        await response.prepare(request)
        await response.write(CHUNK)
        try:
            return await silent(request)
        finally:
            cancelled.set()

    parts = providers.client.stream(await providers(handle), b"{}", hide_usage=False)
    async with aclosing(parts):  # type: ignore[type-var]
        await anext(parts)
        await anext(parts)
        assert not cancelled.is_set()
    await cancelled.wait()


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
        response = web.StreamResponse(headers={"content-type": "text/event-stream"})
        await response.prepare(request)
        await response.write(FINISH + DONE)
        try:
            return await silent(request)
        finally:
            left.set()

    parts = await providers.stream(await providers(handle))
    assert parts[-1].tail.complete
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
        async for part in providers.client.stream(one, b"{}", hide_usage=False):
            if DONE in part.frames:
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
