"""Proper answers, and errors, as OpenAI sends them."""

import asyncio
import json
from collections.abc import Mapping, Sequence
from typing import Any

from bench.fault_wall.provider import Exchange


async def answer(exchange: Exchange, _: str = "") -> None:
    """Answers properly, streamed or whole."""
    if not exchange.streamed:
        await exchange.whole(200, encoded(completion(exchange)))
        return
    await begin_tokens(exchange, exchange.provider.tokens)
    await finish(exchange)


async def begin_tokens(exchange: Exchange, tokens: Sequence[str]) -> None:
    """Begins a stream with the delta of the role, and sends tokens."""
    await exchange.begin()
    await exchange.send_event(chunk(exchange, {"role": "assistant", "content": ""}))
    await send_tokens(exchange, tokens)


async def send_tokens(exchange: Exchange, tokens: Sequence[str]) -> None:
    """Sends a delta for each token, at the exchange's pace."""
    for token in tokens:
        await exchange.send_event(chunk(exchange, {"content": token}))
        if exchange.token_seconds:
            await asyncio.sleep(exchange.token_seconds)


async def send_rest(exchange: Exchange, tokens: Sequence[str]) -> None:
    """Sends the last tokens of a stream that has begun, or a whole answer."""
    if not exchange.streamed:
        await answer(exchange)
        return
    await send_tokens(exchange, tokens)
    await finish(exchange)


async def send_stop(exchange: Exchange) -> None:
    """Sends the finish reason, and the usage if it was asked for."""
    await exchange.send_event(chunk(exchange, {}, "stop"))
    if (exchange.asked.body.get("stream_options") or {}).get("include_usage"):
        await exchange.send_event(
            {
                **common(exchange, "chat.completion.chunk"),
                "choices": [],
                "usage": exchange.provider.usage,
            }
        )


async def finish(exchange: Exchange) -> None:
    """Ends a stream as OpenAI does."""
    await send_stop(exchange)
    await exchange.send(b"data: [DONE]\n\n")
    await exchange.end()


def error(message: str, code: str | None, param: str | None = None) -> bytes:
    """Returns a body in OpenAI's error shape."""
    kind = "invalid_request_error" if param else "server_error"
    return encoded({"error": {"message": message, "type": kind, "param": param, "code": code}})


def encoded(value: Mapping[str, Any]) -> bytes:
    """Returns JSON."""
    return json.dumps(value).encode()


def completion(exchange: Exchange, text: str | None = None) -> dict[str, Any]:
    """Returns a whole answer in OpenAI's shape."""
    message = {"role": "assistant", "content": text or exchange.provider.text, "refusal": None}
    choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": "stop"}
    return {
        **common(exchange, "chat.completion"),
        "choices": [choice],
        "usage": exchange.provider.usage,
    }


def chunk(exchange: Exchange, delta: dict[str, Any], finish: str | None = None) -> dict[str, Any]:
    """Returns a chunk of a streamed answer in OpenAI's shape."""
    choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}
    return {**common(exchange, "chat.completion.chunk"), "choices": [choice]}


def common(exchange: Exchange, kind: str) -> dict[str, Any]:
    """Returns what a whole answer and a chunk have in common."""
    return {"id": "chatcmpl-1", "object": kind, "created": 1, "model": exchange.asked.model}
