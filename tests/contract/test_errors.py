"""Every error kind has its place in every table, and every place is an error's."""

import json

import grpc
import pytest

from pointsman import errors
from pointsman.chassis.grpc_status import STATUS_BY_KIND
from services.gateway import completion, openai_errors, scoring
from services.upstream import provider_errors

CLASSES = [
    value
    for value in vars(errors).values()
    if isinstance(value, type) and issubclass(value, errors.PointsmanError)
]
KINDS = {value.kind for value in CLASSES}


def test_kinds_are_unique() -> None:
    """A kind stands for one class, or the tables would be ambiguous."""
    assert len(KINDS) == len(CLASSES)


def test_every_kind_has_a_grpc_status_and_no_other_has() -> None:
    """The gRPC table is complete and has no dead rows."""
    assert STATUS_BY_KIND.keys() == KINDS
    assert grpc.StatusCode.OK not in STATUS_BY_KIND.values()


def test_every_kind_has_an_http_status_and_no_other_has() -> None:
    """The HTTP table is complete and has no dead rows."""
    assert openai_errors.HTTP_BY_KIND.keys() == KINDS
    assert all(400 <= http.status < 600 for http in openai_errors.HTTP_BY_KIND.values())


def test_every_provider_kind_has_a_status_for_the_client() -> None:
    """What a provider does wrong is told in a message, with a status of the 5xx kind."""
    providers = {c.kind for c in CLASSES if issubclass(c, errors.ProviderError)}
    assert provider_errors.STATUS_BY_KIND.keys() == providers
    assert all(status >= 500 for status, _ in provider_errors.STATUS_BY_KIND.values())


@pytest.mark.parametrize("table", [scoring.ERRORS_BY_STATUS, completion.ERRORS_BY_STATUS])
def test_every_grpc_status_means_an_error_to_the_gateway(
    table: dict[grpc.StatusCode, type[errors.PointsmanError]],
) -> None:
    """Whatever status arrives, the gateway knows what to say; OK is none."""
    assert table.keys() == set(grpc.StatusCode) - {grpc.StatusCode.OK}


@pytest.mark.parametrize(
    ("table", "kinds"),
    [
        (
            scoring.ERRORS_BY_STATUS,
            {
                "invalid_request",
                "unknown_router",
                "router_not_ready",
                "overloaded",
                "deadline_exceeded",
                "scorer_unavailable",
            },
        ),
        (
            completion.ERRORS_BY_STATUS,
            {
                "invalid_request",
                "unknown_model",
                "overloaded",
                "deadline_exceeded",
                "upstream_unavailable",
            },
        ),
    ],
)
def test_what_a_service_says_survives_the_wire(
    table: dict[grpc.StatusCode, type[errors.PointsmanError]], kinds: set[str]
) -> None:
    """There and back: the kind a service raises is the kind the gateway sees."""
    for kind in kinds:
        assert table[STATUS_BY_KIND[kind]].kind == kind


@pytest.mark.parametrize("error_class", CLASSES)
def test_every_error_has_openais_shape(error_class: type[errors.PointsmanError]) -> None:
    """All four keys, always; clients read them without asking whether they are there."""
    error = error_class("What is wrong, and what to do.")
    body = json.loads(openai_errors.error_object(error))
    assert body.keys() == {"error"}
    assert body["error"].keys() == {"message", "type", "param", "code"}
    assert body["error"]["message"] == "What is wrong, and what to do."
