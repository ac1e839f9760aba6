"""A gateway between real gRPC servers that do as they are told, for tests of its handlers."""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import grpc
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
from services.gateway.callers import ANYBODY, Caller
from services.gateway.chat import ChatCompletions
from services.gateway.completion import UpstreamClient
from services.gateway.config import AdmissionSettings
from services.gateway.deadlines import Deadlines
from services.gateway.directory import Directory
from services.gateway.explaining import Explanations
from services.gateway.listing import ModelListing
from services.gateway.metrics import GatewayMetrics
from services.gateway.probes import Probes
from services.gateway.routes import Routes
from services.gateway.rules import RuleSettings
from services.gateway.savings import Savings
from services.gateway.scoring import DecisionMaker, ScorerClient

PAIR = ModelPair("big", "small")
MODELS = [
    pb.Model(name="big", input_price_per_million=2.0, output_price_per_million=8.0),
    pb.Model(name="small", input_price_per_million=0.1, output_price_per_million=0.4),
]
WANTED = {"pair.strong": "big", "pair.weak": "small"}
HELLO = [{"role": "user", "content": "Hello!"}]

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
    """Prefers the weak model, and keeps what it was asked; it may be told to fail."""

    def __init__(self) -> None:
        self.prompts: list[str] = []
        self.fails = False

    async def Score(self, request: scorer_pb2.ScoreRequest, context: Any) -> Any:
        """Scores a prompt."""
        self.prompts.append(request.prompt)
        if self.fails:
            await context.abort(grpc.StatusCode.UNAVAILABLE, "gone")
        return scorer_pb2.ScoreResponse(
            strong_win_rate=0.1, router=request.router, revision="r1", percentile=12.5
        )


class Gateway:
    """A gateway between real gRPC servers, and ways to look at it."""

    def __init__(self, url: str, http: aiohttp.ClientSession, registry: CollectorRegistry) -> None:
        self.url = url
        self.http = http
        self.registry = registry

    def chat(self, model: str, *, stream: bool = False, **fields: Any) -> Any:
        """Asks; an async context manager of the response."""
        body = {"model": model, "messages": HELLO, "stream": stream, **fields}
        return self.http.post(f"{self.url}/v1/chat/completions", json=body)

    def route(self, model: str, **fields: Any) -> Any:
        """Asks where a request would go; an async context manager of the response."""
        body = {"model": model, "messages": HELLO, **fields}
        return self.http.post(f"{self.url}/v1/route", json=body)

    def value(self, name: str, **labels: str) -> float | None:
        """Returns what a metric says."""
        return self.registry.get_sample_value(f"pointsman_gateway_{name}", labels)


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
async def gateway_of(
    upstream: FakeUpstream,
    *,
    scorer: FakeScorer | None = None,
    aliases: Mapping[str, str] | None = None,
    rules: Mapping[str, RuleSettings] | None = None,
    caller: Caller = ANYBODY,
    wanted: Mapping[str, str] = WANTED,
    **limits: Any,
) -> AsyncIterator[Gateway]:
    """Runs a gateway in front of the upstream and a scorer."""
    scorer = scorer or FakeScorer()
    aliases = aliases or {}
    registry = CollectorRegistry()
    metrics = GatewayMetrics(registry)
    settings = AdmissionSettings(**{"max_unanswered": 100, "calm_unanswered": 1, **limits})
    async with (
        serving(upstream_pb2_grpc.add_UpstreamServiceServicer_to_server, upstream) as to_upstream,
        serving(scorer_pb2_grpc.add_ScorerServiceServicer_to_server, scorer) as to_scorer,
        open_channel(to_upstream, "u", Mesh(), body_limit_bytes=1000) as upstream_channel,
        open_channel(to_scorer, "s", Mesh(), body_limit_bytes=1000) as scorer_channel,
        aiohttp.ClientSession() as http,
    ):
        directory = Directory(wanted, "gateway.yaml", models, routers)
        await directory.refresh()
        maker = DecisionMaker(
            ScorerClient(scorer_channel, 10.0), PAIR, directory.percentiles, "strong"
        )
        routes = Routes(maker, directory, "last_user_turn", aliases, rules or {})
        admission = Admission(settings, metrics)
        chat = ChatCompletions(
            routes,
            UpstreamClient(upstream_channel, 10.0),
            metrics,
            body_limit_bytes=1000,
            deadlines=Deadlines(50.0),
            admission=admission,
            savings=Savings(metrics, PAIR.strong, lambda: directory.models),
        )
        explanations = Explanations(
            routes,
            lambda: directory.models,
            metrics,
            body_limit_bytes=1000,
            deadlines=Deadlines(50.0),
            admission=admission,
        )
        listing = ModelListing(directory, aliases, 0)
        app = build_app(
            chat, explanations, listing, Probes(directory), metrics, identify=lambda _: caller
        )
        async with TestServer(app) as server:
            yield Gateway(str(server.make_url("")).rstrip("/"), http, registry)
