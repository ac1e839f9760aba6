"""What went wrong at a provider → what the client is told, in OpenAI's error shape.

A provider's 4xx keeps its status and body. 401 and 403 do not: the key is the operator's, and a
client that read them would blame its own.
"""

from collections.abc import Mapping

import msgspec

from pointsman.errors import ProviderError
from pointsman.json_text import JsonDecoder, RawObject
from pointsman.openai_error import encode_error
from pointsman.upstream.v1 import upstream_pb2 as pb
from services.upstream.models import Endpoint

RELAYED_HEADERS = frozenset({"retry-after", "retry-after-ms", "x-should-retry"})
RELAYED_PREFIX = "x-ratelimit-"

UNAUTHORIZED = "The model's provider refuses the operator's credentials. Your key is not at fault."
_LONGEST_QUOTE = 4000

# kind → (HTTP status for the client, outcome of the attempt)
STATUS_BY_KIND: dict[str, tuple[int, pb.AttemptOutcome.ValueType]] = {
    "provider_error": (502, pb.ATTEMPT_OUTCOME_UNAVAILABLE),
    "provider_unauthorized": (502, pb.ATTEMPT_OUTCOME_UNAUTHORIZED),
    "provider_unavailable": (502, pb.ATTEMPT_OUTCOME_UNAVAILABLE),
    "provider_timeout": (504, pb.ATTEMPT_OUTCOME_TIMEOUT),
    "provider_nonsense": (502, pb.ATTEMPT_OUTCOME_UNAVAILABLE),
}


class _Body(msgspec.Struct):
    error: RawObject


_decoder = JsonDecoder[_Body | tuple[_Body]](_Body | tuple[_Body])


def body_for(error: ProviderError) -> bytes:
    """Returns what the client is told of a provider that could not be used."""
    return encode_error(error.message, "provider_error", param=None, code=error.kind)


def refusal(
    status: int, headers: dict[str, str], body: bytes, endpoint: Endpoint
) -> tuple[int, dict[str, str], bytes]:
    """Returns the client's status, headers and body for a provider's status of 400 or more."""
    if status in (401, 403):
        told = encode_error(
            UNAUTHORIZED, "provider_error", param=None, code="provider_unauthorized"
        )
        return 502, {**headers, "x-should-retry": "false"}, told
    return status, headers, in_openai_shape(status, without_key(body, endpoint))


def in_openai_shape(status: int, body: bytes) -> bytes:
    """Returns the body as it came if it has OpenAI's shape, else its text in that shape.

    Gemini's compatible endpoint puts the right shape into a list of one.
    """
    try:
        read = _decoder.decode(body)
        return msgspec.json.encode(read[0]) if isinstance(read, tuple) else body
    except ValueError:
        pass  # an HTML page, a plain text, FastAPI's {"detail": ...}: the text is the message
    text = body.decode("utf-8", "replace").strip()[:_LONGEST_QUOTE]
    kind = "invalid_request_error" if status < 500 else "server_error"
    return encode_error(text or f"The provider answered {status}.", kind, param=None, code=None)


def reported(body: bytes, endpoint: Endpoint) -> bytes:
    """Returns what the client is told of an error that came with status 200."""
    return without_key(in_openai_shape(502, body), endpoint)


def relayed(headers: Mapping[str, str]) -> dict[str, str]:
    """Returns the response headers that the client acts on, in lower case."""
    return {
        name: value
        for name, value in ((n.lower(), v) for n, v in headers.items())
        if (name in RELAYED_HEADERS or name.startswith(RELAYED_PREFIX))
        and value.isascii()
        and value.isprintable()
    }


def outcome_of(status: int) -> pb.AttemptOutcome.ValueType:
    """Returns how an attempt with this status ended."""
    if status < 400:
        return pb.ATTEMPT_OUTCOME_OK
    if status in (401, 403):
        return pb.ATTEMPT_OUTCOME_UNAUTHORIZED
    if status == 429:
        return pb.ATTEMPT_OUTCOME_THROTTLED
    return pb.ATTEMPT_OUTCOME_REJECTED if status < 500 else pb.ATTEMPT_OUTCOME_UNAVAILABLE


def without_key(body: bytes, endpoint: Endpoint) -> bytes:
    """Returns the body without the operator's key or token, should a provider quote it."""
    secret = endpoint.key.reveal() or endpoint.authenticate.token
    return body.replace(secret.encode(), b"***") if secret else body
