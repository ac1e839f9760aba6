"""`pointsman evaluate`: how good routers are on prompts whose answers are graded already."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from pointsman.cli.numbers import natural, positive
from pointsman.errors import ConfigError

if TYPE_CHECKING:
    from pointsman.evaluation.measuring import Measuring
    from pointsman.routers.registry import LoadedRouter

_EXAMPLES = """\
examples:
  pointsman evaluate --routers random mf --benchmark gsm8k
      figures, controls and verdicts; the picture goes to gsm8k.png and gsm8k.svg
  pointsman evaluate --routers mf --benchmark mmlu --metric-mode routellm --num-results 10
      measured as RouteLLM does
  pointsman evaluate --routers mf --benchmark graded.jsonl --no-plot --format json
      your own prompts, one {"prompt", "strong_score", "weak_score"} a line
  pointsman evaluate --routers mf --benchmark mt-bench --models models.yaml
      and the area over cost, by the prices of that file

`pointsman data fetch` gets the benchmarks. Pictures need `pip install 'pointsman[eval]'`.
"""


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add ``evaluate`` to the command line."""
    parser = subparsers.add_parser(
        "evaluate",
        help="measure routers on a benchmark, beside controls",
        description="Measure routers on prompts whose answers by both models are graded already: "
        "APGR, CPT and AUC with intervals, beside controls. Calls no model.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_router_options(parser)
    parser.add_argument(
        "--benchmark",
        required=True,
        metavar="NAME",
        help="gsm8k, mmlu, mt-bench, one of the configuration or of the data folder, or a file of "
        "graded prompts (JSON Lines or CSV)",
    )
    parser.add_argument(
        "--output",
        type=Path,
        default=Path(),
        metavar="DIR",
        help="folder for the picture (default: here)",
    )
    parser.add_argument("--no-plot", action="store_true", help="draw no picture")
    parser.add_argument(
        "--format",
        choices=["table", "json", "csv", "markdown"],
        default="table",
        help="of what is printed (default: table)",
    )
    add_measuring_options(parser)
    parser.set_defaults(run=run)


def add_router_options(parser: argparse.ArgumentParser) -> None:
    """Add what says which routers are measured."""
    parser.add_argument(
        "--routers",
        nargs="+",
        default=["mf"],
        metavar="ROUTER",
        help="names of routers (default: mf)",
    )
    parser.add_argument(
        "--config", metavar="FILE", help="YAML that names routers and benchmarks; also RouteLLM's"
    )


def add_measuring_options(parser: argparse.ArgumentParser) -> None:
    """Add what every measurement takes: data, models, method, cache."""
    data = parser.add_argument_group("data")
    data.add_argument(
        "--data",
        type=Path,
        metavar="DIR",
        help="folder of benchmarks (default: POINTSMAN_DATA, else where `data fetch` puts them)",
    )
    data.add_argument("--strong-model", metavar="MODEL", help="whose answers count as strong")
    data.add_argument("--weak-model", metavar="MODEL", help="whose answers count as weak")
    data.add_argument(
        "--models", metavar="FILE", help="models file with prices, to estimate quality over cost"
    )
    data.add_argument(
        "--output-tokens",
        type=positive,
        metavar="N",
        help="tokens of an answer, for the estimate (default: 264, the paper's)",
    )
    method = parser.add_argument_group("method")
    method.add_argument(
        "--metric-mode",
        choices=["full", "routellm"],
        default="full",
        help="the whole curve, or RouteLLM's points and interpolation (default: full)",
    )
    method.add_argument(
        "--num-results",
        type=positive,
        default=10,
        metavar="N",
        help="equally filled bins of win rates whose edges are thresholds (default: %(default)s)",
    )
    method.add_argument(
        "--random-iters",
        type=positive,
        default=10,
        metavar="N",
        help="draws of the random control (default: %(default)s)",
    )
    method.add_argument(
        "--seed", type=natural, default=0, metavar="N", help="of draws and resamples (default: 0)"
    )
    scoring = parser.add_argument_group("scoring")
    scoring.add_argument(
        "--parallel", type=positive, metavar="N", help="threads (default: one a core)"
    )
    scoring.add_argument(
        "--overwrite-cache",
        nargs="*",
        default=[],
        metavar="ROUTER",
        help="routers that score anew, whatever is kept",
    )
    cache = scoring.add_mutually_exclusive_group()
    cache.add_argument(
        "--cache", type=Path, metavar="DIR", help="keeps win rates (default: the cache folder)"
    )
    cache.add_argument("--no-cache", action="store_true", help="keep no win rates")


def measuring_of(args: argparse.Namespace) -> Measuring:
    """Returns what the command line asks for.

    Raises:
        ConfigError: The configuration or the models file cannot be read, or a router is told to
            score anew that is not measured.
    """
    from pointsman.evaluation.measuring import Measuring
    from pointsman.evaluation.methods import Method
    from pointsman.evaluation.sources import data_folder
    from pointsman.evaluation.study import StudySettings
    from pointsman.files import cache_folder
    from pointsman.models_file import read_models_file
    from pointsman.routers.settings import read_config
    from pointsman.routing import quote

    for name in args.overwrite_cache:
        if name not in args.routers:
            raise ConfigError(
                f"--overwrite-cache names {quote(name)}, which is not measured; there are: "
                f"{', '.join(args.routers)}"
            )
    return Measuring(
        config=read_config(args.config),
        data=args.data or data_folder(os.environ),
        cache=None if args.no_cache else args.cache or cache_folder(os.environ),
        settings=StudySettings(
            method=Method(mode=args.metric_mode, edges=args.num_results + 1),
            seed=args.seed,
            random_draws=args.random_iters,
        ),
        strong_model=args.strong_model,
        weak_model=args.weak_model,
        models=read_models_file(args.models) if args.models else None,
        output_tokens=args.output_tokens,
        threads=args.parallel,
        overwrite=args.overwrite_cache,
    )


def loaded_routers(measuring: Measuring, names: Sequence[str]) -> list[LoadedRouter]:
    """Returns the routers, each once and in order; says on standard error what is replaced.

    Raises:
        UnknownRouter: There is no such router.
        ConfigError: Its class, options or manifest are wrong, or it is called like a control.
        RouterNotReady: A file of it is damaged.
    """
    from pointsman.evaluation.controls import DESCRIPTIONS
    from pointsman.sdk.embeddings import endpoint_embedder

    unique = list(dict.fromkeys(names))
    for name in unique:
        if name in DESCRIPTIONS:
            raise ConfigError(f"a router may not be called {name} here: so is one of the controls")
    for note in measuring.config.notes(unique):
        print(note, file=sys.stderr)
    return [measuring.config.load(name, endpoint_embedder) for name in unique]


def need_matplotlib(remedy: str) -> None:
    """Says before anything is scored that no picture can be drawn.

    Raises:
        ConfigError: matplotlib is not installed.
    """
    try:
        import matplotlib  # noqa: F401  # only whether it is there
    except ModuleNotFoundError as error:
        raise ConfigError(
            f"the picture needs {error.name}, which is not installed; run "
            f"`pip install 'pointsman[eval]'`{remedy}"
        ) from error


def check_folder(folder: Path) -> None:
    """Says before anything is scored that the folder cannot be written to, or not be made.

    Raises:
        ConfigError: Names the folder and the remedy.
    """
    there = folder.absolute()
    while not there.exists():
        there = there.parent
    if not there.is_dir() or not os.access(there, os.W_OK | os.X_OK):
        raise ConfigError(f"--output: {there} is no folder to write into; name one of yours")


def run(args: argparse.Namespace) -> int:
    """Measure, print, draw; return the exit status.

    Raises:
        PointsmanError: A router, the benchmark or a file is wrong; says which and what to do.
    """
    if not args.no_plot:
        need_matplotlib(", or leave it out with --no-plot")
        check_folder(args.output)
    from pointsman.evaluation.formats import formatted

    measuring = measuring_of(args)
    benchmark = measuring.benchmark(args.benchmark)
    routers = loaded_routers(measuring, args.routers)
    study = measuring.study(benchmark, routers)
    for note in study.result.notes:
        print(f"{study.result.benchmark}: {note}", file=sys.stderr)
    if not args.no_plot:
        from pointsman.evaluation.plot import write_plots

        try:
            paths = write_plots(study, args.output)
        except OSError as error:
            raise ConfigError(
                f"--output {args.output}: the picture cannot be written: {error.strerror}; name "
                "a folder of yours, or leave it out with --no-plot"
            ) from error
        for path in paths:
            print(f"wrote {path}", file=sys.stderr)
    sys.stdout.write(formatted(study.result, args.format))
    return 0
