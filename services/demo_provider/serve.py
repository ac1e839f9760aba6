"""The demo provider's HTTP: chat completions, streamed or not, and its list of models."""

import asyncio
import json
import time
import uuid
from typing import Any

from aiohttp import web

from pointsman.chassis.lifecycle import announce
from pointsman.chassis.ports import port_errors, reachable
from services.demo_provider import answers
from services.demo_provider.config import PORT_VARIABLE, DemoSettings

MODELS = ("demo-strong", "demo-weak")
_BODY_LIMIT_BYTES = 64 * 1024 * 1024


async def serve(settings: DemoSettings, stop: asyncio.Event) -> None:
    """Runs the demo provider until `stop` is set.

    Raises:
        ConfigError: The port is taken.
    """
    provider = _Provider(settings.chunk_seconds)
    app = web.Application(client_max_size=_BODY_LIMIT_BYTES)
    app.router.add_post("/v1/chat/completions", provider.chat)
    app.router.add_get("/v1/models", provider.models)
    runner = web.AppRunner(
        app,
        access_log=None,
        handler_cancellation=True,
        shutdown_timeout=settings.grace_seconds,
    )
    await runner.setup()
    try:
        with port_errors(settings.host, settings.port, PORT_VARIABLE):
            await web.TCPSite(runner, settings.host, settings.port).start()
        announce("demo_provider", address=reachable(settings.host, runner.addresses[0][1]))
        await stop.wait()
    finally:
        await runner.cleanup()


class _Provider:
    def __init__(self, chunk_seconds: float) -> None:
        self._chunk_seconds = chunk_seconds

    async def chat(self, request: web.Request) -> web.StreamResponse:
        try:
            asked = await request.json()
            if not isinstance(asked, dict):
                raise answers.BadRequest("the body must be an object")
            made = answers.Made(f"chatcmpl-{uuid.uuid4().hex}", int(time.time()))
            if asked.get("stream"):
                return await self._stream(request, list(answers.stream(asked, made)))
            return web.json_response(answers.complete(asked, made))
        except ValueError as error:  # BadRequest and JSON's own
            return _refusal(str(error))

    async def models(self, request: web.Request) -> web.StreamResponse:
        entries = [{"id": m, "object": "model", "created": 0, "owned_by": "demo"} for m in MODELS]
        return web.json_response({"object": "list", "data": entries})

    async def _stream(
        self, request: web.Request, chunks: list[dict[str, Any]]
    ) -> web.StreamResponse:
        response = web.StreamResponse(headers={"content-type": "text/event-stream"})
        await response.prepare(request)
        for chunk in chunks:
            await response.write(b"data: " + json.dumps(chunk).encode() + b"\n\n")
            if self._chunk_seconds:
                await asyncio.sleep(self._chunk_seconds)
        await response.write(b"data: [DONE]\n\n")
        await response.write_eof()
        return response


def _refusal(message: str) -> web.Response:
    error = {"message": message, "type": "invalid_request_error", "param": None, "code": None}
    return web.json_response({"error": error}, status=400)
