"""`python -m services.upstream`; with `--healthcheck`, whether the one that runs here is ready."""

import asyncio
import os
import sys

from pointsman.chassis import healthcheck

PLACE = healthcheck.Place(
    host_variable="POINTSMAN_UPSTREAM_HOST",
    port_variable="POINTSMAN_UPSTREAM_PORT",
    default_port=50052,
    file_variable="POINTSMAN_UPSTREAM_CONFIG",
)


def run() -> int:
    """Runs the upstream, or asks for its health; returns the exit status."""
    if healthcheck.asked_for():
        return healthcheck.grpc_health("upstream", PLACE)
    from pointsman.chassis.lifecycle import main
    from services.upstream.config import UpstreamSettings, load
    from services.upstream.models import load_catalogue
    from services.upstream.serve import serve

    async def serve_models(settings: UpstreamSettings, stop: asyncio.Event) -> None:
        catalogue = load_catalogue(settings.models_file, settings.demo_provider_url, os.environ)
        await serve(settings, catalogue, stop)

    return main("upstream", lambda: load(os.environ), serve_models)


if __name__ == "__main__":
    sys.exit(run())
