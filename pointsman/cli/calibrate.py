"""`pointsman calibrate`: a threshold by share of strong calls, by money, or by quality."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from pointsman.cli.numbers import share
from pointsman.errors import ConfigError
from pointsman.routing import ModelPair, quote
from pointsman.rows import STANDARD, read_rows

if TYPE_CHECKING:
    from pointsman.calibration.reports import Report
    from pointsman.calibration.sample import Sample
    from pointsman.routers.settings import ToolsConfig

_DESCRIPTION = """\
Find the threshold of a router, in one of three ways:
  by share     --strong-model-pct: so many of the calls go to the strong model
  by money     --budget-per-million: a million tokens cost so much on average
  by quality   --labelled: a loss of quality that is not exceeded, as a statistical promise

By share and by money, thresholds hold for prompts like those they were computed on: your own
(--data), or else the calibration prompts whose quantiles come with the router; nothing is
downloaded.
"""

_EXAMPLES = """\
examples:
  pointsman calibrate --routers mf --strong-model-pct 0.2 0.5
      the thresholds that send 20 % and 50 % of the router's own calibration prompts to strong
  pointsman calibrate --routers mf random --strong-model-pct 0.2 --data prompts.jsonl
      the same on your prompts: rows such as {"prompt": "Hello!"}, or a CSV file
  pointsman calibrate --budget-per-million 5 --models models.yaml --strong-model gpt-4o \\
      --weak-model mixtral
      at most $5 a million tokens on average, by the prices in the models file
  pointsman calibrate --budget-per-million 3 --cost-ratio 10
      the strong model costs 10 times the weak one; at most 3 times the weak one's price
  pointsman calibrate --labelled graded.jsonl --max-loss 0.02 --confidence 0.95
      at most 2 % of the prompts lose a right answer, with 95 % confidence: rows such as
      {"prompt": "2+2?", "strong_score": 1, "weak_score": 0}
  pointsman calibrate --labelled judged.csv --score-range 1 10 --max-loss 0.2
      the judge's score falls by at most 0.2 points of the 1 to 10 on average

What the promise about quality assumes: the labelled prompts are drawn at random, independently of
each other, from prompts like those to come (no repeats, no hand-picking), and the router and both
models stay what they were. The loss of a prompt is max(0, strong score - score of the model it is
routed to). The confidence is over the draw of the labelled prompts, and for each router alone.
Needs `pip install 'pointsman[eval]'`. Method: arXiv:2110.01052.
"""

_ROWS_SUFFIXES = (".jsonl", ".jsonl.gz", ".csv", ".csv.gz")
_WAYS = {
    "strong_model_pct": "--strong-model-pct",
    "budget_per_million": "--budget-per-million",
    "labelled": "--labelled",
}
_OF_MODELS = ("strong_model", "weak_model", "input_tokens", "output_tokens")
_SCORE_FIELDS = ("strong_score_field", "weak_score_field")
_ONLY_WITH = {
    "budget_per_million": ("models", "cost_ratio", *_OF_MODELS),
    "labelled": ("max_loss", "confidence", "score_range", *_SCORE_FIELDS),
}
"""Way → the options that mean something for it alone."""


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add ``calibrate`` to the command line."""
    parser = subparsers.add_parser(
        "calibrate",
        help="find a threshold by share of strong calls, by money or by quality",
        description=_DESCRIPTION,
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--routers", nargs="+", default=["mf"], metavar="NAME", help="default: mf")
    add("--config", metavar="FILE", help="which routers there are; RouteLLM's file is accepted")
    add("--format", choices=["text", "json"], default="text", help="default: text")
    add("--data", metavar="FILE", help="prompts to calibrate on: JSON Lines or CSV, - for stdin")
    add("--field", default="prompt", metavar="NAME", help="field of the prompt (default: prompt)")
    _add_ways(parser)
    compatible = parser.add_argument_group("for RouteLLM's command lines")
    add = compatible.add_argument
    add("--task", choices=["calibrate", "generate"], default="calibrate", help="calibrate only")
    add("--battles_dataset", metavar="NAME", help="a file is used like --data; a hub's name is not")
    parser.set_defaults(run=run, refuse=parser.error)


def _add_ways(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument_group("by share").add_argument
    share_help = "share of calls to the strong model, in [0, 1]; several at once are fine"
    add("--strong-model-pct", nargs="+", type=share, metavar="SHARE", help=share_help)

    money = "by money, an average over input and output tokens"
    add = parser.add_argument_group(money).add_argument
    budget_help = "most that a million tokens may cost; with --cost-ratio, times the weak price"
    add("--budget-per-million", type=float, metavar="DOLLARS", help=budget_help)
    add("--models", metavar="FILE", help="the models file, which holds the prices")
    add("--strong-model", metavar="NAME", help="its name there (default: strong)")
    add("--weak-model", metavar="NAME", help="its name there (default: weak)")
    tokens_help = "tokens of an average {} (default: {}, from RouteLLM's paper, arXiv:2406.18665)"
    add("--input-tokens", type=float, metavar="N", help=tokens_help.format("request", 95))
    add("--output-tokens", type=float, metavar="N", help=tokens_help.format("answer", 264))
    add("--cost-ratio", type=float, metavar="R", help="instead: strong costs R times weak")

    add = parser.add_argument_group("by quality").add_argument
    add("--labelled", metavar="FILE", help="graded prompts: JSON Lines or CSV, - for stdin")
    loss_help = "mean loss that is not exceeded, in the scores' own unit"
    add("--max-loss", type=float, metavar="LOSS", help=loss_help)
    add("--confidence", type=float, metavar="C", help="in (0, 1) (default: 0.95)")
    range_help = "lowest and highest score there can be (default: 0 1)"
    add("--score-range", nargs=2, type=float, metavar=("LOW", "HIGH"), help=range_help)
    add("--strong-score-field", metavar="NAME", help="default: strong_score")
    add("--weak-score-field", metavar="NAME", help="default: weak_score")


def run(args: argparse.Namespace) -> int:
    """Calibrate, print, and return the exit status.

    Raises:
        PointsmanError: a router, a file, or the question itself is wrong; says what to do.
    """
    if args.task == "generate":
        raise ConfigError(
            "--task generate is not done here: `pointsman score` writes the win rates of your "
            "prompts, and `pointsman calibrate --data FILE` scores and calibrates in one go"
        )
    _refuse_contradictions(args)
    from pointsman.routers.settings import read_config

    config = read_config(args.config)
    names = list(dict.fromkeys(args.routers))
    for note in config.notes(names):
        _note(note)
    if args.labelled is not None:
        reports = _by_quality(args, config, names)
    elif args.budget_per_million is not None:
        reports = _by_money(args, config, names)
    else:
        reports = _by_share(args, config, names)
    if args.format == "json":
        print(json.dumps([report.values for report in reports], indent=2, ensure_ascii=False))
    else:
        print("\n".join(report.text for report in reports))
    return 0


def _refuse_contradictions(args: argparse.Namespace) -> None:
    """Leaves with argparse's usage and exit status 2 unless the options ask for one thing."""

    def given(*options: str) -> list[str]:
        """Returns those that are given, as they are typed."""
        found = [option for option in options if getattr(args, option) is not None]
        return [f"--{option.replace('_', '-')}" for option in found]

    ways = given(*_WAYS)
    if len(ways) != 1:
        found = f"not {' and '.join(ways)}" if ways else "none is given"
        args.refuse(f"give exactly one of {', '.join(_WAYS.values())}: {found}")
    for way, options in _ONLY_WITH.items():
        if getattr(args, way) is None and (stray := given(*options)):
            args.refuse(f"{stray[0]} goes with {_WAYS[way]} only")
    if args.budget_per_million is not None and len(given("models", "cost_ratio")) != 1:
        args.refuse("--budget-per-million needs the prices: one of --models and --cost-ratio")
    if args.cost_ratio is not None and (stray := given(*_OF_MODELS)):
        args.refuse(f"{stray[0]} goes with --models only")
    if args.labelled is not None and args.max_loss is None:
        args.refuse("--labelled needs --max-loss")
    data = given("data", "battles_dataset")
    if args.labelled is not None and data:
        args.refuse("--labelled brings its own prompts: leave --data and --battles_dataset out")
    if len(data) == 2:
        args.refuse("--battles_dataset is RouteLLM's word for --data: give one of them")


def _by_share(args: argparse.Namespace, config: ToolsConfig, names: Sequence[str]) -> list[Report]:
    from pointsman.calibration.reports import share_report
    from pointsman.calibration.share import calibrate_share, calibrate_share_among

    reports = []
    for sample in _samples(args, config, names):
        calibrate = calibrate_share_among if sample.are_quantiles else calibrate_share
        for target in args.strong_model_pct:
            reports.append(share_report(sample, calibrate(sample.win_rates, target)))
    return reports


def _by_money(args: argparse.Namespace, config: ToolsConfig, names: Sequence[str]) -> list[Report]:
    from pointsman.calibration import budget
    from pointsman.calibration.reports import budget_report

    if args.cost_ratio is not None:
        prices = budget.PairPrices(strong=args.cost_ratio, weak=1.0)
        unit = "{} times the weak model's price"
    else:
        pair = ModelPair(strong=args.strong_model or "strong", weak=args.weak_model or "weak")
        tokens = {
            option: getattr(args, option)
            for option in ("input_tokens", "output_tokens")
            if getattr(args, option) is not None
        }
        prices = budget.read_prices(args.models, pair, **tokens)
        unit = "${} a million tokens"
    limit = args.budget_per_million
    budget.check_budget(prices, limit)
    return [
        budget_report(sample, budget.calibrate_budget(sample.win_rates, prices, limit), unit)
        for sample in _samples(args, config, names)
    ]


def _by_quality(
    args: argparse.Namespace, config: ToolsConfig, names: Sequence[str]
) -> list[Report]:
    from pointsman.calibration import labelled, quality
    from pointsman.calibration.reports import quality_report
    from pointsman.calibration.sample import scored_sample
    from pointsman.sdk.embeddings import endpoint_embedder

    promise = quality.Promise(
        max_loss=args.max_loss,
        confidence=quality.DEFAULT_CONFIDENCE if args.confidence is None else args.confidence,
        score_range=quality.UNIT_RANGE if args.score_range is None else tuple(args.score_range),
    )
    fields = labelled.LabelledFields(
        prompt=args.field,
        strong_score=args.strong_score_field or labelled.LabelledFields.strong_score,
        weak_score=args.weak_score_field or labelled.LabelledFields.weak_score,
    )
    routers = [config.load(name, endpoint_embedder) for name in names]
    rows = labelled.read_labelled(args.labelled, fields, promise.score_range)
    quality.require_rows(len(rows.prompts), promise)
    if rows.repeated:
        _note(
            f"{rows.repeated} of {len(rows.prompts)} labelled rows repeat the prompt of another: "
            "they are not independent, and the promise is weaker than it says; keep one row a "
            "prompt"
        )
    if len(names) > 1:
        shared = 1 - (1 - promise.confidence) / len(names)
        _note(
            "each promise holds for its router alone; to pick one of them by these results, give "
            f"--confidence {shared:.6g}"
        )
    reports = []
    for loaded in routers:
        sample = scored_sample(loaded, rows.prompts, _shown(args.labelled))
        found = quality.calibrate_quality(
            sample.win_rates,
            rows.strong_scores,
            rows.weak_scores,
            promise,
            grid=loaded.quantiles if len(loaded.quantiles) else quality.EVEN_GRID,
        )
        reports.append(quality_report(sample, found))
    return reports


def _samples(
    args: argparse.Namespace, config: ToolsConfig, names: Sequence[str]
) -> Iterator[Sample]:
    """Returns the win rates to calibrate each router on: of the user's prompts, or its own."""
    from pointsman.calibration.sample import known_sample, scored_sample
    from pointsman.sdk.embeddings import endpoint_embedder

    routers = [config.load(name, endpoint_embedder) for name in names]
    data = args.data
    if args.battles_dataset is not None and _is_file(args.battles_dataset):
        data = args.battles_dataset
    if data is not None:
        prompts = [row.text(args.field) for row in read_rows(data)]
        return (scored_sample(loaded, prompts, _shown(data)) for loaded in routers)
    if args.battles_dataset is not None:
        _note(
            f"--battles_dataset {quote(args.battles_dataset)} is no file here, and nothing is "
            "downloaded: the prompts that each router was calibrated on serve instead"
        )
    return iter([known_sample(loaded) for loaded in routers])


def _is_file(name: str) -> bool:
    """Returns whether RouteLLM's option names a file: `organisation/dataset` is on a hub."""
    return Path(name).is_file() or name == STANDARD or name.lower().endswith(_ROWS_SUFFIXES)


def _shown(name: str) -> str:
    return "standard input" if name == STANDARD else name


def _note(text: str) -> None:
    print(f"pointsman: note: {text}", file=sys.stderr)
