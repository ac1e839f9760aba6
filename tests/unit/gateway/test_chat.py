"""The chat handler's own duty: who answered and why, what it cost, and always an answer in time."""

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any, cast

import aiohttp
import grpc
import pytest
from aiohttp.test_utils import TestServer
from prometheus_client import CollectorRegistry

from pointsman.chassis.grpc_channel import open_channel
from pointsman.chassis.mesh import Mesh
from pointsman.routing import ModelPair
from pointsman.scorer.v1 import scorer_pb2, scorer_pb2_grpc
from pointsman.upstream.v1 import upstream_pb2 as pb
from pointsman.upstream.v1 import upstream_pb2_grpc
from services.gateway.admission import Admission
from services.gateway.app import build_app
from services.gateway.callers import ANYBODY
from services.gateway.chat import ChatCompletions
from services.gateway.completion import UpstreamClient
from services.gateway.config import AdmissionSettings
from services.gateway.deadlines import Deadlines
from services.gateway.directory import Directory
from services.gateway.listing import ModelListing
from services.gateway.metrics import GatewayMetrics
from services.gateway.probes import Probes
from services.gateway.savings import Savings
from services.gateway.scoring import DecisionMaker, ScorerClient

NEVER_ASKED = cast(Any, None)
HEAD = b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nconnection: close\r\n"
PAIR = ModelPair("big", "small")
MODELS = [
    pb.Model(name="big", input_price_per_million=2.0, output_price_per_million=8.0),
    pb.Model(name="small", input_price_per_million=0.1, output_price_per_million=0.4),
]
USAGE = pb.Usage(input_tokens=1000, output_tokens=500)
BIG_DOLLARS = (1000 * 2.0 + 500 * 8.0) / 1e6
FRAMES = b'data: {"choices": []}\n\ndata: [DONE]\n\n'

Parts = Sequence[pb.StreamCompleteResponse]


class FakeUpstream(upstream_pb2_grpc.UpstreamServiceServicer):
    """Answers what it is given, once it may."""

    def __init__(self) -> None:
        self.answer = pb.CompleteResponse(status=200, body=b"{}", model="big")
        self.parts: Parts = ()
        self.may_answer = asyncio.Event()
        self.may_answer.set()
        self.asked: asyncio.Queue[str] = asyncio.Queue()

    async def Complete(self, request: pb.CompleteRequest, context: Any) -> pb.CompleteResponse:
        """Answers in one piece."""
        self.asked.put_nowait(request.envelope.model)
        await self.may_answer.wait()
        return self.answer

    async def StreamComplete(
        self, request: pb.StreamCompleteRequest, context: Any
    ) -> AsyncIterator[pb.StreamCompleteResponse]:
        """Answers in parts; it may be made to wait after the head."""
        self.asked.put_nowait(request.envelope.model)
        for number, part in enumerate(self.parts):
            if number:
                await self.may_answer.wait()
            yield part


class FakeScorer(scorer_pb2_grpc.ScorerServiceServicer):
    """Prefers the weak model."""

    async def Score(self, request: scorer_pb2.ScoreRequest, context: Any) -> Any:
        """Scores a prompt."""
        return scorer_pb2.ScoreResponse(strong_win_rate=0.1, router=request.router)


class Gateway:
    """A gateway between real gRPC servers, and ways to look at it."""

    def __init__(self, url: str, http: aiohttp.ClientSession, registry: CollectorRegistry) -> None:
        self.url = url
        self.http = http
        self.registry = registry

    def chat(self, model: str, *, stream: bool = False) -> Any:
        """Asks; an async context manager of the response."""
        fields = {"model": model, "messages": [{"role": "user", "content": "Hello!"}]}
        return self.http.post(self.url, json={**fields, "stream": stream})

    def value(self, name: str, **labels: str) -> float | None:
        """Returns what a metric says."""
        return self.registry.get_sample_value(f"pointsman_gateway_{name}", labels)


@pytest.fixture
async def upstream() -> FakeUpstream:
    """The upstream's behaviour."""
    return FakeUpstream()


async def routers() -> scorer_pb2.ListRoutersResponse:
    """Lists one router."""
    return scorer_pb2.ListRoutersResponse(routers=[scorer_pb2.Router(name="mf", ready=True)])


async def models() -> pb.ListModelsResponse:
    """Lists the pair."""
    return pb.ListModelsResponse(models=MODELS)


@asynccontextmanager
async def serving(add: Callable[[Any, Any], None], servicer: Any) -> AsyncIterator[str]:
    """Serves gRPC; yields the address."""
    server = grpc.aio.server()
    add(servicer, server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    yield f"127.0.0.1:{port}"
    await server.stop(None)


@asynccontextmanager
async def gateway_of(upstream: FakeUpstream, **limits: Any) -> AsyncIterator[Gateway]:
    """Runs a gateway in front of the upstream and a scorer."""
    registry = CollectorRegistry()
    metrics = GatewayMetrics(registry)
    settings = AdmissionSettings(**{"max_unanswered": 100, "calm_unanswered": 1, **limits})
    async with (
        serving(upstream_pb2_grpc.add_UpstreamServiceServicer_to_server, upstream) as to_upstream,
        serving(scorer_pb2_grpc.add_ScorerServiceServicer_to_server, FakeScorer()) as to_scorer,
        open_channel(to_upstream, "u", Mesh(), body_limit_bytes=1000) as upstream_channel,
        open_channel(to_scorer, "s", Mesh(), body_limit_bytes=1000) as scorer_channel,
        aiohttp.ClientSession() as http,
    ):
        directory = Directory(PAIR, "here", models, routers)
        await directory.refresh()
        scorer = ScorerClient(scorer_channel, 10.0)
        chat = ChatCompletions(
            DecisionMaker(scorer, PAIR, directory.percentiles, "strong"),
            UpstreamClient(upstream_channel, 10.0),
            directory,
            metrics,
            prompt_policy="last_user_turn",
            body_limit_bytes=1000,
            deadlines=Deadlines(50.0),
            admission=Admission(settings, metrics),
            savings=Savings(metrics, PAIR.strong, lambda: directory.models),
        )
        probes = Probes(directory)
        app = build_app(
            chat, ModelListing(directory, 0), probes, metrics, identify=lambda _: ANYBODY
        )
        async with TestServer(app) as server:
            yield Gateway(str(server.make_url("/v1/chat/completions")), http, registry)


def streamed(head: pb.StreamHead, tail: pb.StreamTail) -> Parts:
    """Returns a stream's parts."""
    return (
        pb.StreamCompleteResponse(head=head),
        pb.StreamCompleteResponse(frames=FRAMES),
        pb.StreamCompleteResponse(tail=tail),
    )


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("asked", "label", "always_strong"),
    [("router-mf-0.5", "mf", BIG_DOLLARS), ("small", "direct", None)],
)
async def test_an_answer_by_a_fallback_says_so_and_is_billed(
    upstream: FakeUpstream,
    caplog: pytest.LogCaptureFixture,
    stream: bool,
    asked: str,
    label: str,
    always_strong: float | None,
) -> None:
    """Whoever reads the header, the metrics or the log must find the same model and reason."""
    caplog.set_level(logging.INFO)
    fields: Any = {"status": 200, "model": "big", "fallback": pb.FALLBACK_REASON_THROTTLED}
    upstream.answer = pb.CompleteResponse(body=b"{}", usage=USAGE, cost_dollars=0.5, **fields)
    upstream.parts = streamed(
        pb.StreamHead(**fields), pb.StreamTail(complete=True, usage=USAGE, cost_dollars=0.5)
    )
    async with gateway_of(upstream) as gateway, gateway.chat(asked, stream=stream) as response:
        await response.read()
        assert response.headers["x-pointsman-model"] == "big"
        assert response.headers["x-pointsman-fallback"] == "throttled"
    assert upstream.asked.get_nowait() == "small"
    assert gateway.value("fallbacks_total", reason="throttled") == 1
    assert gateway.value("cost_dollars_total", router=label) == 0.5
    found = gateway.value("always_strong_dollars_total", router=label)
    assert found == (None if always_strong is None else pytest.approx(always_strong))
    (line,) = [vars(one) for one in caplog.records if one.getMessage() == "request"]
    assert (line["model"], line["fallback"], line["cost_dollars"]) == ("big", "throttled", 0.5)
    assert line["tokens"]["input"] == 1000


@pytest.mark.parametrize("stream", [False, True])
async def test_a_failure_names_the_model_that_was_asked_for(
    upstream: FakeUpstream, stream: bool
) -> None:
    """Its status, body and headers are the upstream's; nothing was saved by it."""
    fields: Any = {"status": 503, "model": "small", "headers": {"retry-after": "7"}}
    upstream.answer = pb.CompleteResponse(body=b'{"error":{}}', **fields)
    upstream.parts = [pb.StreamCompleteResponse(head=pb.StreamHead(body=b'{"error":{}}', **fields))]
    async with (
        gateway_of(upstream) as gateway,
        gateway.chat("router-mf-0.5", stream=stream) as response,
    ):
        assert (response.status, response.headers["retry-after"]) == (503, "7")
        assert response.headers["x-pointsman-model"] == "small"
        assert "x-pointsman-fallback" not in response.headers
    assert gateway.value("requests_total", router="mf", outcome="provider_error") == 1
    assert gateway.value("always_strong_dollars_total", router="mf") is None


async def test_a_broken_stream_is_billed_and_saves_nothing(upstream: FakeUpstream) -> None:
    """The provider is paid for what came; the client has no answer for it."""
    tail = pb.StreamTail(error=b'{"error":{}}', usage=USAGE, cost_dollars=0.5)
    upstream.parts = streamed(pb.StreamHead(status=200, model="small"), tail)
    async with (
        gateway_of(upstream) as gateway,
        gateway.chat("router-mf-0.5", stream=True) as response,
    ):
        assert (await response.read()).endswith(b'data: {"error":{}}\n\n')
    assert gateway.value("requests_total", router="mf", outcome="broken_stream") == 1
    assert gateway.value("cost_dollars_total", router="mf") == 0.5
    assert gateway.value("always_strong_dollars_total", router="mf") is None


async def test_one_request_too_many_is_refused_in_openais_shape(upstream: FakeUpstream) -> None:
    """Before its body is read, on a connection that stays, with word of when to come back."""
    upstream.may_answer.clear()
    async with gateway_of(upstream, max_unanswered=1) as gateway:
        waiting = asyncio.ensure_future(gateway.chat("small"))
        await upstream.asked.get()
        for _ in range(2):
            async with gateway.chat("small") as response:
                assert (response.status, response.headers["retry-after"]) == (503, "1")
                assert (await response.json())["error"]["code"] == "overloaded"
                assert "connection" not in response.headers
        upstream.may_answer.set()
        async with await waiting as response:
            assert response.status == 200
        async with gateway.chat("small") as response:
            assert response.status == 200
    assert gateway.value("refused_total", reason="unanswered") == 2
    assert gateway.value("requests_total", router="none", outcome="overloaded") == 2
    assert gateway.value("requests_total", router="direct", outcome="ok") == 2


async def test_a_stream_that_has_begun_leaves_its_place_to_others(upstream: FakeUpstream) -> None:
    """Streams live for minutes; they must not fill a limit for requests that wait."""
    upstream.may_answer.clear()
    upstream.parts = streamed(
        pb.StreamHead(status=200, model="small"), pb.StreamTail(complete=True)
    )
    async with gateway_of(upstream, max_unanswered=1) as gateway:
        streams = [await gateway.chat("small", stream=True) for _ in range(5)]
        assert [stream.status for stream in streams] == [200] * 5
        upstream.may_answer.set()
        assert [await stream.read() for stream in streams] == [FRAMES] * 5


@pytest.mark.parametrize(("provider_seconds", "limit"), [(3600.0, 100), (0.0, 100), (1e-6, 1)])
async def test_time_at_the_provider_is_no_delay_and_all_other_time_is(
    upstream: FakeUpstream, provider_seconds: float, limit: int
) -> None:
    """A slow model is no overload, a request that waited for us is; 0 is that nobody measured."""
    upstream.answer = pb.CompleteResponse(status=200, body=b"{}", model="small")
    upstream.answer.attempts.add(model="small", seconds=provider_seconds)
    async with gateway_of(upstream, max_delay_seconds=1e-9) as gateway:
        async with gateway.chat("small") as response:
            assert response.status == 200
        assert gateway.value("unanswered_limit") == limit
        assert gateway.value("unanswered") == 0


async def test_several_calls_to_providers_are_no_delay(upstream: FakeUpstream) -> None:
    """Between them the upstream waits on purpose, as Retry-After says."""
    upstream.answer = pb.CompleteResponse(status=200, body=b"{}", model="small")
    for _ in range(2):
        upstream.answer.attempts.add(model="small", seconds=1e-6)
    async with gateway_of(upstream, max_delay_seconds=1e-9) as gateway:
        async with gateway.chat("small") as response:
            assert response.status == 200
        assert gateway.value("unanswered_limit") == 100


async def test_a_body_that_never_ends_is_not_waited_for_for_ever() -> None:
    """A client that stalls, or breaks its own framing, holds a request no longer than any other."""
    metrics = GatewayMetrics(CollectorRegistry())
    chat = ChatCompletions(
        NEVER_ASKED,
        NEVER_ASKED,
        NEVER_ASKED,
        metrics,
        prompt_policy="last_user_turn",
        body_limit_bytes=1000,
        deadlines=Deadlines(0.05),
        admission=Admission(AdmissionSettings(), metrics),
        savings=NEVER_ASKED,
    )
    app = build_app(
        chat,
        ModelListing(NEVER_ASKED, 0),
        Probes(NEVER_ASKED),
        metrics,
        identify=lambda authorization: ANYBODY,
    )
    async with TestServer(app) as server:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        try:
            writer.write(HEAD + b"content-length: 10\r\n\r\n{")
            head = await reader.readuntil(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 504 ")
            body = await reader.readuntil(b"}}")
            assert json.loads(body)["error"]["code"] == "timeout"
        finally:
            writer.close()
            await writer.wait_closed()
