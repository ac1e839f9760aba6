"""`python -m services.gateway`; with `--healthcheck`, whether the one that runs here is ready."""

import asyncio
import os
import sys

from pointsman.chassis import healthcheck

PLACE = healthcheck.Place(
    host_variable="POINTSMAN_GATEWAY_HOST",
    port_variable="POINTSMAN_GATEWAY_PORT",
    default_port=6060,
    file_variable="POINTSMAN_GATEWAY_CONFIG",
)


def run() -> int:
    """Runs the gateway, or asks for its health; returns the exit status."""
    if healthcheck.asked_for():
        return healthcheck.http_health("gateway", PLACE, "/readyz")
    from pointsman.chassis.lifecycle import main
    from services.gateway.app import serve
    from services.gateway.config import GatewaySettings, load, source

    async def serve_source(settings: GatewaySettings, stop: asyncio.Event) -> None:
        await serve(settings, source(os.environ), stop)

    return main("gateway", lambda: load(os.environ), serve_source)


if __name__ == "__main__":
    sys.exit(run())
