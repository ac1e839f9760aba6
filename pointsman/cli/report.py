"""`pointsman report`: routers times benchmarks on one page."""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path

from pointsman.cli.evaluate import (
    add_measuring_options,
    add_router_options,
    check_folder,
    loaded_routers,
    measuring_of,
    need_matplotlib,
)
from pointsman.errors import ConfigError

_TITLE = "Routers and their controls"
_EXAMPLES = """\
examples:
  pointsman report --routers mf --benchmarks gsm8k mmlu mt-bench --output report.html
      one page with a summary, pictures, figures and verdicts
  pointsman report --routers mf mine --config routers.yaml --benchmarks graded.jsonl
      your own router on your own prompts

The page holds no prompt, date or path, and may be published. Needs `pip install 'pointsman[eval]'`.
"""


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add ``report`` to the command line."""
    parser = subparsers.add_parser(
        "report",
        help="write one page on routers and benchmarks",
        description="Measure routers on benchmarks, as `evaluate` does, and write one HTML page "
        "that stands alone.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_router_options(parser)
    parser.add_argument(
        "--benchmarks",
        nargs="+",
        default=["gsm8k", "mmlu", "mt-bench"],
        metavar="NAME",
        help="as --benchmark of `evaluate` (default: gsm8k mmlu mt-bench)",
    )
    parser.add_argument(
        "--output",
        type=Path,
        default=Path("report.html"),
        metavar="FILE",
        help="the page (default: %(default)s)",
    )
    parser.add_argument("--title", default=_TITLE, help="of the page (default: %(default)s)")
    add_measuring_options(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Measure and write the page; return the exit status.

    Raises:
        PointsmanError: A router, a benchmark or a file is wrong; says which and what to do.
    """
    need_matplotlib("")
    check_folder(args.output.parent)
    if args.output.is_dir():
        raise ConfigError(f"--output {args.output} is a folder; name a file in it")
    from pointsman.evaluation.page import page
    from pointsman.files import write_whole

    measuring = measuring_of(args)
    # All are read before any is scored: a typing mistake should not cost minutes.
    benchmarks = [measuring.benchmark(name) for name in dict.fromkeys(args.benchmarks)]
    routers = loaded_routers(measuring, args.routers)
    studies = [measuring.study(benchmark, routers) for benchmark in benchmarks]
    for study in studies:
        for note in study.result.notes:
            print(f"{study.result.benchmark}: {note}", file=sys.stderr)
    text = page(studies, title=args.title, command=shlex.join(_command(args)))
    try:
        write_whole(args.output, text.encode("utf-8", "replace"))
    except OSError as error:
        raise ConfigError(
            f"--output {args.output}: the page cannot be written: {error.strerror}; name a file in "
            "a folder of yours"
        ) from error
    print(f"wrote {args.output}", file=sys.stderr)
    return 0


def _command(args: argparse.Namespace) -> Iterator[str]:
    """Yields the command line without what differs between machines: folders and threads."""
    yield from ("pointsman", "report", "--routers", *dict.fromkeys(args.routers))
    yield from ("--benchmarks", *dict.fromkeys(map(_without_folder, args.benchmarks)))
    yield from ("--metric-mode", args.metric_mode, "--num-results", str(args.num_results))
    yield from ("--random-iters", str(args.random_iters), "--seed", str(args.seed))
    for option in ("strong_model", "weak_model"):
        if value := getattr(args, option):
            yield from (f"--{option.replace('_', '-')}", value)
    if args.config:
        yield from ("--config", Path(args.config).name)
    if args.models:
        yield from ("--models", Path(args.models).name)
    if args.output_tokens:
        yield from ("--output-tokens", str(args.output_tokens))
    if args.title != _TITLE:
        yield from ("--title", args.title)
    yield from ("--output", args.output.name)


def _without_folder(benchmark: str) -> str:
    return Path(benchmark).name if Path(benchmark).is_file() else benchmark
