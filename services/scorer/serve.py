"""The scorer put together: opened in order, closed in reverse."""

import asyncio

from pointsman.chassis.grpc_server import grpc_server
from pointsman.chassis.lifecycle import announce
from pointsman.chassis.metrics import metrics_server, new_registry
from pointsman.chassis.ports import reachable
from pointsman.scorer.v1 import scorer_pb2, scorer_pb2_grpc
from services.scorer.config import METRICS_PORT_VARIABLE, PORT_VARIABLE, ScorerSettings
from services.scorer.metrics import ScorerMetrics
from services.scorer.routers import RouterTable
from services.scorer.servicer import ScorerServicer
from services.scorer.workers import InferencePool

SERVICE = scorer_pb2.DESCRIPTOR.services_by_name["ScorerService"].full_name


async def serve(settings: ScorerSettings, stop: asyncio.Event) -> None:
    """Runs the scorer until `stop` is set; SERVING only once every router is checked and warm.

    Raises:
        ConfigError: A port is taken, anybody could call, or not one router can score.
    """
    registry = new_registry()
    metrics = ScorerMetrics(registry)
    routers = RouterTable(settings.routers, metrics)
    with (
        metrics_server(
            registry,
            settings.metrics_host,
            settings.metrics_port,
            setting=METRICS_PORT_VARIABLE,
        ) as metrics_port,
        InferencePool(settings.workers, settings.queue_limit, metrics) as pool,
    ):
        servicer = ScorerServicer(routers, pool, metrics)
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
            await asyncio.to_thread(routers.load)
            await server.set_serving(SERVICE)
            announce(
                "scorer",
                address=reachable(settings.host, server.port),
                metrics=reachable(settings.metrics_host, metrics_port),
            )
            await stop.wait()
            await server.drain(settings.drain_delay_seconds, settings.grace_seconds)
