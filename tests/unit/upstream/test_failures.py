"""What a provider's refusal means: ask again, elsewhere, another model, or tell the client."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pointsman.errors import (
    ProviderError,
    ProviderNonsense,
    ProviderTimeout,
    ProviderUnauthorized,
    ProviderUnavailable,
)
from pointsman.upstream.v1 import upstream_pb2 as pb
from services.upstream.failures import (
    REQUESTS_FAULT,
    Failure,
    failure_by_error,
    failure_by_status,
    meaning,
)

UNAVAILABLE = pb.FALLBACK_REASON_PROVIDER_UNAVAILABLE
THROTTLED = pb.FALLBACK_REASON_THROTTLED
TIMEOUT = pb.FALLBACK_REASON_TIMEOUT
TOO_LONG = Failure(reason=pb.FALLBACK_REASON_CONTEXT_LENGTH)


def error(message: str = "no", **fields: Any) -> bytes:
    """Returns an error in OpenAI's shape."""
    return json.dumps({"error": {"message": message, **fields}}).encode()


def failure(status: int, body: bytes = b"", **headers: str) -> Failure:
    """Returns what a status means."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return failure_by_status(status, named, body, None)


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        (400, REQUESTS_FAULT),
        (401, Failure(reason=UNAVAILABLE, elsewhere=True)),
        (402, Failure(reason=UNAVAILABLE)),
        (403, Failure(reason=UNAVAILABLE, elsewhere=True)),
        (404, Failure(reason=UNAVAILABLE)),
        (405, REQUESTS_FAULT),
        (408, Failure(reason=TIMEOUT, again=True, elsewhere=True, blame=True)),
        (409, Failure(reason=UNAVAILABLE, again=True, elsewhere=True)),
        (413, REQUESTS_FAULT),
        (418, REQUESTS_FAULT),
        (422, REQUESTS_FAULT),
        (429, Failure(reason=THROTTLED, again=True, elsewhere=True)),
        (500, Failure(reason=UNAVAILABLE, again=True, elsewhere=True, blame=True)),
        (501, Failure(reason=UNAVAILABLE, again=True, elsewhere=True, blame=True)),
        (502, Failure(reason=UNAVAILABLE, again=True, elsewhere=True, blame=True)),
        (503, Failure(reason=UNAVAILABLE, again=True, elsewhere=True, blame=True)),
        (504, Failure(reason=TIMEOUT, again=True, elsewhere=True, blame=True)),
        (529, Failure(reason=UNAVAILABLE, again=True, elsewhere=True, blame=True)),
    ],
)
def test_a_status_says_what_may_be_done(status: int, expected: Failure) -> None:
    """The one table that everything else follows; Anthropic's 529 is an overload like 503."""
    assert failure(status, error()) == expected


@pytest.mark.parametrize("status", [408, 409, 429, 500, 503])
def test_a_provider_may_forbid_to_ask_again(status: int) -> None:
    """`x-should-retry: false` is OpenAI's; another endpoint may be asked all the same."""
    refused = failure(status, error(), x_should_retry="false")
    assert (refused.again, refused.elsewhere) == (False, True)
    assert failure(status, error(), x_should_retry="true").again


@pytest.mark.parametrize("status", [429, 500, 503])
def test_what_the_provider_wants_is_kept(status: int) -> None:
    """It is waited for instead of a wait of our own."""
    assert failure_by_status(status, {}, b"", 7.0).retry_after_seconds == 7.0


@pytest.mark.parametrize(
    "body",
    [
        error("You exceeded your current quota", code="insufficient_quota"),
        error("You exceeded your current quota", type="insufficient_quota"),
        error("Billing hard limit has been reached", code="billing_hard_limit_reached"),
    ],
)
def test_an_empty_purse_is_not_asked_again(body: bytes) -> None:
    """The same 429 as too many requests, and no wait will help; another account may."""
    assert failure(429, body) == Failure(reason=THROTTLED, elsewhere=True)


TOO_LONG_BODIES = {
    "openai": error(
        "This model's maximum context length is 128000 tokens. However, your messages resulted in "
        "150000 tokens.",
        type="invalid_request_error",
        param="messages",
        code="context_length_exceeded",
    ),
    "openai, by code alone": error("no", code="context_length_exceeded"),
    "openai, one string": error("string too long", code="string_above_max_length"),
    "vllm": error(
        "This model's maximum context length is 4096 tokens. However, you requested 5000 tokens in "
        "the messages, Please reduce the length of the messages.",
        type="BadRequestError",
        code=400,
    ),
    "vllm 0.8 and later": error(
        "The decoder prompt (length 5000) is longer than the maximum model length of 4096. Make "
        "sure that `max_model_len` is no smaller than the number of text tokens.",
        type="BadRequestError",
        code=400,
    ),
    "anthropic": error(
        "prompt is too long: 205000 tokens > 200000 maximum", type="invalid_request_error"
    ),
    "anthropic, with max_tokens": error(
        "input length and `max_tokens` exceed context limit: 199000 + 8192 > 200000"
    ),
    "gemini": error(
        "The input token count (1200000) exceeds the maximum number of tokens allowed (1048576).",
        code=400,
        status="INVALID_ARGUMENT",
    ),
    "gemini, in a list": b"["
    + error("The input token count exceeds the maximum number of tokens allowed (1048576).")
    + b"]",
    "together": error(
        "Input validation error: `inputs` tokens + `max_new_tokens` must be <= 4097. Given: 5000 "
        "`inputs` tokens and 512 `max_new_tokens`",
        type="invalid_request_error",
    ),
    "llama.cpp": error(
        "the request exceeds the available context size, try increasing it",
        type="exceed_context_size_error",
        code=400,
    ),
}


@pytest.mark.parametrize("body", TOO_LONG_BODIES.values(), ids=TOO_LONG_BODIES)
def test_a_prompt_that_is_too_long_is_told_from_other_mistakes(body: bytes) -> None:
    """It is the one mistake of a request's that another model can mend; everybody words it."""
    assert failure(400, body) == TOO_LONG
    assert failure(413, body) == TOO_LONG


def test_a_number_that_is_too_large_is_not_a_prompt_that_is_too_long() -> None:
    """A fallback would refuse it too, and the client would read the wrong model's words."""
    body = error("max_tokens is too large: 999999", param="max_tokens", code="invalid_value")
    assert failure(400, body) is REQUESTS_FAULT


@pytest.mark.parametrize(
    "body",
    [
        error("The response was filtered", code="content_filter"),
        error("Your request was rejected as a result of our safety system", type="image_error"),
        error("Unrecognized request argument supplied: foo"),
    ],
)
def test_what_no_model_would_take_stays_with_its_sender(body: bytes) -> None:
    """A filtered prompt is not to be shopped around until somebody answers."""
    assert failure(400, body) is REQUESTS_FAULT


@pytest.mark.parametrize(
    ("status", "message", "expected"),
    [
        (403, "Your chosen model requires moderation and your input was flagged", 400),
        (403, "Input was FLAGGED for violence", 400),
        (403, "You do not have access to model gpt-9", 403),
        (401, "Moderation is not for this key", 401),
        (500, "moderation failed", 500),
    ],
)
def test_a_flagged_prompt_is_not_a_refused_key(status: int, message: str, expected: int) -> None:
    """OpenRouter says 403 to both; one would take the endpoint out for a minute."""
    assert meaning(status, error(message)) == expected


@pytest.mark.parametrize("repeatable", [True, False])
@pytest.mark.parametrize(
    ("broken", "reason", "again", "blame"),
    [
        (ProviderUnavailable("gone"), UNAVAILABLE, True, True),
        (ProviderNonsense("what?"), UNAVAILABLE, False, True),
        (ProviderTimeout("late", budget="connect"), TIMEOUT, False, True),
        (ProviderTimeout("late", budget="total"), TIMEOUT, False, True),
        (ProviderUnauthorized("who?"), UNAVAILABLE, False, False),
    ],
)
def test_only_a_connection_that_broke_is_tried_again(
    broken: ProviderError,
    reason: pb.FallbackReason.ValueType,
    again: bool,
    blame: bool,
    repeatable: bool,
) -> None:
    """What was slow once would be slow again, and what a client has seen cannot be unsaid."""
    assert failure_by_error(broken, repeatable=repeatable) == Failure(
        reason=reason, again=again and repeatable, elsewhere=True, blame=blame
    )


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=6,
)
BODIES = (
    st.binary(max_size=40)
    | JSON.map(json.dumps).map(str.encode)
    | st.dictionaries(st.sampled_from(["code", "type", "message"]), JSON).map(
        lambda fields: json.dumps({"error": fields}).encode()
    )
)


@given(st.integers(400, 599), BODIES, st.none() | st.floats(0, 1e9))
def test_no_body_is_a_fault_of_ours(status: int, body: bytes, retry_after: float | None) -> None:
    """Whatever a provider in trouble sends, something can be done about it or nothing."""
    for one in (status, meaning(status, body)):
        found = failure_by_status(one, {}, body, retry_after)
        assert not (found.again and not found.elsewhere)
