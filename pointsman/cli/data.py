"""`pointsman data`: benchmarks fetched, models graded on them, training sets checked for copies."""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from pointsman.cli import data_generate
from pointsman.errors import ConfigError
from pointsman.json_text import RawObject
from pointsman.rows import STANDARD, raw, read_rows, write_rows

_EXAMPLES = """\
examples:
  pointsman data fetch
  pointsman data generate --benchmark gsm8k --model gpt-4o-mini
  pointsman data contamination --training my.jsonl --benchmark gsm8k mmlu mt-bench

All have examples of their own: pointsman data fetch --help
"""

_FETCH = """\
Download the public test sets, once, and check each file against its SHA-256. Files that are there
and right are left alone, wrong ones are replaced, and a file appears whole or not at all, so that
a broken download goes on where it stopped.

  gsm8k        2 MB    GSM8K's test questions, their answers, and what RouteLLM logged of them
  mmlu         7 MB    MMLU as RouteLLM asked it, and what it logged
  mt-bench     1 MB    MT-Bench's questions and GPT-4's judgements
  gsm8k_train  4 MB    GSM8K's training questions
  mmlu_key     166 MB  MMLU's right answers; only `data generate --benchmark mmlu` needs them

They come from github.com/lm-sys/RouteLLM at 0b64fda, github.com/openai/grade-school-math at 3101c7d
and MMLU's authors. The preference sets that `pointsman train` reads are conversions of public
originals in other formats: those are not fetched.

Prints the data folder; what was done goes to standard error.
"""

_FETCH_EXAMPLES = """\
examples:
  pointsman data fetch
      all but mmlu_key, into $POINTSMAN_DATA or else the cache
  pointsman data fetch --only gsm8k mt-bench --data data
  pointsman data fetch --mirror https://mirror.example.com/raw
      from https://mirror.example.com/raw/lm-sys/RouteLLM/<commit>/routellm/evals/... and so on: the
      mirror stands for the scheme and host, the rest of each address is kept
"""

_CONTAMINATION = """\
Find benchmark prompts, or near copies of them, in training data: whoever trains on those measures
nothing. Texts are compared by the shipped router's embedding, on this machine; equal texts (but for
case and white space) have cosine 1.

Prints one JSON row a match: training_line (counted in rows), training_prompt, benchmark,
benchmark_prompt, cosine.
"""

_CONTAMINATION_EXAMPLES = """\
examples:
  pointsman data contamination --training my.jsonl --benchmark gsm8k mmlu mt-bench
  pointsman data contamination --training my.csv --field question --benchmark graded.jsonl
      a benchmark may be a file of your own; its field is always "prompt"
  pointsman data contamination --training my.jsonl --benchmark mmlu --cosine 1.1
      equal texts alone, without embedding anything
  pointsman data contamination --training my.jsonl --benchmark mmlu --fail >matches.jsonl
      exit status 1 if there is any match; without --fail it is 0
"""


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add ``data`` to the command line."""
    parser = _subparser(
        subparsers,
        "data",
        "fetch benchmarks, grade models on them, find copies in training data",
        "Get and check the data that routers are measured on.",
        _EXAMPLES,
    )

    def run_help(_: argparse.Namespace) -> int:
        parser.print_help(sys.stderr)
        return 2

    parser.set_defaults(run=run_help)
    commands = parser.add_subparsers(title="commands", metavar="COMMAND")
    _add_fetch(commands)
    data_generate.add_parser(commands)
    _add_contamination(commands)


def _add_fetch(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    from pointsman.evaluation.originals import SETS

    parser = _subparser(
        subparsers, "fetch", "download the public test sets", _FETCH, _FETCH_EXAMPLES
    )
    add_data_option(parser)
    parser.add_argument(
        "--only",
        nargs="+",
        choices=SETS,
        metavar="SET",
        help=f"these alone: {', '.join(SETS)} (default: all but mmlu_key)",
    )
    parser.add_argument("--mirror", metavar="URL", help="stands for the publishers' hosts")
    parser.set_defaults(run=run_fetch)


def _add_contamination(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = _subparser(
        subparsers,
        "contamination",
        "find benchmark prompts in training data",
        _CONTAMINATION,
        _CONTAMINATION_EXAMPLES,
    )
    parser.add_argument(
        "--training", required=True, metavar="FILE", help="JSON Lines or CSV, gzipped or not, or -"
    )
    parser.add_argument(
        "--field", default="prompt", metavar="NAME", help="holds the text (default: %(default)s)"
    )
    parser.add_argument(
        "--benchmark",
        required=True,
        nargs="+",
        metavar="NAME",
        help="gsm8k, mmlu, mt-bench, one of the configuration, a preference set, or a file",
    )
    parser.add_argument("--config", metavar="FILE", help="YAML that names benchmarks of your own")
    add_data_option(parser)
    parser.add_argument(
        "--cosine",
        type=float,
        default=0.95,
        metavar="MIN",
        help="from which two texts count as copies (default: %(default)s, RouteLLM's)",
    )
    parser.add_argument(
        "--output", default=STANDARD, metavar="FILE", help="instead of standard output"
    )
    parser.add_argument("--fail", action="store_true", help="exit with 1 if there is a match")
    parser.set_defaults(run=run_contamination)


def add_data_option(parser: argparse.ArgumentParser) -> None:
    """Add ``--data`` to a command."""
    parser.add_argument(
        "--data",
        type=Path,
        metavar="DIR",
        help="data folder (default: $POINTSMAN_DATA, else data in ~/.cache/pointsman)",
    )


def run_fetch(args: argparse.Namespace) -> int:
    """Fetch what is not there, print the folder and return the exit status.

    Raises:
        PointsmanError: A file cannot be had, or the folder cannot be written to.
    """
    from collections import Counter

    from tqdm import tqdm

    from pointsman.evaluation.fetch import check_mirror, fetch
    from pointsman.evaluation.originals import USUAL_SETS, originals
    from pointsman.evaluation.sources import data_folder

    if args.mirror is not None:
        check_mirror(args.mirror)
    data = args.data or data_folder(os.environ)
    files = originals(args.only or USUAL_SETS)
    outcomes: Counter[str] = Counter()
    size_bytes = sum(original.size_bytes for original in files)
    with tqdm(total=size_bytes, unit="B", unit_scale=True, desc="fetching", disable=None) as bar:
        for original in files:
            outcome = fetch(
                original, data, mirror=args.mirror, progress=bar.update, sleep=time.sleep
            )
            outcomes[outcome] += 1
            if outcome == "replaced":
                bar.write(f"replaced {original.path}: its checksum was wrong", file=sys.stderr)
    told = ", ".join(f"{count} {outcome}" for outcome, count in sorted(outcomes.items()))
    print(f"{len(files)} files, SHA-256 checked: {told}", file=sys.stderr)
    print(data)
    return 0


def run_contamination(args: argparse.Namespace) -> int:
    """Print every match and return the exit status: 1 if ``--fail`` and there is any.

    Raises:
        PointsmanError: A file cannot be read, or a benchmark is not there.
    """
    if not args.cosine > 0:
        raise ConfigError(f"--cosine {args.cosine:g} is not above 0; RouteLLM's limit is 0.95")
    from pointsman.evaluation.contamination import contaminated, shipped_embed
    from pointsman.evaluation.sources import data_folder, find_benchmark
    from pointsman.routers.settings import read_config

    data = args.data or data_folder(os.environ)
    config = read_config(args.config)
    tests = [
        (name, prompt)
        for name in dict.fromkeys(args.benchmark)
        for prompt in dict.fromkeys(find_benchmark(name, data=data, config=config).prompts)
    ]
    training = [row.text(args.field) for row in read_rows(args.training)]
    if not training:
        raise ConfigError(f"{args.training}: there are no rows")
    matches = contaminated(training, [prompt for _, prompt in tests], shipped_embed(), args.cosine)

    def rows() -> Iterator[RawObject]:
        for match in matches:
            name, prompt = tests[match.test_index]
            yield {
                "training_line": raw(match.training_index + 1),
                "training_prompt": raw(training[match.training_index]),
                "benchmark": raw(name),
                "benchmark_prompt": raw(prompt),
                "cosine": raw(round(match.cosine, 4)),
            }

    write_rows(args.output, rows())
    copies = len({match.training_index for match in matches})
    found = len({match.test_index for match in matches})
    print(
        f"{copies} of {len(training)} training prompts are copies, or nearly, of {found} of "
        f"{len(tests)} benchmark prompts",
        file=sys.stderr,
    )
    return 1 if args.fail and matches else 0


def _subparser(
    subparsers: argparse._SubParsersAction[argparse.ArgumentParser],
    name: str,
    summary: str,
    description: str,
    examples: str,
) -> argparse.ArgumentParser:
    return subparsers.add_parser(
        name,
        help=summary,
        description=description,
        epilog=examples,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
