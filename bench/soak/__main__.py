"""`python -m bench.soak`: every fault now and then, for minutes, and nothing may be left over."""

import argparse
import asyncio
import signal
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec

from bench.__main__ import EXIT_INTERRUPTED, EXIT_WRONG
from bench.soak.footprint import Footprint
from bench.soak.mix import CHANCE, KINDS
from bench.soak.soak import Options, Report, soak
from bench.table import aligned
from services.process import StartError

_LEAST_SECONDS = 60.0
_MIB = 1024 * 1024
_EXAMPLES = """examples:
  python -m bench.soak                     ten minutes, 32 clients
  python -m bench.soak --seconds 60        do the sums add up? memory has not settled by then
  python -m bench.soak --seed 7 --json bench/results/soak.json

It ends with 0 if every request had a whole answer or a clear error, memory does not grow, threads
and descriptors are what they were, and all counters add up; 1 if not or a service failed; 2 if the
command line is wrong; 130 after Ctrl-C. POINTSMAN_* variables do not reach the services.
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a soak and prints its report; returns the exit status."""
    parsed = _parser().parse_args(arguments)
    options = Options(seconds=parsed.seconds, clients=parsed.clients, seed=parsed.seed)
    try:
        if parsed.json:
            parsed.json.parent.mkdir(parents=True, exist_ok=True)
        report = asyncio.run(soak(options))
        print(as_text(report))
        if parsed.json:
            data = msgspec.json.format(msgspec.json.encode(report), indent=2)
            parsed.json.write_bytes(data + b"\n")
    except (StartError, OSError) as error:
        print(f"soak: {error}", file=sys.stderr)
        return EXIT_WRONG
    except KeyboardInterrupt:
        print("soak: interrupted; nothing was measured", file=sys.stderr)
        return EXIT_INTERRUPTED
    return EXIT_WRONG if report.problems else 0


def as_text(report: Report) -> str:
    """Returns the report; its last line says whether all is well."""
    options = report.options
    rows = [["", "RSS before", "after", "growth/h", "95 % interval", "descriptors", "threads"]]
    for name, line in report.memory.items():
        before, after = report.before[name], report.after[name]
        rows.append(
            [
                name,
                f"{before.rss_bytes / _MIB:.1f} MiB",
                f"{after.rss_bytes / _MIB:.1f} MiB",
                f"{line.per_hour / _MIB:+.1f} MiB",
                f"{line.low / _MIB:+.1f} to {line.high / _MIB:+.1f}",
                _both(before, after, "descriptors"),
                _both(before, after, "threads"),
            ]
        )
    return "\n".join(
        [
            f"{report.requests:,} requests in {options.seconds:g} s by {options.clients} clients, "
            f"{report.attempts:,} attempts at two providers, each with {len(KINDS)} faults at "
            f"{CHANCE:.0%}",
            "",
            aligned([["outcome", "requests"], *_counts(report.outcomes)]),
            "",
            aligned([["whole answer from", "requests"], *_counts(report.whole_from)]),
            "",
            aligned([["fallback because of", "answers"], *_counts(report.fallbacks)]),
            "",
            aligned(rows),
            f"connections were given back after {report.release_seconds:.1f} s",
            "",
            *(f"WRONG: {problem}" for problem in report.problems),
            f"soak: {'passed' if not report.problems else 'failed'}",
        ]
    )


def _counts(counts: Mapping[str, int]) -> list[list[str]]:
    return [[name, f"{count:,}"] for name, count in counts.items()]


def _both(before: Footprint, after: Footprint, what: str) -> str:
    return f"{getattr(before, what)} -> {getattr(after, what)}"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m bench.soak",
        description="Every fault of the fault wall at once, for minutes.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add(
        "--seconds",
        type=_seconds,
        default=600.0,
        metavar="S",
        help="how long requests are sent, at least 60 (%(default)s)",
    )
    add("--clients", type=_count, default=32, metavar="N", help="requests at a time (%(default)s)")
    add("--seed", type=int, default=0, metavar="N", help="of everything by chance (%(default)s)")
    add("--json", type=Path, metavar="FILE", help="write all figures to FILE")
    return parser


def _seconds(text: str) -> float:
    value = float(text)
    if not _LEAST_SECONDS <= value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text} is less than {_LEAST_SECONDS:g}")
    return value


def _count(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text} is less than 1")
    return value


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # stops as Ctrl-C does
    sys.exit(main())
