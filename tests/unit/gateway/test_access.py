"""Round every request: its id, its error, its one line in the log."""

import asyncio
import itertools
import json
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, cast

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from prometheus_client import CollectorRegistry

from pointsman.errors import InvalidRequest, Overloaded
from pointsman.upstream.v1 import upstream_pb2 as pb
from services.gateway.access import (
    REQUEST_ID,
    Record,
    new_request_id,
    recorded,
    show_request_id,
    with_openai_errors,
    with_request_id,
)
from services.gateway.metrics import FALLBACKS, GatewayMetrics, fallback_label
from services.gateway.openai_errors import INTERNAL_MESSAGE
from services.gateway.request import accepted_request_id
from services.gateway.scoring import Decision

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
DECISION = Decision(
    router="mf", threshold=0.3, choice="strong", model="big", strong_win_rate=0.75, revision="r1"
)


@pytest.fixture
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    """A client."""
    async with aiohttp.ClientSession() as session:
        yield session


@pytest.fixture
async def serving() -> AsyncIterator[Callable[[Handler], Awaitable[str]]]:
    """Serves a handler behind the gateway's middlewares; returns its URL."""
    servers: list[TestServer] = []

    async def serve(handler: Handler) -> str:
        app = web.Application(middlewares=[with_request_id, with_openai_errors])
        app.on_response_prepare.append(show_request_id)
        app.router.add_get("/", handler)
        servers.append(TestServer(app))
        await servers[-1].start_server()
        return str(servers[-1].make_url("/"))

    yield serve
    for server in servers:
        await server.close()


async def tell_id(request: web.Request) -> web.Response:
    """Answers with the id that the handler sees."""
    return web.Response(text=request[REQUEST_ID])


async def test_the_clients_request_id_is_kept(
    serving: Callable[[Handler], Awaitable[str]], session: aiohttp.ClientSession
) -> None:
    """It has it in its own logs."""
    url = await serving(tell_id)
    async with session.get(url, headers={"x-request-id": "mine-1"}) as response:
        assert await response.text() == "mine-1"
        assert response.headers.getall("x-request-id") == ["mine-1"]


@pytest.mark.parametrize("given", [None, "", "no spaces please", "x" * 129, "ü"])
async def test_otherwise_one_is_made(
    serving: Callable[[Handler], Awaitable[str]], session: aiohttp.ClientSession, given: str | None
) -> None:
    """Every answer has one, and the handler sees the same."""
    url = await serving(tell_id)
    headers = {} if given is None else {"x-request-id": given}
    async with session.get(url, headers=headers) as response:
        made = await response.text()
        assert response.headers["x-request-id"] == made
    assert made != given
    assert accepted_request_id(made) == made


def test_no_two_requests_share_an_id() -> None:
    """It is how one is found among millions."""
    assert len({new_request_id() for _ in range(1000)}) == 1000


async def test_a_stream_has_its_id_too(
    serving: Callable[[Handler], Awaitable[str]], session: aiohttp.ClientSession
) -> None:
    """Its headers are sent before the handler returns."""

    async def stream(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        return response

    async with session.get(await serving(stream)) as response:
        assert response.headers["x-request-id"]


@pytest.mark.parametrize(
    ("error", "status", "said"),
    [
        (InvalidRequest("say it", param="model"), 400, "say it"),
        (Overloaded("later"), 503, "later"),
        (web.HTTPNotFound(), 404, "GET /"),
        (KeyError("a secret"), 500, INTERNAL_MESSAGE),
        (web.HTTPRequestEntityTooLarge(max_size=1, actual_size=2), 413, "GET /"),
    ],
)
async def test_every_error_is_told_in_openais_shape(
    serving: Callable[[Handler], Awaitable[str]],
    session: aiohttp.ClientSession,
    error: Exception,
    status: int,
    said: str,
) -> None:
    """With the request id, by which it can be found in the log."""

    async def fail(request: web.Request) -> web.Response:
        raise error

    async with session.get(await serving(fail)) as response:
        body = json.loads(await response.read())
        assert response.status == status
        assert response.content_type == "application/json"
        assert response.headers["x-request-id"]
    assert set(body["error"]) == {"message", "type", "param", "code"}
    assert said in body["error"]["message"]
    assert "a secret" not in str(body)


async def test_a_path_that_does_not_exist_is_told_in_openais_shape(
    serving: Callable[[Handler], Awaitable[str]], session: aiohttp.ClientSession
) -> None:
    """Aiohttp's own answer is plain text, which the official client cannot read."""
    url = await serving(tell_id)
    async with session.post(url) as wrong_method, session.get(url + "nowhere") as wrong_path:
        assert (wrong_method.status, wrong_path.status) == (405, 404)
        assert wrong_method.headers["allow"] == "GET,HEAD"
        assert "GET /nowhere" in (await wrong_path.json())["error"]["message"]


async def test_a_fault_of_ours_is_logged_with_its_traceback(
    serving: Callable[[Handler], Awaitable[str]],
    session: aiohttp.ClientSession,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The client has the id, the operator has the rest."""

    async def fail(request: web.Request) -> web.Response:
        raise KeyError("ours")

    url = await serving(fail)
    async with session.get(url, headers={"x-request-id": "mine-1"}) as response:
        assert response.status == 500
    (record,) = [one for one in caplog.records if one.levelno == logging.ERROR]
    assert vars(record)["request_id"] == "mine-1"
    assert record.exc_info is not None


@pytest.fixture
def registry() -> CollectorRegistry:
    """A registry of this test's own."""
    return CollectorRegistry()


@pytest.fixture
def metrics(registry: CollectorRegistry) -> GatewayMetrics:
    """The gateway's instruments."""
    return GatewayMetrics(registry)


def ticks() -> Callable[[], float]:
    """A clock that is a second later at every look."""
    return itertools.count().__next__


def counted(registry: CollectorRegistry, router: str, outcome: str) -> float | None:
    """Returns how many requests were counted under these labels."""
    labels = {"router": router, "outcome": outcome}
    return registry.get_sample_value("pointsman_gateway_requests_total", labels)


def line(caplog: pytest.LogCaptureFixture) -> dict[str, Any]:
    """Returns the only line's fields."""
    (record,) = [one for one in caplog.records if one.getMessage() == "request"]
    return vars(record)


def test_a_routed_request_is_one_line_with_its_decision(
    metrics: GatewayMetrics, registry: CollectorRegistry, caplog: pytest.LogCaptureFixture
) -> None:
    """Everything an operator asks of a request, and nothing that the user wrote."""
    caplog.set_level(logging.INFO)
    with recorded("id-1", metrics, ticks()) as record:
        record.router = "mf"
        with record.stage("score"):
            record.routed("big", "win_rate", DECISION)
        record.stream, record.status = True, 200
    fields = line(caplog)
    expected = {
        "request_id": "id-1",
        "router": "mf",
        "threshold": 0.3,
        "strong_win_rate": 0.75,
        "choice": "strong",
        "reason": "win_rate",
        "fallback": None,
        "model": "big",
        "stream": True,
        "status": 200,
        "outcome": "ok",
        "cost_dollars": None,
        "tokens": None,
        "tokens_estimated": None,
        "seconds": 3,
        "stages": {"score": 1},
    }
    assert {name: fields[name] for name in expected} == expected
    assert counted(registry, "mf", "ok") == 1


def test_decisions_fallbacks_and_stages_are_counted(
    metrics: GatewayMetrics, registry: CollectorRegistry
) -> None:
    """The strong share, and how much of it nobody predicted, is on every dashboard."""
    fallen = Decision(
        router="mf", threshold=0.3, choice="weak", model="small", fallback="scorer_unavailable"
    )
    for decision in (DECISION, DECISION, fallen):
        with recorded("id", metrics, ticks()) as record:
            record.router = "mf"
            with record.stage("score"):
                record.routed(decision.model, "win_rate", decision)
    for name, labels, value in [
        ("decisions_total", {"router": "mf", "choice": "strong"}, 2),
        ("decisions_total", {"router": "mf", "choice": "weak"}, 1),
        ("fallbacks_total", {"reason": "scorer_unavailable"}, 1),
        ("stage_seconds_count", {"stage": "score"}, 3),
        ("stage_seconds_sum", {"stage": "score"}, 3),
        ("request_seconds_sum", {"outcome": "ok", "answer": "whole"}, 9),
        ("request_seconds_count", {"outcome": "ok", "answer": "stream"}, None),
        ("requests_in_flight", {}, 0),
    ]:
        assert registry.get_sample_value(f"pointsman_gateway_{name}", labels) == value, name


def test_a_request_is_in_flight_while_it_is_answered(
    metrics: GatewayMetrics, registry: CollectorRegistry
) -> None:
    """Streams too: autoscaling goes by it."""
    with recorded("id", metrics):
        assert registry.get_sample_value("pointsman_gateway_requests_in_flight") == 1


def test_who_answered_and_why_is_in_the_line_and_counted(
    metrics: GatewayMetrics, registry: CollectorRegistry, caplog: pytest.LogCaptureFixture
) -> None:
    """Decided without a win rate and answered by a fallback: both cost money, and both show."""
    caplog.set_level(logging.INFO)
    decided = Decision(
        router="mf", threshold=0.3, choice="strong", model="big", fallback="scorer_unavailable"
    )
    with recorded("id", metrics, ticks()) as record:
        record.routed("big", "fallback", decided)
        record.answered("other", pb.FALLBACK_REASON_CONTEXT_LENGTH)
        record.cost_dollars = 0.25
        record.usage = pb.Usage(input_tokens=9, output_tokens=4, reasoning_tokens=3, estimated=True)
    fields = line(caplog)
    assert (fields["model"], fields["choice"]) == ("other", "strong")
    assert fields["fallback"] == "scorer_unavailable,context_length"
    assert fields["cost_dollars"] == 0.25
    assert fields["tokens"] == {"input": 9, "cached_input": 0, "output": 4, "reasoning": 3}
    assert fields["tokens_estimated"] is True
    for reason in ("scorer_unavailable", "context_length"):
        labels = {"reason": reason}
        assert registry.get_sample_value("pointsman_gateway_fallbacks_total", labels) == 1


def test_the_model_that_was_asked_for_is_no_fallback(
    metrics: GatewayMetrics, registry: CollectorRegistry
) -> None:
    """An alert goes by the share of fallbacks."""
    with recorded("id", metrics) as record:
        record.answered("big", pb.FALLBACK_REASON_UNSPECIFIED)
    assert record.fallbacks == []
    counted = [
        sample.value
        for family in registry.collect()
        for sample in family.samples
        if sample.name == "pointsman_gateway_fallbacks_total"
    ]
    assert counted == [0] * len(FALLBACKS)


def test_a_reason_from_a_newer_upstream_is_other() -> None:
    """An upgrade that begins with the upstream fails no request, and opens no new label."""
    assert fallback_label(cast(Any, 99)) == "other"
    assert (
        *("scorer_unavailable", "provider_unavailable", "throttled", "timeout"),
        *("context_length", "breaker_open", "other"),
    ) == FALLBACKS


@pytest.mark.parametrize(
    ("error", "outcome", "status"),
    [
        (Overloaded("no"), "overloaded", 503),
        (InvalidRequest("no"), "invalid_request", 400),
        (KeyError("ours"), "internal", None),
        (asyncio.CancelledError(), "cancelled", None),
        (ConnectionResetError("the client has left"), "cancelled", None),
        (aiohttp.ClientConnectionResetError("closing transport"), "cancelled", None),
    ],
    ids=["overloaded", "mistake", "ours", "hang-up", "reset", "reset-on-write"],
)
def test_a_request_that_fails_is_counted_and_raised_on(
    metrics: GatewayMetrics,
    registry: CollectorRegistry,
    caplog: pytest.LogCaptureFixture,
    error: BaseException,
    outcome: str,
    status: int | None,
) -> None:
    """However it ends it has its line; a client that left is no fault of ours."""
    caplog.set_level(logging.INFO)
    with pytest.raises(type(error)), recorded("id-1", metrics, ticks()):
        raise error
    assert counted(registry, "none", outcome) == 1
    fields = line(caplog)
    assert (fields["request_id"], fields["outcome"], fields["status"]) == ("id-1", outcome, status)


def test_an_answer_that_broke_off_is_not_ok(
    metrics: GatewayMetrics, registry: CollectorRegistry
) -> None:
    """The status was 200 and the answer was not whole."""
    with recorded("id", metrics) as record:
        record.outcome = "broken_stream"
    assert counted(registry, "none", "broken_stream") == 1
    assert counted(registry, "none", "ok") is None


def test_a_stage_that_fails_is_timed(metrics: GatewayMetrics) -> None:
    """A scorer that runs into its time limit is what the histogram is for."""
    record = Record("id", metrics, ticks())
    with pytest.raises(Overloaded), record.stage("score"):
        raise Overloaded("no")
    assert record.seconds == {"score": 1}
