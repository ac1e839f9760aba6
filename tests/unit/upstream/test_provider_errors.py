"""What clients are told of a provider's trouble, in the shape their SDK can read."""

import json
from collections.abc import Callable
from typing import Any

import pytest

from pointsman.errors import (
    ProviderError,
    ProviderNonsense,
    ProviderTimeout,
    ProviderUnauthorized,
    ProviderUnavailable,
)
from pointsman.upstream.v1 import upstream_pb2 as pb
from services.upstream.models import Endpoint
from services.upstream.provider_errors import (
    STATUS_BY_KIND,
    body_for,
    in_openai_shape,
    outcome_of,
    refusal,
    relayed,
    reported,
    without_key,
)


def error_in(body: bytes) -> dict[str, Any]:
    """Reads an error body and checks its four keys."""
    error: dict[str, Any] = json.loads(body)["error"]
    assert set(error) == {"message", "type", "param", "code"}
    return error


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (ProviderUnavailable("gone"), "provider_unavailable"),
        (ProviderTimeout("gone", budget="idle"), "provider_timeout"),
        (ProviderNonsense("gone"), "provider_nonsense"),
        (ProviderUnauthorized("gone"), "provider_unauthorized"),
        (ProviderError("gone"), "provider_error"),
    ],
)
def test_a_provider_that_cannot_be_used_has_a_code(error: Any, code: str) -> None:
    """`except APIStatusError as e: e.code` is how a client tells them apart."""
    assert error_in(body_for(error)) == {
        "message": "gone",
        "type": "provider_error",
        "param": None,
        "code": code,
    }


@pytest.mark.parametrize("status", [401, 403])
def test_a_refused_key_is_the_operators_trouble(
    endpoint: Callable[..., Endpoint], status: int
) -> None:
    """A client that read 401 would blame, or throw away, its own key."""
    quoted = b'{"error":{"message":"Incorrect API key sk-ab***"}}'
    told, headers, body = refusal(status, {"retry-after": "1"}, quoted, endpoint())
    error = error_in(body)
    assert headers == {"retry-after": "1", "x-should-retry": "false"}
    assert (told, error["code"]) == (502, "provider_unauthorized")
    assert "sk-ab" not in error["message"]


@pytest.mark.parametrize("status", [400, 404, 409, 422, 429, 500, 503, 529])
def test_any_other_refusal_keeps_status_and_body(
    endpoint: Callable[..., Endpoint], status: int
) -> None:
    """The client's SDK knows what to do with its provider's own errors."""
    body = b'{"error": {"message": "no", "extra": 1, "half": "\\ud83d"}, "request_id": 7}'
    headers = {"retry-after": "1"}
    assert refusal(status, headers, body, endpoint()) == (status, headers, body)


def test_a_number_beyond_all_bounds_is_no_other_shape() -> None:
    """Of the body only `error` is looked at; all else in it is the provider's business."""
    body = b'{"error": {"message": "no", "spent": 1e400}}'
    assert in_openai_shape(400, body) == body


@pytest.mark.parametrize(
    "body",
    [b'{"detail":"Not Found"}', b'{"error":"text"}', b"<html>Bad Gateway</html>", b"[]", b'"no"'],
)
def test_another_shape_becomes_the_message(body: bytes) -> None:
    """FastAPI's and nginx's words would be lost in the official client."""
    error = error_in(in_openai_shape(404, body))
    assert error["message"] == body.decode()
    assert (error["type"], error["code"]) == ("invalid_request_error", None)


def test_an_empty_body_still_has_a_message() -> None:
    """An error without words is told by its status."""
    error = error_in(in_openai_shape(503, b" \n"))
    assert "503" in error["message"]
    assert error["type"] == "server_error"


def test_a_long_page_is_cut() -> None:
    """Nobody wants a web page in an exception."""
    assert len(error_in(in_openai_shape(500, b"x" * 100_000))["message"]) == 4000


@pytest.mark.parametrize("body", [b"\xff\xfe", b"caf\xe9", b"[" * 100_000, b'{"error": NaN}'])
def test_no_body_breaks_the_telling(body: bytes) -> None:
    """A provider in trouble sends anything."""
    assert error_in(in_openai_shape(500, body))["message"]


def test_a_key_that_a_provider_quotes_goes_no_further(endpoint: Callable[..., Endpoint]) -> None:
    """Some providers repeat the key that they refuse."""
    one = endpoint(key="sk-1234")
    assert without_key(b"bad key sk-1234, sk-1234", one) == b"bad key ***, ***"
    _, _, body = refusal(400, {}, b'{"error": {"message": "key sk-1234"}}', one)
    assert b"sk-1234" not in body


def test_without_a_key_nothing_is_hidden(endpoint: Callable[..., Endpoint]) -> None:
    """An empty key is in every text."""
    assert without_key(b"as it was", endpoint(key=None)) == b"as it was"


@pytest.mark.parametrize(
    ("status", "outcome"),
    [
        (200, pb.ATTEMPT_OUTCOME_OK),
        (399, pb.ATTEMPT_OUTCOME_OK),
        (400, pb.ATTEMPT_OUTCOME_REJECTED),
        (401, pb.ATTEMPT_OUTCOME_UNAUTHORIZED),
        (403, pb.ATTEMPT_OUTCOME_UNAUTHORIZED),
        (404, pb.ATTEMPT_OUTCOME_REJECTED),
        (429, pb.ATTEMPT_OUTCOME_THROTTLED),
        (500, pb.ATTEMPT_OUTCOME_UNAVAILABLE),
        (503, pb.ATTEMPT_OUTCOME_UNAVAILABLE),
    ],
)
def test_an_attempts_outcome_follows_its_status(
    status: int, outcome: pb.AttemptOutcome.ValueType
) -> None:
    """Dashboards count by it, and it says whether the key is refused."""
    assert outcome_of(status) == outcome


def test_every_kind_has_a_status_that_blames_the_provider() -> None:
    """A kind without one would be a fault of ours at the moment when a provider fails."""
    assert STATUS_BY_KIND.keys() == {
        ProviderError.kind,
        *(one.kind for one in ProviderError.__subclasses__()),
    }
    assert {status for status, _ in STATUS_BY_KIND.values()} == {502, 504}


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b'{"error": {"message": "no, sk-1234"}}', "no, ***"),
        (b'{"error": "no, sk-1234"}', '{"error": "no, ***"}'),
    ],
)
def test_an_error_with_status_200_is_told_in_openais_shape(
    endpoint: Callable[..., Endpoint], body: bytes, message: str
) -> None:
    """OpenRouter reports a failing provider so; a client must not take it for an answer."""
    assert json.loads(reported(body, endpoint(key="sk-1234")))["error"]["message"] == message


def test_only_headers_that_clients_act_on_go_further() -> None:
    """Limits are the provider's and of use; cookies and names of machines are nobody's business."""
    headers = {
        "Retry-After": "1",
        "X-RateLimit-Remaining-Tokens": "7",
        "x-should-retry": "caf\xe9",
        "set-cookie": "a=b",
        "server": "acme",
    }
    assert relayed(headers) == {"retry-after": "1", "x-ratelimit-remaining-tokens": "7"}
