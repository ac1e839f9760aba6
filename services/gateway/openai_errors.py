"""Error kinds → HTTP, in OpenAI's error shape; the gateway's only table of statuses."""

from collections.abc import Mapping
from typing import NamedTuple

from aiohttp import web

from pointsman.errors import InvalidRequest, PointsmanError
from pointsman.openai_error import encode_error


class HttpError(NamedTuple):
    """How a kind of error looks to an OpenAI client."""

    status: int
    type: str
    code: str | None
    param: str | None = None
    retry: bool | None = None
    """What `x-should-retry` says; None leaves it to the status."""
    retry_after_seconds: int | None = None
    """What `retry-after` says; OpenAI's clients wait so long, and by themselves about half."""


INTERNAL_MESSAGE = "Internal error. The gateway's log has this request's x-request-id."

HTTP_BY_KIND: dict[str, HttpError] = {
    "invalid_request": HttpError(400, "invalid_request_error", None),
    "request_too_large": HttpError(413, "invalid_request_error", "request_too_large"),
    "invalid_api_key": HttpError(401, "invalid_request_error", "invalid_api_key"),
    "key_not_allowed": HttpError(403, "invalid_request_error", "key_not_allowed", "model"),
    "unknown_model": HttpError(404, "invalid_request_error", "model_not_found", "model"),
    "unknown_router": HttpError(404, "invalid_request_error", "model_not_found", "model"),
    "router_not_ready": HttpError(503, "server_error", "router_not_ready", retry=False),
    # Not 429, which says that this client asks too often; balancers in front understand 503, too.
    "overloaded": HttpError(503, "server_error", "overloaded", retry_after_seconds=1),
    "deadline_exceeded": HttpError(504, "server_error", "timeout", retry=False),
    "scorer_unavailable": HttpError(503, "server_error", "scorer_unavailable"),
    "upstream_unavailable": HttpError(503, "server_error", "upstream_unavailable"),
    # Providers' troubles come from the upstream with status and body; these are for completeness.
    "provider_error": HttpError(502, "server_error", "provider_error"),
    "provider_unauthorized": HttpError(502, "server_error", "provider_unauthorized", retry=False),
    "provider_unavailable": HttpError(502, "server_error", "provider_unavailable"),
    "provider_timeout": HttpError(504, "server_error", "provider_timeout"),
    "provider_nonsense": HttpError(502, "server_error", "provider_nonsense"),
    "config": HttpError(500, "server_error", "internal_error", retry=False),
    "internal": HttpError(500, "server_error", "internal_error"),
}


def error_object(error: PointsmanError) -> bytes:
    """Returns `{"error": {...}}` with the four keys that OpenAI's schema requires."""
    http = HTTP_BY_KIND[error.kind]
    param = error.param if isinstance(error, InvalidRequest) else http.param
    return encode_error(error.message, http.type, param=param, code=http.code)


def error_response(error: PointsmanError) -> web.Response:
    """Returns the response for an error."""
    http = HTTP_BY_KIND[error.kind]
    headers = {} if http.retry is None else {"x-should-retry": str(http.retry).lower()}
    if http.retry_after_seconds is not None:
        headers["retry-after"] = str(http.retry_after_seconds)
    if http.status == 401:
        headers["www-authenticate"] = "Bearer"  # RFC 9110 asks for it
    return json_response(http.status, error_object(error), headers)


def internal_error_response() -> web.Response:
    """Returns the response for a fault of ours: no detail leaves the house."""
    return error_response(PointsmanError(INTERNAL_MESSAGE))


def http_exception_response(request: web.Request, error: web.HTTPException) -> web.Response:
    """Returns what aiohttp would have said in plain text, such as "404: Not Found", as JSON."""
    message = f"{request.method} {request.path}: {error.reason}."
    if error.status == 404:
        message += " The API has POST /v1/chat/completions, POST /v1/route and GET /v1/models."
    kind = "invalid_request_error" if error.status < 500 else "server_error"
    kept = {"allow": error.headers["Allow"]} if "Allow" in error.headers else {}
    return json_response(error.status, encode_error(message, kind, param=None, code=None), kept)


def json_response(
    status: int, body: bytes, headers: Mapping[str, str] | None = None
) -> web.Response:
    """Returns a JSON response."""
    return web.Response(status=status, body=body, headers=headers, content_type="application/json")
