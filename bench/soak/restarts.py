"""`python -m bench.soak.restarts`: one service after another is restarted under load.

Nothing stands before the gateway, so that while it is away nobody listens: a client that could not
connect has sent nothing, and asks again. Every request that was sent must be answered.
"""

import argparse
import asyncio
import itertools
import signal
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

import aiohttp

from bench.__main__ import EXIT_INTERRUPTED, EXIT_WRONG
from bench.fault_wall.client import ask
from bench.fault_wall.wall import Wall, running
from services.process import StartError

_MODEL = "router-random-0.5"
_TOKEN_SECONDS = 0.02
"""A stream takes more than a second: restarts find most of them in the middle."""
_PAUSE_SECONDS = 2.0
"""Between two restarts."""
_AGAIN_SECONDS = 0.05
_PATIENCE_SECONDS = 60.0
_REFUSED, _RESET = "ClientConnectorError", "ClientOSError"
_EXAMPLES = """examples:
  python -m bench.soak.restarts                one minute, 16 clients
  python -m bench.soak.restarts --seconds 300

It ends with 0 if every request had a whole answer and every service ended with status 0.
"""


@dataclass
class Tally:
    """What came of it."""

    restarts: Counter[str] = field(default_factory=Counter)
    statuses: set[int] = field(default_factory=set)
    answers: Counter[str] = field(default_factory=Counter)
    """`streamed` and `in one piece`."""
    not_connected: int = 0
    reset: int = 0
    """Connections that the kernel had taken and a gateway that was leaving never did."""
    failed: list[str] = field(default_factory=list)
    longest_seconds: float = 0.0

    def as_text(self) -> str:
        """Returns the report; its last line says whether all is well."""
        restarts = ", ".join(f"{name} {count}" for name, count in self.restarts.items())
        answers = ", ".join(f"{count:,} {name}" for name, count in self.answers.items())
        return "\n".join(
            [
                f"restarts: {restarts}; exit statuses {sorted(self.statuses)}",
                f"whole answers: {answers}; the longest took {self.longest_seconds:.1f} s",
                f"asked again: {self.not_connected:,} times as nobody listened, {self.reset} times "
                "as the connection was reset before the gateway had it",
                *(f"FAILED: {one}" for one in self.failed),
                f"restarts: {'passed' if self.passed else 'failed'}",
            ]
        )

    @property
    def passed(self) -> bool:
        """Whether no request failed and all services drained."""
        return not self.failed and self.statuses == {0}


async def restarts(seconds: float, clients: int) -> Tally:
    """Returns what came of restarting the services in turn for so long, and of each three at least.

    Raises:
        StartError: A service did not start.
    """
    tally, stop = Tally(), asyncio.Event()
    async with running(
        {}, limits={}, reliability={}, token_seconds=_TOKEN_SECONDS, remember=False, scorer=True
    ) as wall:
        # A connection for each request: one that is kept may be closed by a draining server in the
        # very moment in which its client writes, which HTTP/1.1 cannot help.
        connector = aiohttp.TCPConnector(limit=0, force_close=True)
        async with aiohttp.ClientSession(connector=connector) as session, asyncio.TaskGroup() as g:
            for number in range(clients):
                g.create_task(_client(wall, session, tally, stop, stream=bool(number % 4)))
            await _restart_in_turn(wall, tally, seconds)
            stop.set()
    return tally


async def _restart_in_turn(wall: Wall, tally: Tally, seconds: float) -> None:
    now = asyncio.get_running_loop().time
    until = now() + seconds
    for name in itertools.cycle(wall.services):
        await asyncio.sleep(_PAUSE_SECONDS)
        tally.statuses.add(await wall.restart(wall.services[name]))
        tally.restarts[name] += 1
        if now() > until and min(tally.restarts[each] for each in wall.services) >= 3:
            return


async def _client(
    wall: Wall, session: aiohttp.ClientSession, tally: Tally, stop: asyncio.Event, *, stream: bool
) -> None:
    texts = [wall.primary.text, wall.secondary.text]
    while not stop.is_set():
        answer = await ask(
            session, wall.url, _MODEL, stream=stream, patience_seconds=_PATIENCE_SECONDS
        )
        if answer.flaw.startswith((_REFUSED, _RESET)):
            tally.not_connected += answer.flaw.startswith(_REFUSED)
            tally.reset += answer.flaw.startswith(_RESET)
            await asyncio.sleep(_AGAIN_SECONDS)
        elif answer.is_whole(texts):
            tally.answers["streamed" if stream else "in one piece"] += 1
            tally.longest_seconds = max(tally.longest_seconds, answer.seconds)
        else:
            tally.failed.append(f"{answer.summary()}: {(answer.error or {}).get('message')}")


def main(arguments: Sequence[str] | None = None) -> int:
    """Restarts services under load and prints a report; returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m bench.soak.restarts",
        description="Rolling restarts under load: no request may fail.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--seconds", type=float, default=60.0, metavar="S", help="%(default)s")
    parser.add_argument("--clients", type=int, default=16, metavar="N", help="%(default)s")
    parsed = parser.parse_args(arguments)
    try:
        tally = asyncio.run(restarts(parsed.seconds, parsed.clients))
    except (StartError, OSError) as error:
        print(f"restarts: {error}", file=sys.stderr)
        return EXIT_WRONG
    except KeyboardInterrupt:
        print("restarts: interrupted; nothing was measured", file=sys.stderr)
        return EXIT_INTERRUPTED
    print(tally.as_text())
    return 0 if tally.passed else EXIT_WRONG


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # stops as Ctrl-C does
    sys.exit(main())
