"""`python -m bench`: the gateway over the demo provider, beside the demo provider alone."""

import argparse
import asyncio
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

import msgspec

from bench import cpu
from bench.cluster import not_ready, running
from bench.report import Report, as_data, as_text
from bench.rounds import ROWS, LoadFailed, Options, measure_rounds
from pointsman import __version__
from services.process import StartError

EXIT_WRONG = 1
EXIT_INTERRUPTED = 130

_EXAMPLES = """examples:
  python -m bench                               two to three minutes
  python -m bench --clients 1                   latency without queueing
  python -m bench --seconds 1 --rounds 1        does it work at all
  python -m bench --json bench/results/now.json every figure, in seconds

It ends with 0 if every answer was right, 1 if one was not or a service failed, 2 if the command
line is wrong, 130 after Ctrl-C. POINTSMAN_* variables do not reach the services: what is measured
are the defaults.
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the benchmark and prints its report; returns the exit status."""
    parsed = _parser().parse_args(arguments)
    options = Options(
        clients=parsed.clients,
        seconds=parsed.seconds,
        warm_up_seconds=parsed.warm_up,
        rounds=parsed.rounds,
        chunk_seconds=parsed.chunk_seconds,
    )
    try:
        if parsed.json:
            parsed.json.parent.mkdir(parents=True, exist_ok=True)
        report = asyncio.run(_run(options))
        print(as_text(report))
        if parsed.json:
            _write(parsed.json, report)
    except (StartError, LoadFailed, OSError) as error:
        print(f"bench: {error}", file=sys.stderr)
        return EXIT_WRONG
    except KeyboardInterrupt:
        print("bench: interrupted; nothing was written", file=sys.stderr)
        return EXIT_INTERRUPTED
    return EXIT_WRONG if report.errors else 0


async def _run(options: Options) -> Report:
    machine = cpu.machine()
    async with running(os.environ, options.chunk_seconds) as cluster:
        unready = await not_ready(cluster, {row.router for row in ROWS if row.router})
        rows = tuple(row for row in ROWS if row.router not in unready)
        skipped = {row.name: unready[row.router] for row in ROWS if row.router in unready}
        for name, reason in skipped.items():
            print(f"skipping {name}: {reason}", file=sys.stderr)
        measured = await measure_rounds(cluster, rows, options)
    return Report(
        version=__version__,
        machine=machine,
        options=options,
        rows=rows,
        skipped=skipped,
        measured=measured,
    )


def _write(path: Path, report: Report) -> None:
    """Writes all figures: the whole file or, if something fails, none."""
    data = msgspec.json.format(msgspec.json.encode(as_data(report)), indent=2)
    part = path.with_name(path.name + ".part")
    try:
        part.write_bytes(data + b"\n")
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m bench",
        description="Requests a second, CPU time a request and latency, routed and direct.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--clients", type=_count, default=16, metavar="N", help="requests in flight (%(default)s)")
    add(
        "--seconds",
        type=_seconds,
        default=4.0,
        metavar="S",
        help="length of each row's window in each round (%(default)s)",
    )
    add("--rounds", type=_count, default=5, metavar="N", help="rounds over all rows (%(default)s)")
    add(
        "--warm-up",
        type=_seconds,
        default=0.5,
        metavar="S",
        help="load before each window (%(default)s)",
    )
    add(
        "--chunk-seconds",
        type=_pause,
        default=0.01,
        metavar="S",
        help="the provider's pause between two chunks of a stream (%(default)s)",
    )
    add("--json", type=Path, metavar="FILE", help="write all figures to FILE")
    return parser


def _count(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text} is less than 1")
    return value


def _seconds(text: str) -> float:
    value = float(text)
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text} is not over 0")
    return value


def _pause(text: str) -> float:
    return 0.0 if float(text) == 0 else _seconds(text)


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # stops as Ctrl-C does
    sys.exit(main())
