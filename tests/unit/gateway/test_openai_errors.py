"""Every error as the official client can read it."""

import json
from collections.abc import Iterator
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import make_mocked_request

from pointsman import errors
from pointsman.errors import (
    InvalidKey,
    InvalidRequest,
    KeyNotAllowed,
    PointsmanError,
    RequestTooLarge,
    UnknownModel,
)
from services.gateway.openai_errors import (
    HTTP_BY_KIND,
    INTERNAL_MESSAGE,
    error_object,
    error_response,
    http_exception_response,
    internal_error_response,
    json_response,
)


def error_of(response: web.Response) -> dict[str, Any]:
    """Reads a response's error and checks its shape."""
    assert response.content_type == "application/json"
    assert isinstance(response.body, bytes)
    (key,) = body = json.loads(response.body)
    assert key == "error"
    error: dict[str, Any] = body[key]
    assert set(error) == {"message", "type", "param", "code"}
    return error


def every_class(base: type[PointsmanError] = PointsmanError) -> Iterator[type[PointsmanError]]:
    """Yields the whole tree."""
    yield base
    for child in base.__subclasses__():
        if child.__module__ == errors.__name__:
            yield from every_class(child)


@pytest.mark.parametrize("kind", list(every_class()), ids=lambda kind: kind.__name__)
def test_every_error_is_an_http_error_in_openais_shape(kind: type[PointsmanError]) -> None:
    """None may fall through to a page of text that the official client cannot read."""
    limit = {"budget": "total"} if issubclass(kind, errors.ProviderTimeout) else {}
    response = error_response(kind("what went wrong", **limit))
    error = error_of(response)
    assert response.status == HTTP_BY_KIND[kind.kind].status
    assert error["message"] == "what went wrong"
    assert error["type"] == ("invalid_request_error" if response.status < 500 else "server_error")


def test_a_refused_key_is_told_as_openai_tells_it() -> None:
    """Clients raise AuthenticationError and PermissionDeniedError, and read the code."""
    refused, forbidden = error_response(InvalidKey("no")), error_response(KeyNotAllowed("no"))
    assert (refused.status, error_of(refused)["code"]) == (401, "invalid_api_key")
    assert refused.headers["www-authenticate"] == "Bearer"
    assert (forbidden.status, error_of(forbidden)["code"]) == (403, "key_not_allowed")
    assert "www-authenticate" not in forbidden.headers


def test_an_unknown_model_is_not_found_as_openai_says_it() -> None:
    """Clients test for `e.code == "model_not_found"`."""
    response = error_response(UnknownModel("gone"))
    assert response.status == 404
    assert error_of(response) | {"message": ""} == {
        "message": "",
        "type": "invalid_request_error",
        "param": "model",
        "code": "model_not_found",
    }


def test_a_mistake_names_its_field() -> None:
    """`e.param` says which one."""
    assert error_of(error_response(InvalidRequest("no", param="messages")))["param"] == "messages"
    assert error_of(error_response(InvalidRequest("no")))["param"] is None


def test_a_body_over_the_limit_is_413() -> None:
    """Not 400: clients shorten, and proxies know it."""
    assert error_response(RequestTooLarge("no")).status == 413


@pytest.mark.parametrize(
    ("kind", "should_retry"),
    [
        (errors.RouterNotReady, "false"),
        (errors.DeadlineExceeded, "false"),
        (errors.ProviderUnauthorized, "false"),
        (errors.Overloaded, None),
        (errors.ScorerUnavailable, None),
        (errors.UpstreamUnavailable, None),
        (errors.InvalidRequest, None),
    ],
)
def test_the_client_is_told_where_trying_again_is_useless(
    kind: type[PointsmanError], should_retry: str | None
) -> None:
    """The official client tries every 5xx twice more unless it is told not to."""
    assert error_response(kind("no")).headers.get("x-should-retry") == should_retry


def test_a_refusal_says_when_to_come_back() -> None:
    """Without it OpenAI's clients are back after half a second, and make the overload worse."""
    response = error_response(errors.Overloaded("later"))
    assert (response.status, response.headers["retry-after"]) == (503, "1")
    assert error_of(response)["code"] == "overloaded"
    assert "retry-after" not in error_response(errors.UpstreamUnavailable("no")).headers


def test_a_fault_of_ours_tells_no_detail() -> None:
    """The traceback is in the log, under the request id that the client has."""
    response = internal_error_response()
    assert response.status == 500
    assert error_of(response)["message"] == INTERNAL_MESSAGE


@pytest.mark.parametrize("message", ["two\nlines", 'a "quote"', "ünï", "\x00"])
def test_any_message_is_json(message: str) -> None:
    """Messages quote what clients sent."""
    assert json.loads(error_object(PointsmanError(message)))["error"]["message"] == message


def test_an_unknown_path_is_told_what_there_is() -> None:
    """A base URL without `/v1` is the commonest mistake of all."""
    request = make_mocked_request("POST", "/chat/completions")
    response = http_exception_response(request, web.HTTPNotFound())
    message = error_of(response)["message"]
    assert response.status == 404
    assert "POST /chat/completions" in message
    assert "/v1/chat/completions" in message


def test_a_wrong_method_is_told_the_right_one() -> None:
    """`allow` is what HTTP says must be there."""
    request = make_mocked_request("GET", "/v1/chat/completions")
    response = http_exception_response(request, web.HTTPMethodNotAllowed("GET", ["POST"]))
    assert (response.status, response.headers["allow"]) == (405, "POST")
    assert error_of(response)["type"] == "invalid_request_error"


def test_aiohttps_own_faults_are_server_errors() -> None:
    """The type follows the status, whoever raised it."""
    request = make_mocked_request("GET", "/")
    response = http_exception_response(request, web.HTTPServiceUnavailable())
    assert (response.status, error_of(response)["type"]) == (503, "server_error")


def test_a_json_response_says_that_it_is_one() -> None:
    """The official client does not parse bodies of other types."""
    response = json_response(200, b"{}", {"x-a": "b"})
    assert (response.status, response.content_type, response.headers["x-a"]) == (
        200,
        "application/json",
        "b",
    )
