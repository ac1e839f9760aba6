"""Decision and completion → headers that say why, and bytes as they came."""

import json
import math
from collections.abc import Sequence

import pytest
from aiohttp import web
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry

from pointsman.upstream.v1 import upstream_pb2 as pb
from services.gateway import responses
from services.gateway.access import Record
from services.gateway.metrics import GatewayMetrics
from services.gateway.scoring import Decision

ROUTED = Decision(
    router="mf",
    threshold=0.3,
    choice="strong",
    model="big",
    strong_win_rate=0.30000000000000004,
    revision="r1",
)
FALLEN_BACK = Decision(
    router="mf", threshold=0.3, choice="weak", model="small", fallback="scorer_unavailable"
)


METRICS = GatewayMetrics(CollectorRegistry())


def headers_of(
    decision: Decision | None, model: str, fallbacks: Sequence[str] = (), reason: str = "win_rate"
) -> dict[str, str]:
    """Returns the headers of a request of which this is known."""
    record = Record("id", METRICS, float, reason=reason, decision=decision)
    record.fallbacks = list(fallbacks)
    return responses.routing_headers(record, model)


def test_a_routed_answer_says_why() -> None:
    """Everything a client needs to understand, or to repeat, the decision."""
    assert headers_of(ROUTED, "big") == {
        "x-pointsman-router": "mf",
        "x-pointsman-threshold": "0.3",
        "x-pointsman-strong-win-rate": "0.30000000000000004",
        "x-pointsman-decision": "strong",
        "x-pointsman-model": "big",
        "x-pointsman-revision": "r1",
        "x-pointsman-reason": "win_rate",
    }


def test_an_answer_without_a_prediction_says_so() -> None:
    """A made-up win rate would end up in somebody's statistics."""
    assert headers_of(FALLEN_BACK, "small", ["scorer_unavailable"], "fallback") == {
        "x-pointsman-reason": "fallback",
        "x-pointsman-router": "mf",
        "x-pointsman-threshold": "0.3",
        "x-pointsman-decision": "weak",
        "x-pointsman-model": "small",
        "x-pointsman-fallback": "scorer_unavailable",
    }


def test_a_model_that_was_named_has_only_its_name_and_that() -> None:
    """Nothing was routed, and it says so."""
    assert headers_of(None, "big", reason="direct") == {
        "x-pointsman-model": "big",
        "x-pointsman-reason": "direct",
    }


def test_an_answer_by_another_model_says_whose_and_why() -> None:
    """A decision for one model and an answer by another would look like a fault of the router."""
    headers = headers_of(FALLEN_BACK, "big", ["scorer_unavailable", "throttled"])
    assert headers["x-pointsman-decision"] == "weak"
    assert headers["x-pointsman-model"] == "big"
    assert headers["x-pointsman-fallback"] == "scorer_unavailable,throttled"
    assert headers_of(None, "big", ["timeout"], "rule:long") == {
        "x-pointsman-reason": "rule:long",
        "x-pointsman-model": "big",
        "x-pointsman-fallback": "timeout",
    }


@given(st.floats(0.0, 1.0))
def test_a_win_rate_reads_back_as_exactly_the_same(rate: float) -> None:
    """A threshold copied from a header decides as the header says."""
    decision = Decision(router="mf", threshold=0.5, choice="weak", model="m", strong_win_rate=rate)
    shown = headers_of(decision, "m")["x-pointsman-strong-win-rate"]
    assert float(shown) == rate
    assert math.copysign(1, float(shown)) == math.copysign(1, rate)


def test_a_win_rate_of_zero_is_shown() -> None:
    """Zero is a prediction; None is none."""
    decision = Decision(router="mf", threshold=0.5, choice="weak", model="m", strong_win_rate=0.0)
    assert headers_of(decision, "m")["x-pointsman-strong-win-rate"] == "0.0"


@given(st.text(st.characters(exclude_categories=())))
def test_any_models_name_can_stand_in_a_header(model: str) -> None:
    """Names come from the models file, in whatever language."""
    shown = headers_of(None, model)["x-pointsman-model"]
    assert shown.isascii()
    assert shown.isprintable()


@pytest.mark.parametrize("revision", ["a\nb", "a\r\nx-evil: 1", "ünï", "\ud83d"])
def test_any_revision_can_stand_in_a_header(revision: str) -> None:
    """Another team's router says what its revision is."""
    decision = Decision(
        router="mf", threshold=0.5, choice="weak", model="m", strong_win_rate=0.1, revision=revision
    )
    shown = headers_of(decision, "m")["x-pointsman-revision"]
    assert shown.isascii()
    assert shown.isprintable()


def test_a_whole_answer_keeps_status_body_and_headers() -> None:
    """The provider's answer, with our headers beside it."""
    answer = pb.CompleteResponse(status=429, body=b'{ "a": 1}', headers={"retry-after": "7"})
    response = responses.whole(answer, {"x-pointsman-model": "big"})
    assert (response.status, response.body) == (429, b'{ "a": 1}')
    assert response.content_type == "application/json"
    assert response.headers["retry-after"] == "7"
    assert response.headers["x-pointsman-model"] == "big"


def test_our_headers_are_not_the_providers_to_set() -> None:
    """What a client reads of the decision is ours."""
    answer = pb.CompleteResponse(status=200, headers={"x-pointsman-model": "fake"})
    response = responses.whole(answer, {"x-pointsman-model": "big"})
    assert response.headers.getall("x-pointsman-model") == ["big"]


def test_a_stream_that_never_began_is_an_ordinary_error() -> None:
    """Before the first byte there is still a status."""
    head = pb.StreamHead(status=400, body=b'{"error":{}}', headers={"retry-after": "7"})
    response = responses.refused(head, {"x-pointsman-model": "big"})
    assert (response.status, response.body) == (400, b'{"error":{}}')
    assert response.content_type == "application/json"
    assert response.headers["x-pointsman-model"] == "big"


def test_an_event_stream_is_neither_cached_nor_held_back() -> None:
    """A proxy in front must not turn a stream into a wait."""
    response = responses.event_stream(
        pb.StreamHead(status=200, headers={"x-ratelimit-limit": "5"}), {"x-pointsman-model": "big"}
    )
    assert isinstance(response, web.StreamResponse)
    assert (response.status, response.content_type) == (200, "text/event-stream")
    assert response.headers["cache-control"] == "no-cache"
    assert response.headers["x-accel-buffering"] == "no"
    assert response.headers["x-ratelimit-limit"] == "5"
    assert "content-length" not in response.headers


@pytest.mark.parametrize("error", [b'{"error":{}}', b'{\n "error":\r\n{}}'])
def test_an_error_is_one_event(error: bytes) -> None:
    """A provider's error may be written in several lines; an event may not."""
    event = responses.error_event(error)
    assert event.startswith(b"data: ")
    assert event.endswith(b"\n\n")
    assert event.count(b"\n") == 2
    assert b"\r" not in event
    assert json.loads(event.removeprefix(b"data: ")) == {"error": {}}
