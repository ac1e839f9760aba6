"""Decision and completion → HTTP response: headers that say why, bytes as they came."""

from collections.abc import Mapping

from aiohttp import web

from pointsman.upstream.v1 import upstream_pb2 as pb
from services.gateway.access import Record
from services.gateway.openai_errors import json_response


def routing_headers(record: Record, model: str) -> dict[str, str]:
    """Returns the `x-pointsman-*` headers; of an answer that no router chose, few.

    The win rate is the shortest decimal that reads back as exactly the scorer's double, so that a
    threshold copied from it decides as it did.

    Args:
        record: What is known of the request.
        model: The one that answered.
    """
    headers = {"x-pointsman-model": _header_value(model), "x-pointsman-reason": record.reason}
    if record.fallbacks:
        headers["x-pointsman-fallback"] = ",".join(record.fallbacks)
    decision = record.decision
    if decision is None:
        return headers
    headers["x-pointsman-router"] = decision.router
    if decision.threshold is not None:
        headers["x-pointsman-threshold"] = repr(decision.threshold)
    headers["x-pointsman-decision"] = decision.choice
    if decision.strong_win_rate is not None:
        headers["x-pointsman-strong-win-rate"] = repr(decision.strong_win_rate)
    if decision.revision:
        headers["x-pointsman-revision"] = _header_value(decision.revision)
    return headers


def _header_value(text: str) -> str:
    """Returns the text in printable ASCII: anything else escaped, as it might end the header."""
    return text.encode("unicode_escape").decode("ascii")


def whole(answer: pb.CompleteResponse, headers: Mapping[str, str]) -> web.Response:
    """Returns a whole answer, or the provider's error."""
    return json_response(answer.status, answer.body, {**answer.headers, **headers})


def refused(head: pb.StreamHead, headers: Mapping[str, str]) -> web.Response:
    """Returns the error of a stream that never began: an ordinary HTTP error."""
    return json_response(head.status, head.body, {**head.headers, **headers})


def event_stream(head: pb.StreamHead, headers: Mapping[str, str]) -> web.StreamResponse:
    """Returns a response for server-sent events, not yet prepared."""
    return web.StreamResponse(
        headers={
            **head.headers,
            **headers,
            "content-type": "text/event-stream; charset=utf-8",
            "cache-control": "no-cache",
            "x-accel-buffering": "no",  # nginx in front would hold events back
        }
    )


def error_event(error: bytes) -> bytes:
    """Returns the event that ends a broken stream; no `[DONE]` follows it."""
    return b"data: " + error.replace(b"\n", b"").replace(b"\r", b"") + b"\n\n"
