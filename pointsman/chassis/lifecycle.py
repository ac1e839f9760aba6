"""From start to a clean exit: signals, one-line start-up errors, and word to a supervisor.

A service is a coroutine function `serve(settings, stop)`: it opens everything, calls `announce`,
awaits `stop`, and closes in reverse order. SIGTERM and SIGINT set `stop`; a second one cancels.
"""

import asyncio
import logging
import os
import signal
import sys
from collections.abc import Callable, Coroutine, Mapping
from typing import Any, TypeVar

import msgspec

from pointsman.chassis.config import ServerSettings
from pointsman.chassis.logs import configure_logging
from pointsman.errors import ConfigError

SUPERVISOR_VARIABLE = "POINTSMAN_SUPERVISOR_FD"
"""Names a socket's descriptor: a started process writes its addresses to it as one JSON line, and
stops when the other end closes. Nobody has to guess a port, poll, or hunt orphans."""

EXIT_CONFIG = 2
EXIT_INTERRUPTED = 130
logger = logging.getLogger(__name__)

SettingsT = TypeVar("SettingsT", bound=ServerSettings)
Serve = Callable[[SettingsT, asyncio.Event], Coroutine[Any, Any, None]]


def main(service: str, load: Callable[[], SettingsT], serve: Serve[SettingsT]) -> int:
    """Runs a service until it is told to stop; returns the process's exit status.

    0 after a clean stop, 2 with one line on standard error if the configuration is at fault, 130
    if a second signal cut the draining short.
    """
    try:
        settings = load()
        configure_logging(service, settings.log_level)
        asyncio.run(_run(settings, serve))
    except ConfigError as error:
        print(f"pointsman {service}: {error}", file=sys.stderr)
        return EXIT_CONFIG
    except asyncio.CancelledError:
        return EXIT_INTERRUPTED
    return 0


async def _run(settings: SettingsT, serve: Serve[SettingsT]) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    task = asyncio.ensure_future(serve(settings, stop))

    def on_signal() -> None:
        if stop.is_set():
            task.cancel()
        stop.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, on_signal)
    descriptor = _supervisor(os.environ)
    if descriptor is not None:
        loop.add_reader(descriptor, _stop_at_end, loop, descriptor, stop)
    await task


def announce(service: str, **facts: str) -> None:
    """Says that the service is up, in the log and to the supervisor if there is one."""
    logger.info("serving", extra=facts)
    descriptor = _supervisor(os.environ)
    if descriptor is not None:
        os.write(descriptor, msgspec.json.encode({"service": service, **facts}) + b"\n")


def _supervisor(environ: Mapping[str, str]) -> int | None:
    value = environ.get(SUPERVISOR_VARIABLE)
    return int(value) if value else None


def _stop_at_end(loop: asyncio.AbstractEventLoop, descriptor: int, stop: asyncio.Event) -> None:
    try:
        heard = os.read(descriptor, 1)
    except ConnectionError:  # it closed without having heard us
        heard = b""
    if not heard:
        loop.remove_reader(descriptor)
        stop.set()
