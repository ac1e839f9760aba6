"""`pointsman train`: makes the bundles that the scorer serves."""

from __future__ import annotations

import argparse
import logging
import os
import sys
from argparse import ArgumentTypeError
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from pointsman.cli.numbers import natural, positive
from pointsman.errors import ConfigError
from pointsman.extras import needed_from
from pointsman.files import cache_folder
from pointsman.routing import ROUTER_NAME, ModelPair, quote

if TYPE_CHECKING:
    from pointsman.training.settings import TrainSettings

KINDS = ("mf", "sw_ranking", "bert", "causal_llm")

EXIT_BAD_ROWS = 2

_EXAMPLES = """\
examples:
  pointsman train mf --data data --out bundles
      on data/preferences; writes bundles/mf and bundles/blobs
  pointsman train bert --data data --out bundles --save-encoder tuned --report bert.html
      tunes MiniLM end to end and keeps it, with pictures of how well it went
  pointsman train sw_ranking --data data --encoder tuned --out bundles
      on the tuned encoder; both bundles then share one graph
  pointsman train causal_llm --data logs.jsonl --base-model llama --device cuda --out bundles
      own data and a model of Llama's class, on a GPU
  pointsman train mf --data data logs/ --strong-model gpt-4o --weak-model llama-3-8b --out bundles
      the data folder and own data together, for another pair

own data is JSON Lines, gzipped or not, one of these a line:
  {"prompt": "...", "strong": "gpt-4o", "weak": "llama-3-8b", "label": "strong"}  or weak, tie
  {"prompt": "...", "strong_score": 0.9, "weak_score": 0.4}                       in [0, 1]
  {"prompt": "...", "model_a": "...", "model_b": "...", "winner": "model_a"}      or model_b, tie

A bad row stops everything with exit status 2, named by file, line and reason. After Ctrl-C, the
same command with --resume goes on. Training needs `pip install 'pointsman[train]'`, pictures also
`pointsman[eval]`; mf and sw_ranking take some minutes on two cores, bert and causal_llm longer.
"""


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add ``train`` to the command line."""
    parser = subparsers.add_parser(
        "train",
        help="train a router and write its bundle",
        description="Train a router from logged outcomes and write the bundle that is served.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("router", choices=KINDS, help="which router to train")
    parser.add_argument(
        "--data",
        type=Path,
        nargs="+",
        required=True,
        metavar="PATH",
        help="folder that holds preferences/ and, for figures, benchmarks/ and extra/; or own "
        "data: files, or folders of them",
    )
    parser.add_argument(
        "--out", type=Path, required=True, metavar="DIR", help="bundles folder to write into"
    )
    parser.add_argument("--name", help="name of the bundle (default: the router's)")
    parser.add_argument(
        "--report", type=Path, metavar="FILE", help="draw how it went: a .html page or a .png"
    )
    _add_data_options(parser)
    _add_model_options(parser)
    _add_length_options(parser)
    parser.set_defaults(run=run)


def _add_data_options(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("data")
    group.add_argument("--strong-model", metavar="MODEL", help="the pair's strong model")
    group.add_argument(
        "--weak-model", metavar="MODEL", help="the pair's weak model (default: the shipped pair)"
    )
    group.add_argument(
        "--balance",
        choices=["none", "sqrt", "equal"],
        default="none",
        help="what weighs the same: each prompt, each source, or in between (default: none)",
    )
    group.add_argument(
        "--mmlu-labels",
        default="none",
        metavar="WHICH",
        help="labels of the MMLU benchmark to train on: none, all, or COUNT:SEED, such as 1500:0; "
        "the figure for MMLU is then of the other questions (default: none)",
    )
    group.add_argument(
        "--twins",
        type=Path,
        nargs="+",
        default=(),
        metavar="BUNDLE",
        help="with --mmlu-labels all: the same router trained on fewer, for its figures on MMLU",
    )
    group.add_argument(
        "--skip-bad-rows", action="store_true", help="train on the good rows of own data"
    )


def _add_model_options(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("models")
    group.add_argument(
        "--encoder", type=Path, metavar="DIR", help="encoder to begin with (default: MiniLM)"
    )
    group.add_argument(
        "--base-model",
        type=Path,
        metavar="DIR",
        help="causal_llm: decoder to begin with (default: one made of the encoder)",
    )
    group.add_argument(
        "--save-encoder", type=Path, metavar="DIR", help="bert: keep the tuned encoder there"
    )
    group.add_argument(
        "--cache",
        type=Path,
        default=cache_folder(os.environ),
        metavar="DIR",
        help="folder that keeps embeddings and checkpoints (default: %(default)s)",
    )
    group.add_argument(
        "--no-cache", action="store_const", const=None, dest="cache", help="keep neither"
    )


def _add_length_options(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("training; what is not given is the router's own choice")
    group.add_argument("--seed", type=natural, default=0, help="seed of the fit (default: 0)")
    group.add_argument(
        "--resume", action="store_true", help="go on where an interrupted run has stopped"
    )
    group.add_argument("--device", choices=["auto", "cpu", "cuda"], default="auto", help="where")
    group.add_argument(
        "--max-steps", type=positive, metavar="N", help="bert, causal_llm: most steps"
    )
    group.add_argument(
        "--epochs", type=_above_zero, metavar="X", help="likewise: most passes over the data"
    )
    group.add_argument("--batch-size", type=positive, metavar="N", help="likewise: prompts a step")
    group.add_argument(
        "--learning-rate", type=_above_zero, metavar="X", help="likewise: of the body, at its peak"
    )
    group.add_argument(
        "--patience",
        type=positive,
        metavar="N",
        help="likewise: looks at held-out prompts without a better one until training stops",
    )


def run(args: argparse.Namespace) -> int:
    """Train and return the exit status.

    Raises:
        ConfigError: torch or the encoder is not installed, the data cannot be read, or two options
            contradict each other.
    """
    with needed_from("train", "training"):
        from pointsman.training.own_data import BadRows

        train = _trainer(args.router)
    settings = settings_of(args)
    if settings.report is not None:
        with needed_from("eval", "--report"):
            from pointsman.training.report import check_report_path
        check_report_path(settings.report)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    try:
        folder = train(settings)
    except BadRows as error:
        print(f"pointsman: {error}", file=sys.stderr)
        return EXIT_BAD_ROWS
    print(f"wrote {folder}")
    if settings.report is not None:
        print(f"wrote {settings.report}")
    return 0


def settings_of(args: argparse.Namespace) -> TrainSettings:
    """Return what the command line says.

    Raises:
        ConfigError: a name is not one, or two options contradict each other.
    """
    from pointsman.training.benchmark_labels import MmluLabels
    from pointsman.training.settings import TrainSettings

    if args.name is not None and not ROUTER_NAME.fullmatch(args.name):
        raise ConfigError(f"--name {quote(args.name)} is not [a-z0-9_]+")
    if args.resume and args.cache is None:
        raise ConfigError("--resume needs the checkpoint that --no-cache does not keep")
    _refuse_others_options(args)
    shared, own = _sorted_by_kind(args.data)
    if MmluLabels.parse(args.mmlu_labels).count != 0 and shared is None:
        raise ConfigError(
            f"--mmlu-labels {args.mmlu_labels} needs the folder that holds preferences/ and "
            "benchmarks/; name it with --data too"
        )
    return TrainSettings(
        data=shared,
        own_data=own,
        out=args.out,
        name=args.name,
        pair=_pair(args.strong_model, args.weak_model),
        skip_bad_rows=args.skip_bad_rows,
        mmlu_labels=args.mmlu_labels,
        twins=tuple(args.twins),
        balance=args.balance,
        encoder=args.encoder,
        base_model=args.base_model,
        save_encoder=args.save_encoder,
        cache=args.cache,
        resume=args.resume,
        seed=args.seed,
        max_steps=args.max_steps,
        epochs=args.epochs,
        batch_size=args.batch_size,
        learning_rate=args.learning_rate,
        patience=args.patience,
        device=args.device,
        report=args.report,
    )


def _refuse_others_options(args: argparse.Namespace) -> None:
    """Refuse what another router would heed: an option without effect misleads."""
    tuning = ("max_steps", "epochs", "batch_size", "learning_rate", "patience", "resume")
    takers = {
        "base_model": ("causal_llm",),
        "save_encoder": ("bert",),
        **dict.fromkeys(tuning, ("bert", "causal_llm")),
    }
    for name, routers in takers.items():
        if getattr(args, name) and args.router not in routers:
            option = "--" + name.replace("_", "-")
            raise ConfigError(
                f"{option} means nothing to {args.router}; it is for {' and '.join(routers)}"
            )


def _sorted_by_kind(paths: Sequence[Path]) -> tuple[Path | None, tuple[Path, ...]]:
    """Return the data folder, if one is named, and all else: own data."""
    shared = [path for path in paths if (path / "preferences").is_dir()]
    if len(shared) > 1:
        named = " and ".join(map(str, shared))
        raise ConfigError(f"--data names two folders that hold preferences/: {named}; name one")
    return (shared[0] if shared else None), tuple(path for path in paths if path not in shared)


def _pair(strong: str | None, weak: str | None) -> ModelPair:
    from pointsman.evaluation.preferences import canonical_model
    from pointsman.training.settings import PAIR

    pair = ModelPair(
        strong=canonical_model(strong or PAIR.strong), weak=canonical_model(weak or PAIR.weak)
    )
    if pair.strong == pair.weak:
        raise ConfigError(
            f"the strong and the weak model are both {quote(pair.strong)}; name two with "
            "--strong-model and --weak-model"
        )
    return pair


def _trainer(router: str) -> Callable[[TrainSettings], Path]:
    """Return the function that trains; what it needs is imported now, not before."""
    if router == "mf":
        from pointsman.training.mf import train_mf

        return train_mf
    if router == "sw_ranking":
        from pointsman.training.sw_ranking import train_sw_ranking

        return train_sw_ranking
    if router == "bert":
        from pointsman.training.bert import train_bert

        return train_bert
    from pointsman.training.causal_llm import train_causal_llm

    return train_causal_llm


def _above_zero(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0.0 < value < float("inf"):
        raise ArgumentTypeError(f"{quote(text)} is not a number above 0")
    return value
