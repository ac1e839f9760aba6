"""`python -m services.demo_provider`; with `--healthcheck`, whether the one here answers."""

import os
import sys

from pointsman.chassis import healthcheck

PLACE = healthcheck.Place(
    host_variable="POINTSMAN_DEMO_HOST",
    port_variable="POINTSMAN_DEMO_PORT",
    default_port=6061,
)


def run() -> int:
    """Runs the demo provider, or asks for its health; returns the exit status."""
    if healthcheck.asked_for():
        return healthcheck.http_health("demo_provider", PLACE, "/v1/models")
    from pointsman.chassis.lifecycle import main
    from services.demo_provider.config import load
    from services.demo_provider.serve import serve

    return main("demo_provider", lambda: load(os.environ), serve)


if __name__ == "__main__":
    sys.exit(run())
