"""The gateway put together: opened in order, closed in reverse."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import grpc
from aiohttp import web

from pointsman.chassis.grpc_server import channel_options
from pointsman.chassis.lifecycle import announce
from pointsman.chassis.metrics import metrics_server, new_registry
from pointsman.chassis.ports import port_errors, reachable
from services.gateway.access import show_request_id, with_openai_errors, with_request_id
from services.gateway.chat import ChatCompletions
from services.gateway.completion import UpstreamClient
from services.gateway.config import METRICS_PORT_VARIABLE, PORT_VARIABLE, GatewaySettings
from services.gateway.deadlines import Deadlines
from services.gateway.directory import Directory
from services.gateway.listing import ModelListing, example
from services.gateway.metrics import GatewayMetrics
from services.gateway.probes import Probes
from services.gateway.scoring import DecisionMaker, ScorerClient

_SPARE_SECONDS = 2.0


async def serve(settings: GatewaySettings, source: str, stop: asyncio.Event) -> None:
    """Runs the gateway until `stop` is set.

    Args:
        settings: The gateway's settings.
        source: Where they come from, for messages to the operator.
        stop: Ends it.

    Raises:
        ConfigError: A port is taken.
    """
    registry = new_registry()
    metrics = GatewayMetrics(registry)
    options = channel_options(settings.body_limit_bytes)
    with metrics_server(
        registry, settings.metrics_host, settings.metrics_port, setting=METRICS_PORT_VARIABLE
    ) as metrics_port:
        async with (
            grpc.aio.insecure_channel(settings.scorer.address, options) as scorer_channel,
            grpc.aio.insecure_channel(settings.upstream.address, options) as upstream_channel,
        ):
            scorer = ScorerClient(scorer_channel, settings.scorer.timeout_seconds)
            upstream = UpstreamClient(upstream_channel)
            pair = settings.model_pair()
            directory = Directory(pair, source, upstream.list_models, scorer.list_routers)
            deadlines = Deadlines(settings.request_timeout_seconds)
            chat = ChatCompletions(
                DecisionMaker(scorer, pair, directory.percentiles, settings.on_scorer_failure),
                upstream,
                directory,
                metrics,
                prompt_policy=settings.prompt_policy,
                body_limit_bytes=settings.body_limit_bytes,
                deadlines=deadlines,
            )
            probes = Probes(directory)
            app = build_app(chat, ModelListing(directory, int(time.time())), probes)
            async with _listening(app, settings) as port, _kept_fresh(directory, settings):
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


def build_app(chat: ChatCompletions, listing: ModelListing, probes: Probes) -> web.Application:
    """Returns the HTTP application."""
    app = web.Application(middlewares=[with_request_id, with_openai_errors])
    app.on_response_prepare.append(show_request_id)
    app.router.add_post("/v1/chat/completions", chat.create)
    app.router.add_get("/v1/models", listing.show)
    app.router.add_get("/healthz", probes.healthz)
    app.router.add_get("/readyz", probes.readyz)
    return app


@asynccontextmanager
async def _listening(app: web.Application, settings: GatewaySettings) -> AsyncIterator[int]:
    """Serves; on the way out stops accepting, lets requests in flight finish, cancels the rest."""
    runner = web.AppRunner(
        app,
        access_log=None,  # each chat request writes its own line
        handler_cancellation=True,  # a client that hangs up stops paying
        auto_decompress=False,  # a compressed body is refused, not unpacked
        # Deadlines end every request within the grace; this is for what they do not reach.
        shutdown_timeout=settings.grace_seconds + _SPARE_SECONDS,
    )
    await runner.setup()
    try:
        site = web.TCPSite(runner, settings.host, settings.port)
        with port_errors(settings.host, settings.port, PORT_VARIABLE):
            await site.start()
        yield runner.addresses[0][1]
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
