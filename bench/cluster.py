"""The services to measure: real processes on ports the kernel chooses, the demo provider behind."""

import asyncio
import tempfile
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

import msgspec

from bench.http1 import Connection, request_bytes
from pointsman.errors import InvalidRequest
from pointsman.routing import parse_model_field
from services.all_in_one import Cluster

_OURS = "POINTSMAN_"
_PORTS = ("DEMO", "SCORER", "SCORER_METRICS", "UPSTREAM", "UPSTREAM_METRICS", "GATEWAY")
_LISTING_SECONDS = 10.0


class _Entry(msgspec.Struct):
    id: str
    ready: bool | None = None
    """None for a model, which is no router."""
    not_ready_reason: str = ""


class _Listing(msgspec.Struct):
    data: list[_Entry]


async def not_ready(cluster: Cluster, names: set[str]) -> dict[str, str]:
    """Returns which of the routers cannot score, and why."""
    host = cluster.processes["gateway"].announcement.address
    async with asyncio.timeout(_LISTING_SECONDS), await Connection.open(host) as connection:
        response = await connection.ask(request_bytes("GET", host, "/v1/models"))
    return unready_routers(response.body, names)


def unready_routers(listing: bytes, names: set[str]) -> dict[str, str]:
    """Returns which of the routers `GET /v1/models` does not call ready, and why."""
    reasons = dict.fromkeys(sorted(names), "the gateway does not list it")
    for entry in msgspec.json.decode(listing, type=_Listing).data:
        if entry.ready is None or (router := _router(entry.id)) not in reasons:
            continue
        if entry.ready:
            del reasons[router]
        else:
            reasons[router] = entry.not_ready_reason
    return reasons


@asynccontextmanager
async def running(environ: Mapping[str, str], chunk_seconds: float) -> AsyncIterator[Cluster]:
    """Starts the services in order; on the way out stops them in reverse.

    Args:
        environ: What the services inherit, less all that is ours: defaults are measured.
        chunk_seconds: The demo provider's pause between two chunks of a stream.

    Raises:
        StartError: A process ended before it was up, or the gateway cannot serve.
    """
    # Unlinked: the services write their lines as in production, and nothing stays behind.
    with tempfile.TemporaryFile() as log:
        cluster = Cluster(service_environ(environ, chunk_seconds), log.fileno())
        try:
            await cluster.start()
            yield cluster
        finally:
            await cluster.stop()


def service_environ(environ: Mapping[str, str], chunk_seconds: float) -> dict[str, str]:
    """Returns the services' environment: defaults, and ports of 0."""
    # No proxy is to be measured.
    inherited = {
        name: value
        for name, value in environ.items()
        if not name.startswith(_OURS) and not name.lower().endswith("_proxy")
    }
    return {
        **inherited,
        **{f"{_OURS}{name}_PORT": "0" for name in (*_PORTS, "GATEWAY_METRICS")},
        f"{_OURS}LOG_LEVEL": "INFO",
        f"{_OURS}DEMO_CHUNK_SECONDS": str(chunk_seconds),
    }


def _router(model_field: str) -> str | None:
    try:
        ref = parse_model_field(model_field)
    except InvalidRequest:
        return None
    return ref.router if ref else None
