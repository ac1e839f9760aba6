"""`python -m services.upstream`."""

import asyncio
import os
import sys

from pointsman.chassis.lifecycle import main
from services.upstream.config import UpstreamSettings, load
from services.upstream.models import load_catalogue
from services.upstream.serve import serve


async def _serve(settings: UpstreamSettings, stop: asyncio.Event) -> None:
    catalogue = load_catalogue(settings.models_file, settings.demo_provider_url, os.environ)
    await serve(settings, catalogue, stop)


if __name__ == "__main__":
    sys.exit(main("upstream", lambda: load(os.environ), _serve))
