"""The upstream put together: opened in order, closed in reverse."""

import asyncio
import random
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import aiohttp

from pointsman import __version__
from pointsman.chassis.grpc_server import grpc_server
from pointsman.chassis.lifecycle import announce
from pointsman.chassis.metrics import metrics_server, new_registry
from pointsman.chassis.ports import reachable
from pointsman.upstream.v1 import upstream_pb2, upstream_pb2_grpc
from services.upstream.client import ProviderClient
from services.upstream.config import METRICS_PORT_VARIABLE, PORT_VARIABLE, UpstreamSettings
from services.upstream.failover import Failover
from services.upstream.metrics import UpstreamMetrics
from services.upstream.models import Catalogue
from services.upstream.servicer import UpstreamServicer

SERVICE = upstream_pb2.DESCRIPTOR.services_by_name["UpstreamService"].full_name


async def serve(settings: UpstreamSettings, catalogue: Catalogue, stop: asyncio.Event) -> None:
    """Runs the upstream until `stop` is set.

    Raises:
        ConfigError: A port is taken, or anybody could call.
    """
    registry = new_registry()
    metrics = UpstreamMetrics(registry)
    for model in catalogue.models():
        metrics.show_prices(model.name, model.settings)
    failover = Failover(
        catalogue,
        metrics,
        clock=time.perf_counter,
        sleep=asyncio.sleep,
        chance=random.Random(),
    )
    metrics.show_endpoints(failover.gauges)
    with metrics_server(
        registry, settings.metrics_host, settings.metrics_port, setting=METRICS_PORT_VARIABLE
    ) as metrics_port:
        async with _session() as session, _closed_at_the_end(catalogue):
            client = ProviderClient(session, settings.body_limit_bytes)
            servicer = UpstreamServicer(catalogue, client, failover, metrics)
            async with grpc_server(
                settings,
                settings.port,
                setting=PORT_VARIABLE,
                register=lambda server: upstream_pb2_grpc.add_UpstreamServiceServicer_to_server(
                    servicer, server
                ),
                services=[SERVICE],
                body_limit_bytes=settings.body_limit_bytes,
            ) as server:
                await server.set_serving(SERVICE)
                announce(
                    "upstream",
                    address=reachable(settings.host, server.port),
                    metrics=reachable(settings.metrics_host, metrics_port),
                )
                await stop.wait()
                await server.drain(settings.drain_delay_seconds, settings.grace_seconds)


@asynccontextmanager
async def _closed_at_the_end(catalogue: Catalogue) -> AsyncIterator[None]:
    try:
        yield
    finally:
        await catalogue.close()


def _session() -> aiohttp.ClientSession:
    return aiohttp.ClientSession(
        # A connection pool is no place to queue: who calls limits how many calls there are.
        connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=60),
        cookie_jar=aiohttp.DummyCookieJar(),
        headers={"user-agent": f"pointsman/{__version__}"},
    )
