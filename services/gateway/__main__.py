"""`python -m services.gateway`."""

import asyncio
import os
import sys

from pointsman.chassis.lifecycle import main
from services.gateway.app import serve
from services.gateway.config import GatewaySettings, load, source


async def _serve(settings: GatewaySettings, stop: asyncio.Event) -> None:
    await serve(settings, source(os.environ), stop)


if __name__ == "__main__":
    sys.exit(main("gateway", lambda: load(os.environ), _serve))
