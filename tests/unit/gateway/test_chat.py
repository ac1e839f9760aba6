"""The chat handler's own duty: whatever happens, an answer within the request's time."""

import asyncio
import json
from typing import Any, cast

from aiohttp.test_utils import TestServer
from prometheus_client import CollectorRegistry

from services.gateway.app import build_app
from services.gateway.callers import ANYBODY
from services.gateway.chat import ChatCompletions
from services.gateway.deadlines import Deadlines
from services.gateway.listing import ModelListing
from services.gateway.metrics import GatewayMetrics
from services.gateway.probes import Probes

NEVER_ASKED = cast(Any, None)
HEAD = b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nconnection: close\r\n"


async def test_a_body_that_never_ends_is_not_waited_for_for_ever() -> None:
    """A client that stalls, or breaks its own framing, holds a request no longer than any other."""
    metrics = GatewayMetrics(CollectorRegistry())
    chat = ChatCompletions(
        NEVER_ASKED,
        NEVER_ASKED,
        NEVER_ASKED,
        metrics,
        prompt_policy="last_user_turn",
        body_limit_bytes=1000,
        deadlines=Deadlines(0.05),
    )
    app = build_app(
        chat,
        ModelListing(NEVER_ASKED, 0),
        Probes(NEVER_ASKED),
        metrics,
        identify=lambda authorization: ANYBODY,
    )
    async with TestServer(app) as server:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        try:
            writer.write(HEAD + b"content-length: 10\r\n\r\n{")
            head = await reader.readuntil(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 504 ")
            body = await reader.readuntil(b"}}")
            assert json.loads(body)["error"]["code"] == "timeout"
        finally:
            writer.close()
            await writer.wait_closed()
