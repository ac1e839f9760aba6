"""What a peer's status means to us, and what of ours a peer is told."""

import grpc
import pytest

from pointsman.chassis.grpc_status import STATUS_BY_KIND, error_from_rpc, errors_by_status
from pointsman.errors import (
    DeadlineExceeded,
    InvalidRequest,
    Overloaded,
    PointsmanError,
    RouterNotReady,
    ScorerUnavailable,
    UnknownRouter,
)

Code = grpc.StatusCode
SCORER = errors_by_status(
    not_found=UnknownRouter, unavailable=ScorerUnavailable, not_ready=RouterNotReady
)


def failed(code: grpc.StatusCode, details: str | None) -> grpc.aio.AioRpcError:
    """An rpc's failure as grpc.aio raises it."""
    return grpc.aio.AioRpcError(code, grpc.aio.Metadata(), grpc.aio.Metadata(), details)


@pytest.mark.parametrize(
    ("code", "meaning"),
    [
        (Code.INVALID_ARGUMENT, InvalidRequest),
        (Code.NOT_FOUND, UnknownRouter),
        (Code.FAILED_PRECONDITION, RouterNotReady),
        (Code.RESOURCE_EXHAUSTED, Overloaded),
        (Code.DEADLINE_EXCEEDED, DeadlineExceeded),
        (Code.UNAVAILABLE, ScorerUnavailable),
        (Code.INTERNAL, ScorerUnavailable),
        (Code.UNKNOWN, ScorerUnavailable),
        (Code.CANCELLED, ScorerUnavailable),
    ],
)
def test_each_status_stands_for_one_error(
    code: grpc.StatusCode, meaning: type[PointsmanError]
) -> None:
    """Whoever calls a service can tell a client's mistake from a service in trouble."""
    error = error_from_rpc(failed(code, "in the service's words"), SCORER)
    assert type(error) is meaning
    assert error.message == "in the service's words"


@pytest.mark.parametrize("details", [None, ""])
def test_a_failure_without_words_still_has_a_message(details: str | None) -> None:
    """An empty message would be an empty error for the client."""
    assert error_from_rpc(failed(Code.UNAVAILABLE, details), SCORER).message == "UNAVAILABLE"


def test_only_ok_means_nothing() -> None:
    """A status that nobody foresaw must not be a KeyError."""
    assert set(SCORER) == set(grpc.StatusCode) - {Code.OK}


@pytest.mark.parametrize("kind", ["unknown_router", "router_not_ready", "overloaded"])
def test_what_the_scorer_says_is_what_the_gateway_hears(kind: str) -> None:
    """The two tables are each other's inverse where the gateway acts on the difference."""
    assert SCORER[STATUS_BY_KIND[kind]].kind == kind
