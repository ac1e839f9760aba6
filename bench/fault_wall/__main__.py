"""`python -m bench.fault_wall`: the sixteen faults, scored through gateway and upstream."""

import argparse
import asyncio
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec

from bench.__main__ import EXIT_INTERRUPTED, EXIT_WRONG
from bench.fault_wall import wall
from bench.fault_wall.cases import cases
from bench.fault_wall.runner import judge_all, routes_of
from bench.fault_wall.scorecard import Verdict, card, progress
from bench.fault_wall.trial import Pace
from services.process import StartError

_EXAMPLES = """examples:
  python -m bench.fault_wall                       all sixteen, about 95 seconds
  python -m bench.fault_wall --case 3 12           those two, a second
  python -m bench.fault_wall --restart             streams held back until they are complete
  python -m bench.fault_wall --settings wrong.yaml does the wall notice what is wrong?
  python -m bench.fault_wall --json bench/results/faults.json

A settings file has two parts, both as in the models file, over what the wall sets itself:
  limits: {first_token_timeout_seconds: 60}        of both providers
  reliability: {retries: {max_retries: 50}}

It ends with 0 if every case passed, 1 if one did not or a service failed, 2 if the command line is
wrong, 130 after Ctrl-C. POINTSMAN_* variables do not reach the services.
"""


class Settings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What the services of the wall are told, but for what they have by default."""

    limits: dict[str, Any] = {}
    """Of both providers."""
    reliability: dict[str, Any] = {}


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the wall and prints its scorecard; returns the exit status."""
    parser = _parser()
    parsed = parser.parse_args(arguments)
    pace = Pace()
    try:
        settings = _settings(parsed.settings, pace, restart=parsed.restart)
        if parsed.json:
            parsed.json.parent.mkdir(parents=True, exist_ok=True)
    except (OSError, msgspec.MsgspecError) as error:
        parser.error(f"{parsed.settings or parsed.json}: {error}")
    try:
        verdicts = asyncio.run(_run(frozenset(parsed.case), settings, pace))
        print(card(verdicts))
        if parsed.json:
            data = msgspec.json.format(msgspec.json.encode(verdicts), indent=2)
            parsed.json.write_bytes(data + b"\n")
    except (StartError, OSError) as error:
        print(f"fault wall: {error}", file=sys.stderr)
        return EXIT_WRONG
    except KeyboardInterrupt:
        print("fault wall: interrupted; nothing was scored", file=sys.stderr)
        return EXIT_INTERRUPTED
    return 0 if all(verdict.passed for verdict in verdicts) else EXIT_WRONG


async def _run(numbers: frozenset[int], settings: Settings, pace: Pace) -> list[Verdict]:
    chosen = [case for case in cases(pace) if not numbers or case.number in numbers]
    running = wall.running(
        routes_of(chosen), limits=settings.limits, reliability=settings.reliability
    )
    async with running as started:
        return await judge_all(
            chosen, started, pace, lambda verdict: print(progress(verdict), file=sys.stderr)
        )


def _settings(path: Path | None, pace: Pace, *, restart: bool) -> Settings:
    given = msgspec.yaml.decode(path.read_bytes(), type=Settings) if path else Settings()
    limits = {
        "first_token_timeout_seconds": pace.first_token_limit,
        "idle_timeout_seconds": pace.idle_limit,
    }
    held_back = {"on_stream_failure": "restart"} if restart else {}
    return Settings({**limits, **given.limits}, {**held_back, **given.reliability})


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m bench.fault_wall",
        description="Sixteen ways in which a provider fails, and whether the answer is right.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add(
        "--case",
        type=int,
        nargs="+",
        choices=range(1, 17),
        default=[],
        metavar="N",
        help="only these, 1 to 16",
    )
    add("--restart", action="store_true", help="set on_stream_failure to restart")
    add("--settings", type=Path, metavar="FILE", help="YAML with limits and reliability to try")
    add("--json", type=Path, metavar="FILE", help="write the verdicts to FILE")
    return parser


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # stops as Ctrl-C does
    sys.exit(main())
