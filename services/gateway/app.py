"""The gateway put together: opened in order, closed in reverse."""

import asyncio
import logging
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any, cast

from aiohttp import web

from pointsman.chassis.grpc_channel import open_channel
from pointsman.chassis.lifecycle import announce
from pointsman.chassis.mesh import load_mesh
from pointsman.chassis.metrics import metrics_server, new_registry
from pointsman.chassis.ports import is_loopback, port_errors, reachable
from pointsman.scorer.v1 import scorer_pb2
from pointsman.upstream.v1 import upstream_pb2
from services.gateway.access import Connection, show_request_id, with_openai_errors, with_request_id
from services.gateway.admission import Admission
from services.gateway.callers import ANYBODY, Identify, KeyRing, with_caller
from services.gateway.chat import ChatCompletions
from services.gateway.completion import UpstreamClient
from services.gateway.config import METRICS_PORT_VARIABLE, PORT_VARIABLE, GatewaySettings, api_keys
from services.gateway.deadlines import Deadlines
from services.gateway.directory import Directory
from services.gateway.explaining import Explanations
from services.gateway.listing import ModelListing, example
from services.gateway.metrics import GatewayMetrics
from services.gateway.probes import Probes
from services.gateway.request import wait_before_body
from services.gateway.routes import Routes
from services.gateway.savings import Savings
from services.gateway.scoring import DecisionMaker, ScorerClient

logger = logging.getLogger(__name__)

_SPARE_SECONDS = 2.0
_BACKLOG = 128
_CONNECTION: dict[str, Any] = {
    "access_log": None,  # each chat request writes its own line
    "auto_decompress": False,  # a compressed body is refused, not unpacked
}
_SCORER_SERVICE = scorer_pb2.DESCRIPTOR.services_by_name["ScorerService"].full_name
_UPSTREAM_SERVICE = upstream_pb2.DESCRIPTOR.services_by_name["UpstreamService"].full_name


async def serve(settings: GatewaySettings, source: str, stop: asyncio.Event) -> None:
    """Runs the gateway until `stop` is set.

    Args:
        settings: The gateway's settings.
        source: Where they come from, for messages to the operator.
        stop: Ends it.

    Raises:
        ConfigError: An API key's entry or the mesh's settings are wrong, a port is taken, or the
            gateway would be open to the network without keys.
    """
    keys = api_keys(settings, source)
    if not keys and not is_loopback(settings.host):
        logger.warning(
            "no API keys: whoever reaches this gateway may use it",
            extra={"host": settings.host, "remedy": "set POINTSMAN_KEYS_FILE"},
        )
    registry = new_registry()
    metrics = GatewayMetrics(registry)
    mesh = load_mesh(settings.mesh)
    shown, body_limit_bytes = mesh.call_metadata, settings.body_limit_bytes
    with metrics_server(
        registry, settings.metrics_host, settings.metrics_port, setting=METRICS_PORT_VARIABLE
    ) as metrics_port:
        async with (
            open_channel(
                settings.scorer.address,
                _SCORER_SERVICE,
                mesh,
                body_limit_bytes=body_limit_bytes,
                repeatable=True,  # to score a prompt twice costs nothing
            ) as scorer_channel,
            open_channel(
                settings.upstream.address,
                _UPSTREAM_SERVICE,
                mesh,
                body_limit_bytes=body_limit_bytes,
            ) as upstream_channel,
        ):
            scorer = ScorerClient(scorer_channel, settings.scorer.timeout_seconds, shown)
            upstream = UpstreamClient(upstream_channel, settings.upstream.wait_seconds, shown)
            pair = settings.model_pair()
            directory = Directory(
                settings.models(), source, upstream.list_models, scorer.list_routers
            )
            deadlines = Deadlines(settings.request_timeout_seconds)
            routes = Routes(
                DecisionMaker(scorer, pair, directory.percentiles, settings.on_scorer_failure),
                directory,
                settings.prompt_policy,
                settings.aliases,
                settings.rules,
            )
            admission = Admission(settings.admission, metrics)
            chat = ChatCompletions(
                routes,
                upstream,
                metrics,
                body_limit_bytes=body_limit_bytes,
                deadlines=deadlines,
                admission=admission,
                savings=Savings(metrics, pair.strong, lambda: directory.models),
            )
            probes = Probes(directory)
            explanations = Explanations(
                routes,
                lambda: directory.models,
                metrics,
                body_limit_bytes=body_limit_bytes,
                deadlines=deadlines,
                admission=admission,
            )
            app = build_app(
                chat,
                explanations,
                ModelListing(directory, settings.aliases, int(time.time())),
                probes,
                metrics,
                identify=KeyRing(keys).identify if keys else lambda _: ANYBODY,
            )
            # First what there is, then the door: whoever comes through it can be answered.
            async with _kept_fresh(directory, settings), _listening(app, settings) as port:
                announce(
                    "gateway",
                    address=reachable(settings.host, port),
                    metrics=reachable(settings.metrics_host, metrics_port),
                    not_ready_reason=directory.not_ready_reason,
                    example_model=example(directory.routers) or pair.strong,
                )
                await stop.wait()
                probes.draining = True
                await asyncio.sleep(settings.drain_delay_seconds)
                deadlines.bring_forward(settings.grace_seconds)


def build_app(
    chat: ChatCompletions,
    explanations: Explanations,
    listing: ModelListing,
    probes: Probes,
    metrics: GatewayMetrics,
    *,
    identify: Identify,
) -> web.Application:
    """Returns the HTTP application."""
    app = web.Application(
        middlewares=[with_request_id, with_openai_errors, with_caller(identify, metrics)]
    )
    app.on_response_prepare.append(show_request_id)
    app.router.add_post("/v1/chat/completions", chat.create, expect_handler=wait_before_body)
    app.router.add_post("/v1/route", explanations.show, expect_handler=wait_before_body)
    app.router.add_get("/v1/models", listing.show)
    app.router.add_get("/v1/models/{id:.+}", listing.show_one)
    app.router.add_get("/healthz", probes.healthz)
    app.router.add_get("/readyz", probes.readyz)
    return app


@asynccontextmanager
async def _listening(app: web.Application, settings: GatewaySettings) -> AsyncIterator[int]:
    """Serves; on the way out stops accepting, lets requests in flight finish, cancels the rest."""
    loop = asyncio.get_running_loop()
    runner = web.AppRunner(
        app,
        handler_cancellation=True,  # a client that hangs up stops paying
        # Deadlines end every request within the grace; this is for what they do not reach.
        shutdown_timeout=settings.grace_seconds + _SPARE_SECONDS,
    )
    await runner.setup()
    try:
        # A site of aiohttp's would make connections of aiohttp's.
        with port_errors(settings.host, settings.port, PORT_VARIABLE):
            server = await loop.create_server(
                lambda: Connection(cast(web.Server, runner.server), loop=loop, **_CONNECTION),
                settings.host,
                settings.port,
                backlog=_BACKLOG,
            )
        try:
            yield server.sockets[0].getsockname()[1]
        finally:
            server.close()
    finally:
        await runner.cleanup()


@asynccontextmanager
async def _kept_fresh(directory: Directory, settings: GatewaySettings) -> AsyncIterator[None]:
    await directory.refresh()
    task = asyncio.create_task(directory.keep_fresh(settings.refresh_seconds))
    try:
        yield
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
