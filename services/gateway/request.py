"""HTTP body → `ChatRequest`: the few fields the gateway reads; the body goes on as it came."""

import re
from typing import Any

import msgspec
from aiohttp import web

from pointsman.errors import InvalidRequest, RequestTooLarge
from pointsman.json_text import JsonDecoder

_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,128}")
_FIELD = re.compile(r"`\$\.(\w+)|required field `(\w+)`")


class ChatRequest(msgspec.Struct, frozen=True):
    """What routing needs to know of a chat request; all else is the provider's business."""

    model: str
    messages: list[dict[str, Any]]
    stream: bool | None = None
    tools: Any = None
    """Only whether there are any."""


_decoder = JsonDecoder[ChatRequest](ChatRequest)


async def wait_before_body(request: web.Request) -> None:
    """Holds back the `100 Continue` that aiohttp would send before anybody has looked at the key.

    A route's `expect_handler`; `read_body` sends it.
    """


async def read_body(request: web.Request, limit_bytes: int) -> bytes:
    """Returns the whole body; a client that waits for leave to send it is given it here.

    Raises:
        RequestTooLarge: It is over the limit: told before it is read if the client says its length,
            else as soon as the limit is passed.
    """
    if (request.content_length or 0) > limit_bytes:
        raise _too_large(limit_bytes)
    encoding = request.headers.get("content-encoding", "identity").strip().lower()
    if encoding != "identity":
        raise InvalidRequest("The request body is compressed; send it without content-encoding.")
    if request.headers.get("expect", "").lower() == "100-continue":
        await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        request.writer.output_size = 0  # it is no part of the answer
    body = bytearray()
    try:
        async for part in request.content.iter_any():
            body += part
            if len(body) > limit_bytes:
                raise _too_large(limit_bytes)
    except web.RequestPayloadError as error:
        raise InvalidRequest(f"The request body cannot be read: {error}.") from error
    return bytes(body)


def parse_chat_request(body: bytes) -> ChatRequest:
    """Returns the request.

    Raises:
        InvalidRequest: Not JSON, not UTF-8, or `model`, `messages` or `stream` is missing or of the
            wrong type; `param` names the field.
    """
    try:
        body.isascii() or body.decode()
        chat = _decoder.decode(body)
    except ValueError as error:
        field = _FIELD.search(str(error))
        raise InvalidRequest(
            f"The request body is not a chat completion request: {error}.",
            param=(field[1] or field[2]) if field else None,
        ) from error
    if not chat.messages:
        raise InvalidRequest("messages is empty; send at least one message.", param="messages")
    return chat


def accepted_request_id(value: str | None) -> str | None:
    """Returns the client's request id if it may stand in logs and headers, else None."""
    return value if value and _REQUEST_ID.fullmatch(value) else None


def _too_large(limit_bytes: int) -> RequestTooLarge:
    return RequestTooLarge(f"The request body is over {limit_bytes} bytes.")
