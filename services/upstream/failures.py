"""Statuses and broken connections → what may be done about them; who does it is `failover`."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import msgspec

from pointsman.errors import ProviderError
from pointsman.json_text import JsonDecoder
from pointsman.upstream.v1 import upstream_pb2 as pb

_QUOTA_CODES = ("insufficient_quota", "billing_hard_limit_reached")
_CONTEXT_CODES = ("context_length_exceeded", "string_above_max_length")
_CONTEXT_WORDS = (  # as OpenAI, vLLM, Anthropic, Gemini, Together and llama.cpp put it
    "context length",
    "context window",
    "context limit",
    "context size",
    "maximum model length",
    "prompt is too long",
    "exceeds the maximum number of tokens",
    "tokens + `max_new_tokens` must be",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """Why there is no answer, and what may be done about it."""

    reason: pb.FallbackReason.ValueType
    """Why the model is left for a fallback; unspecified if it must not be: the request is at
    fault, and its sender has to hear of it."""
    again: bool = False
    """Whether the same endpoint may be asked once more."""
    elsewhere: bool = False
    """Whether another endpoint of the same model may be asked."""
    blame: bool = False
    """Whether it counts against the endpoint."""
    retry_after_seconds: float | None = None
    """How long the provider wants to be left alone."""


REQUESTS_FAULT = Failure(reason=pb.FALLBACK_REASON_UNSPECIFIED)
"""What no other model would take either."""


class _Error(msgspec.Struct):
    code: Any = None
    type: Any = None
    message: Any = None


class _Body(msgspec.Struct):
    error: _Error


_decoder = JsonDecoder[_Body | list[_Body]](_Body | list[_Body])


def meaning(status: int, body: bytes) -> int:
    """Returns the status that OpenAI would have given.

    OpenRouter says 403 of a prompt that moderation has flagged; a refused key it is not.
    """
    message = str(_error_in(body).message).lower()
    return 400 if status == 403 and ("moderation" in message or "flagged" in message) else status


def failure_by_status(
    status: int, headers: Mapping[str, str], body: bytes, retry_after_seconds: float | None
) -> Failure:
    """Returns what an HTTP status of 400 or more means.

    Args:
        status: The provider's.
        headers: The provider's, names in lower case.
        body: The provider's.
        retry_after_seconds: What the provider wants.
    """
    unavailable = pb.FALLBACK_REASON_PROVIDER_UNAVAILABLE
    again = headers.get("x-should-retry", "").lower() != "false"
    if status == 429:
        return Failure(
            reason=pb.FALLBACK_REASON_THROTTLED,
            again=again and not _out_of_money(body),
            elsewhere=True,
            retry_after_seconds=retry_after_seconds,
        )
    if status >= 500 or status in (408, 409):
        return Failure(
            reason=pb.FALLBACK_REASON_TIMEOUT if status in (408, 504) else unavailable,
            again=again,
            elsewhere=True,
            blame=status != 409,
            retry_after_seconds=retry_after_seconds,
        )
    if status in (401, 403):
        return Failure(reason=unavailable, elsewhere=True)
    if status in (402, 404):  # no money, no such model: the operator's trouble, not the request's
        return Failure(reason=unavailable)
    if status in (400, 413) and _is_too_long(body):
        return Failure(reason=pb.FALLBACK_REASON_CONTEXT_LENGTH)
    return REQUESTS_FAULT


def failure_by_error(error: ProviderError, *, repeatable: bool) -> Failure:
    """Returns what a call without a usable answer means.

    Args:
        error: What went wrong.
        repeatable: Whether a call that broke may be made again: the provider had not yet said
            anything, or nobody has seen it. One that timed out may not: it would be slow again.
    """
    timeout = error.kind == "provider_timeout"
    unauthorized = error.kind == "provider_unauthorized"
    return Failure(
        reason=pb.FALLBACK_REASON_TIMEOUT if timeout else pb.FALLBACK_REASON_PROVIDER_UNAVAILABLE,
        again=repeatable and error.kind == "provider_unavailable",
        elsewhere=True,
        blame=not unauthorized,
    )


def _is_too_long(body: bytes) -> bool:
    error = _error_in(body)
    if error.code in _CONTEXT_CODES or error.type in _CONTEXT_CODES:
        return True
    return any(words in str(error.message).lower() for words in _CONTEXT_WORDS)


def _out_of_money(body: bytes) -> bool:
    error = _error_in(body)
    return error.code in _QUOTA_CODES or error.type in _QUOTA_CODES


def _error_in(body: bytes) -> _Error:
    try:
        read = _decoder.decode(body)
    except ValueError:
        return _Error()
    if isinstance(read, list):  # Gemini's OpenAI-compatible endpoint puts its error into a list
        return read[0].error if read else _Error()
    return read.error
