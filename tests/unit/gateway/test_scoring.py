"""Prompt and threshold → decision, against a scorer that really listens."""

import asyncio
import logging
import socket
from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest

from pointsman import errors
from pointsman.routing import ModelPair, RouterRef, StrongShare
from pointsman.scorer.v1 import scorer_pb2 as pb
from pointsman.scorer.v1 import scorer_pb2_grpc
from services.gateway.config import OnScorerFailure
from services.gateway.scoring import DecisionMaker, ScorerClient

PAIR = ModelPair(strong="big", weak="small")
REF = RouterRef("mf", 0.5)
Code = grpc.StatusCode


class FakeScorer(scorer_pb2_grpc.ScorerServiceServicer):
    """Answers as it is told, and remembers what it was asked."""

    def __init__(self) -> None:
        self.strong_win_rate = 0.5
        self.status: grpc.StatusCode | None = None
        self.answering = asyncio.Event()
        self.answering.set()
        self.was_asked = asyncio.Event()
        self.asked: list[pb.ScoreRequest] = []
        self.metadata: dict[str, Any] = {}

    async def Score(self, request: pb.ScoreRequest, context: Any) -> pb.ScoreResponse:
        """Scores one prompt."""
        self.asked.append(request)
        self.was_asked.set()
        self.metadata = dict(context.invocation_metadata())
        await self.answering.wait()
        if self.status is not None:
            await context.abort(self.status, "in the scorer's words")
        return pb.ScoreResponse(strong_win_rate=self.strong_win_rate, revision="r1")

    async def ListRouters(self, request: pb.ListRoutersRequest, context: Any) -> Any:
        """Lists one router."""
        self.metadata = dict(context.invocation_metadata())
        if self.status is not None:
            await context.abort(self.status, "in the scorer's words")
        return pb.ListRoutersResponse(routers=[pb.Router(name="mf", ready=True)])


@pytest.fixture
async def scorer() -> FakeScorer:
    """The scorer's behaviour."""
    return FakeScorer()


@pytest.fixture
async def channel(scorer: FakeScorer) -> AsyncIterator[grpc.aio.Channel]:
    """A channel to a real gRPC server."""
    server = grpc.aio.server()
    scorer_pb2_grpc.add_ScorerServiceServicer_to_server(scorer, server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        yield channel
    await server.stop(None)


def known(router: str) -> list[float]:
    """Win rates 0, 0.01, ..., 1 at the percentiles; other routers were not heard of yet."""
    if router == "theirs":
        return []
    if router != "mf":
        raise errors.RouterNotReady(f"{router} is not ready")
    return [percent / 100 for percent in range(101)]


def maker(
    channel: grpc.aio.Channel, on_failure: OnScorerFailure = "strong", timeout_seconds: float = 30.0
) -> DecisionMaker:
    """A decision maker that asks over this channel."""
    return DecisionMaker(ScorerClient(channel, timeout_seconds), PAIR, known, on_failure)


@pytest.mark.parametrize(
    ("strong_win_rate", "choice", "model"),
    [(0.5, "strong", "big"), (0.75, "strong", "big"), (0.49999999999999994, "weak", "small")],
)
async def test_the_win_rate_decides(
    channel: grpc.aio.Channel, scorer: FakeScorer, strong_win_rate: float, choice: str, model: str
) -> None:
    """The scorer's double is compared as it is: no rounding between the two."""
    scorer.strong_win_rate = strong_win_rate
    decision = await maker(channel).decide(REF, "Hello", "id-1")
    assert (decision.router, decision.threshold) == ("mf", 0.5)
    assert (decision.choice, decision.model) == (choice, model)
    assert decision.strong_win_rate == strong_win_rate
    assert (decision.revision, decision.fallback) == ("r1", None)


@pytest.mark.parametrize(
    ("percent", "threshold", "choice"), [(30, 0.7, "weak"), (50, 0.5, "strong"), (0, 1.0, "weak")]
)
async def test_a_strong_share_is_the_threshold_that_was_calibrated_for_it(
    channel: grpc.aio.Channel, percent: int, threshold: float, choice: str
) -> None:
    """`p30` means the 70th percentile of the calibration prompts' win rates."""
    decision = await maker(channel).decide(RouterRef("mf", StrongShare(percent)), "Hello", "id-1")
    assert (decision.threshold, decision.choice) == (threshold, choice)


async def test_a_strong_share_without_calibration_is_the_clients_mistake(
    channel: grpc.aio.Channel, scorer: FakeScorer
) -> None:
    """Nobody can say which threshold it means, so nobody pays for a guess."""
    with pytest.raises(errors.InvalidRequest, match=r"router-theirs-0\.5"):
        await maker(channel).decide(RouterRef("theirs", StrongShare(30)), "Hello", "id-1")
    assert scorer.asked == []


async def test_a_strong_share_before_the_scorer_was_heard_is_decided_without_it(
    channel: grpc.aio.Channel, scorer: FakeScorer
) -> None:
    """A request is answered although its threshold is not known yet."""
    decision = await maker(channel, "weak").decide(RouterRef("bert", StrongShare(30)), "", "id-1")
    assert (decision.choice, decision.threshold) == ("weak", None)
    assert decision.fallback == "scorer_unavailable"
    with pytest.raises(errors.RouterNotReady):
        await maker(channel, "error").decide(RouterRef("bert", StrongShare(30)), "", "id-1")
    assert scorer.asked == []


async def test_the_scorer_gets_router_prompt_and_request_id(
    channel: grpc.aio.Channel, scorer: FakeScorer
) -> None:
    """One id runs through all logs."""
    await maker(channel).decide(REF, "Grüße 😀", "id-1")
    assert scorer.asked == [pb.ScoreRequest(router="mf", prompt="Grüße 😀")]
    assert scorer.metadata["x-request-id"] == "id-1"


FAILURES = [
    Code.UNAVAILABLE,
    Code.RESOURCE_EXHAUSTED,
    Code.FAILED_PRECONDITION,
    Code.INTERNAL,
    Code.DEADLINE_EXCEEDED,
    Code.UNKNOWN,
]


@pytest.mark.parametrize("status", FAILURES, ids=lambda status: status.name)
@pytest.mark.parametrize(("on_failure", "model"), [("strong", "big"), ("weak", "small")])
async def test_a_scorer_in_trouble_fails_no_request(
    channel: grpc.aio.Channel,
    scorer: FakeScorer,
    status: grpc.StatusCode,
    on_failure: OnScorerFailure,
    model: str,
) -> None:
    """The configured model answers, and the decision says that it was nobody's prediction."""
    scorer.status = status
    decision = await maker(channel, on_failure).decide(REF, "Hello", "id-1")
    assert (decision.choice, decision.model) == (on_failure, model)
    assert decision.fallback == "scorer_unavailable"
    assert (decision.strong_win_rate, decision.revision) == (None, None)


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (Code.UNAVAILABLE, errors.ScorerUnavailable),
        (Code.RESOURCE_EXHAUSTED, errors.Overloaded),
        (Code.FAILED_PRECONDITION, errors.RouterNotReady),
        (Code.DEADLINE_EXCEEDED, errors.DeadlineExceeded),
    ],
)
async def test_who_wants_errors_gets_them(
    channel: grpc.aio.Channel,
    scorer: FakeScorer,
    status: grpc.StatusCode,
    error: type[errors.PointsmanError],
) -> None:
    """An experiment would rather lose a request than mix in unpredicted ones."""
    scorer.status = status
    with pytest.raises(error, match="in the scorer's words"):
        await maker(channel, "error").decide(REF, "Hello", "id-1")


@pytest.mark.parametrize("on_failure", ["strong", "weak", "error"])
async def test_a_router_that_does_not_exist_is_never_a_fallback(
    channel: grpc.aio.Channel, scorer: FakeScorer, on_failure: OnScorerFailure
) -> None:
    """A typing mistake must not be answered by the expensive model for ever."""
    scorer.status = Code.NOT_FOUND
    with pytest.raises(errors.UnknownRouter):
        await maker(channel, on_failure).decide(REF, "Hello", "id-1")


async def test_a_scorer_that_hangs_is_not_waited_for(
    channel: grpc.aio.Channel, scorer: FakeScorer
) -> None:
    """The time limit ends the waiting, not the request."""
    scorer.answering.clear()
    decision = await maker(channel, timeout_seconds=0.05).decide(REF, "Hello", "id-1")
    assert decision.fallback == "scorer_unavailable"


async def test_a_scorer_that_is_not_there_fails_no_request() -> None:
    """A crash, a restart, a wrong address: the same fallback."""
    with socket.socket() as bound:  # bound, not listening: every connection is refused
        bound.bind(("127.0.0.1", 0))
        async with grpc.aio.insecure_channel(f"127.0.0.1:{bound.getsockname()[1]}") as nowhere:
            decision = await maker(nowhere).decide(REF, "Hello", "id-1")
    assert decision.fallback == "scorer_unavailable"


async def test_a_fallback_is_logged_without_the_prompt(
    channel: grpc.aio.Channel, scorer: FakeScorer, caplog: pytest.LogCaptureFixture
) -> None:
    """An operator sees why; nobody sees what was asked."""
    scorer.status = Code.RESOURCE_EXHAUSTED
    await maker(channel).decide(REF, "a secret prompt", "id-1")
    (record,) = [one for one in caplog.records if one.levelno == logging.WARNING]
    fields = vars(record)
    assert {name: fields[name] for name in ("request_id", "router", "choice", "kind")} == {
        "request_id": "id-1",
        "router": "mf",
        "choice": "strong",
        "kind": "overloaded",
    }
    assert "a secret prompt" not in str(fields)


async def test_a_client_that_leaves_is_no_failure_of_the_scorer(
    channel: grpc.aio.Channel, scorer: FakeScorer
) -> None:
    """Cancelling must cancel, not decide."""
    scorer.answering.clear()
    deciding = asyncio.ensure_future(maker(channel).decide(REF, "Hello", "id-1"))
    await scorer.was_asked.wait()
    deciding.cancel()
    with pytest.raises(asyncio.CancelledError):
        await deciding


async def test_the_routers_are_listed(channel: grpc.aio.Channel) -> None:
    """`GET /v1/models` shows them."""
    listing = await ScorerClient(channel, 30.0).list_routers()
    assert [(router.name, router.ready) for router in listing.routers] == [("mf", True)]


async def test_a_listing_that_fails_is_an_error_of_ours(
    channel: grpc.aio.Channel, scorer: FakeScorer
) -> None:
    """GRPC's exceptions stay in the one module that knows gRPC."""
    scorer.status = Code.UNAVAILABLE
    with pytest.raises(errors.ScorerUnavailable):
        await ScorerClient(channel, 30.0).list_routers()


async def test_a_scorer_that_refuses_the_gateway_is_the_operators_trouble(
    channel: grpc.aio.Channel, scorer: FakeScorer, caplog: pytest.LogCaptureFixture
) -> None:
    """The request is answered, and the log has the words that say what to mend."""
    scorer.status = Code.UNAUTHENTICATED
    decision = await maker(channel).decide(REF, "Hello", "id-1")
    assert decision.fallback == "scorer_unavailable"
    (record,) = [one for one in caplog.records if one.levelno == logging.ERROR]
    assert vars(record)["reason"] == "in the scorer's words"


async def test_every_call_shows_the_gateways_credentials(
    channel: grpc.aio.Channel, scorer: FakeScorer
) -> None:
    """Scoring and listing alike."""
    client = ScorerClient(channel, 30.0, (("x-shown", "secret"),))
    await client.score("mf", "Hello", "id-1")
    assert scorer.metadata["x-shown"] == "secret"
    scorer.metadata = {}
    await client.list_routers()
    assert scorer.metadata["x-shown"] == "secret"
