"""`pointsman score`: rows in, the same rows out with the strong win rate of each."""

from __future__ import annotations

import argparse
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from functools import partial

from pointsman.cli.route import add_source
from pointsman.extras import needed_from
from pointsman.json_text import RawObject
from pointsman.rows import STANDARD, Row, raw, read_rows, row_format, write_rows

FIELD = "strong_win_rate"

_EXAMPLES = """\
examples:
  pointsman score --router mf --input prompts.jsonl --output scores.jsonl
      rows such as {"prompt": "Hello!"}; every row back, with "strong_win_rate" added
  pointsman score --input prompts.csv --field question --output scores.csv.gz
      CSV with a column `question`; gzipped, as the name says
  zcat prompts.jsonl.gz | pointsman score | head
      standard input and output, JSON Lines
  pointsman score --input prompts.jsonl --output scores.jsonl --address 127.0.0.1:50051
      a running scorer's win rates: the same numbers

The output file appears once it is whole. A row without a prompt ends it all, and is named.
"""


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Adds `score` to the command line."""
    parser = subparsers.add_parser(
        "score",
        help="add the strong win rate to every row of a file",
        description="Add the strong win rate of its prompt to every row.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--router", default="mf", metavar="NAME", help="default: mf")
    parser.add_argument("--input", default=STANDARD, metavar="FILE", help="default: - (stdin)")
    parser.add_argument("--output", default=STANDARD, metavar="FILE", help="default: - (stdout)")
    parser.add_argument(
        "--format",
        choices=["jsonl", "csv"],
        help="of the output, and of standard input (default: what the names say; jsonl for -)",
    )
    parser.add_argument(
        "--field", default="prompt", metavar="NAME", help="where the prompt is (default: prompt)"
    )
    add_source(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Scores every row and returns the exit status.

    Raises:
        PointsmanError: The router cannot be loaded or asked, a file cannot be read or written, or
            a row has no prompt.
    """
    given = args.format if args.input == STANDARD else None
    rows = read_rows(args.input, given or row_format(args.input))
    with ExitStack() as stack:
        scored = _scored(rows, args.field, _source(args, stack))
        write_rows(args.output, _with_progress(scored), args.format or row_format(args.output))
    return 0


def _source(
    args: argparse.Namespace, stack: ExitStack
) -> Callable[[Iterable[str]], Iterator[float]]:
    """Returns what turns prompts into win rates, in order."""
    if args.address:
        with needed_from("serve", "--address"):
            from pointsman.cli.remote import RemoteScorer

        scorer = stack.enter_context(RemoteScorer(args.address))
        return partial(scorer.win_rates, args.router)
    from pointsman.cli.scoring import local_router, local_win_rates

    return partial(local_win_rates, local_router(args.config, args.router))


def _scored(
    rows: Iterable[Row], field: str, win_rates: Callable[[Iterable[str]], Iterator[float]]
) -> Iterator[RawObject]:
    waiting: deque[Row] = deque()

    def prompts() -> Iterator[str]:
        for row in rows:
            prompt = row.text(field)
            waiting.append(row)
            yield prompt

    for rate in win_rates(prompts()):
        yield {**waiting.popleft().members, FIELD: raw(rate)}


def _with_progress(rows: Iterable[RawObject]) -> Iterator[RawObject]:
    from tqdm import tqdm

    with tqdm(rows, unit=" prompts", disable=None) as bar:
        yield from bar
