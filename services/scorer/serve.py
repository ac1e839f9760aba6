"""The scorer put together: opened in order, closed in reverse."""

import asyncio
from collections.abc import Mapping

from pointsman.chassis.grpc_server import grpc_server
from pointsman.chassis.lifecycle import announce
from pointsman.chassis.metrics import metrics_server, new_registry
from pointsman.chassis.ports import reachable
from pointsman.scorer.v1 import scorer_pb2, scorer_pb2_grpc
from services.scorer.cache import WinRateCache
from services.scorer.config import METRICS_PORT_VARIABLE, PORT_VARIABLE, ScorerSettings
from services.scorer.embedders import beside, open_embedders
from services.scorer.metrics import ScorerMetrics
from services.scorer.routers import RouterTable
from services.scorer.servicer import ScorerServicer
from services.scorer.workers import InferencePool

SERVICE = scorer_pb2.DESCRIPTOR.services_by_name["ScorerService"].full_name


async def serve(settings: ScorerSettings, environ: Mapping[str, str], stop: asyncio.Event) -> None:
    """Runs the scorer until `stop` is set; SERVING only once every router is checked and warm.

    If each of them waits for its endpoint, it is up and not yet SERVING.

    Args:
        settings: What to serve.
        environ: Where the keys and proxies of embeddings endpoints are looked up.
        stop: Set to stop.

    Raises:
        ConfigError: A port is taken, anybody could call, or not one router can score.
    """
    registry = new_registry()
    metrics = ScorerMetrics(registry)
    with (
        metrics_server(
            registry,
            settings.metrics_host,
            settings.metrics_port,
            setting=METRICS_PORT_VARIABLE,
        ) as metrics_port,
        InferencePool(settings.workers, settings.queue_limit, metrics) as pool,
    ):
        async with open_embedders(settings.routers, environ, metrics) as embedders:
            routers = RouterTable(settings.routers, metrics, embedders)
            cache = WinRateCache(settings.cache_entries, metrics.cache_lookups)
            servicer = ScorerServicer(routers, pool, cache, metrics)
            async with grpc_server(
                settings,
                settings.port,
                setting=PORT_VARIABLE,
                register=lambda server: scorer_pb2_grpc.add_ScorerServiceServicer_to_server(
                    servicer, server
                ),
                services=[SERVICE],
                body_limit_bytes=settings.body_limit_bytes,
            ) as server:

                async def on_ready() -> None:
                    await server.set_serving(SERVICE)

                await routers.load()
                if routers.can_score:
                    await on_ready()
                announce(
                    "scorer",
                    address=reachable(settings.host, server.port),
                    metrics=reachable(settings.metrics_host, metrics_port),
                )
                async with beside(routers.ask_again(on_ready)):
                    await stop.wait()
                await server.drain(settings.drain_delay_seconds, settings.grace_seconds)
