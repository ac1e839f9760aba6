"""A provider that does as it is told: real HTTP and SSE, in the test's own event loop.

What it answers is chosen by the model's name at the provider, so that one test can have a strong
model that works and a weak one that does not.
"""

import asyncio
import json
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Self

from aiohttp import web

Behaviour = Callable[["FakeProvider", web.Request, dict[str, Any]], Awaitable[web.StreamResponse]]


@dataclass(frozen=True)
class Call:
    """One request as it arrived."""

    path: str
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> dict[str, Any]:
        """The body, parsed."""
        return json.loads(self.body)


@dataclass
class FakeProvider:
    """Serves on a port of the kernel's choice while its context is open."""

    behaviours: dict[str, Behaviour] = field(default_factory=dict)
    calls: list[Call] = field(default_factory=list)
    url: str = ""
    called: asyncio.Event = field(default_factory=asyncio.Event)
    """Set by every call."""
    hung_up: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when a caller goes away before its answer is complete."""
    release: asyncio.Event = field(default_factory=asyncio.Event)
    """What `silent` and `gated_stream` wait for."""

    async def __aenter__(self) -> Self:
        app = web.Application(client_max_size=100 * 1024 * 1024)
        app.router.add_post("/v1/chat/completions", self._chat)
        self._runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        self.url = f"http://127.0.0.1:{self._runner.addresses[0][1]}/v1"
        return self

    async def __aexit__(self, *_: object) -> None:
        self.release.set()
        await self._runner.cleanup()

    def reset(self) -> None:
        """Forgets what it was told and what it was asked."""
        self.release.set()
        self.behaviours = {}
        self.calls = []
        self.called, self.hung_up, self.release = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def _chat(self, request: web.Request) -> web.StreamResponse:
        body = await request.read()
        self.calls.append(Call(request.path, dict(request.headers), body))
        self.called.set()
        asked = json.loads(body)
        behaviour = self.behaviours.get(asked["model"])
        if behaviour is None:
            behaviour = stream() if asked.get("stream") else whole()
        try:
            return await behaviour(self, request, asked)
        except (asyncio.CancelledError, ConnectionResetError):
            self.hung_up.set()
            raise


def chunk(model: str, delta: dict[str, Any], finish: str | None = None) -> dict[str, Any]:
    """Returns a streamed chunk in OpenAI's shape."""
    return {
        "id": "chatcmpl-1",
        "object": "chat.completion.chunk",
        "created": 1,
        "model": model,
        "choices": [{"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}],
    }


def event(data: dict[str, Any]) -> bytes:
    """Returns a chunk as a server-sent event."""
    return b"data: " + json.dumps(data).encode() + b"\n\n"


def whole(text: str = "An answer.") -> Behaviour:
    """Answers at once, in one piece."""

    async def answer(
        provider: FakeProvider, request: web.Request, asked: dict[str, Any]
    ) -> web.StreamResponse:
        message = {"role": "assistant", "content": text, "refusal": None}
        return web.json_response(
            {
                "id": "chatcmpl-1",
                "object": "chat.completion",
                "created": 1,
                "model": asked["model"],
                "choices": [
                    {"index": 0, "message": message, "logprobs": None, "finish_reason": "stop"}
                ],
                "usage": {"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10},
            }
        )

    return answer


def stream(words: Sequence[str] = ("An ", "answer.")) -> Behaviour:
    """Streams as OpenAI does, with the usage chunk if it was asked for."""

    async def answer(
        provider: FakeProvider, request: web.Request, asked: dict[str, Any]
    ) -> web.StreamResponse:
        model = asked["model"]
        response = await _begin(request)
        for word in words:
            await response.write(event(chunk(model, {"content": word})))
        await response.write(event(chunk(model, {}, "stop")))
        if (asked.get("stream_options") or {}).get("include_usage"):
            usage = {"prompt_tokens": 7, "completion_tokens": 2, "total_tokens": 9}
            await response.write(event({**chunk(model, {}), "choices": [], "usage": usage}))
        await response.write(b"data: [DONE]\n\n")
        await response.write_eof()
        return response

    return answer


def refuse(status: int, body: bytes, headers: Mapping[str, str] | None = None) -> Behaviour:
    """Answers with a status, a body and headers of the test's choice."""

    async def answer(
        provider: FakeProvider, request: web.Request, asked: dict[str, Any]
    ) -> web.StreamResponse:
        return web.Response(status=status, body=body, headers=headers)

    return answer


def silent() -> Behaviour:
    """Says nothing until released."""

    async def answer(
        provider: FakeProvider, request: web.Request, asked: dict[str, Any]
    ) -> web.StreamResponse:
        await provider.release.wait()
        return await whole()(provider, request, asked)

    return answer


def gated_stream() -> Behaviour:
    """Sends a first chunk, and the rest once released."""

    async def answer(
        provider: FakeProvider, request: web.Request, asked: dict[str, Any]
    ) -> web.StreamResponse:
        response = await _begin(request)
        await response.write(event(chunk(asked["model"], {"content": "First."})))
        await provider.release.wait()
        await response.write(event(chunk(asked["model"], {}, "stop")))
        await response.write(b"data: [DONE]\n\n")
        await response.write_eof()
        return response

    return answer


def raw_stream(*pieces: bytes, cut: bool, gated: bool = False) -> Behaviour:
    """Sends bytes as they are; then hangs up once released (`cut`) or ends the body properly.

    Gated, all but the first piece waits until released too.
    """

    async def answer(
        provider: FakeProvider, request: web.Request, asked: dict[str, Any]
    ) -> web.StreamResponse:
        response = await _begin(request)
        for number, piece in enumerate(pieces):
            if gated and number == 1:
                await provider.release.wait()
            await response.write(piece)
        if cut:
            await provider.release.wait()
            assert request.transport is not None
            request.transport.abort()
        else:
            await response.write_eof()
        return response

    return answer


async def _begin(request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse(headers={"content-type": "text/event-stream"})
    await response.prepare(request)
    return response
