"""`python -m services.scorer`; with `--healthcheck`, whether the one that runs here is ready."""

import asyncio
import os
import sys

from pointsman.chassis import healthcheck

PLACE = healthcheck.Place(
    host_variable="POINTSMAN_SCORER_HOST",
    port_variable="POINTSMAN_SCORER_PORT",
    default_port=50051,
    file_variable="POINTSMAN_SCORER_CONFIG",
)


def run() -> int:
    """Runs the scorer, or asks for its health; returns the exit status."""
    if healthcheck.asked_for():
        return healthcheck.grpc_health("scorer", PLACE)
    from pointsman.chassis.lifecycle import main
    from services.scorer.config import ScorerSettings, load
    from services.scorer.serve import serve

    async def serve_routers(settings: ScorerSettings, stop: asyncio.Event) -> None:
        await serve(settings, os.environ, stop)

    return main("scorer", lambda: load(os.environ), serve_routers)


if __name__ == "__main__":
    sys.exit(run())
