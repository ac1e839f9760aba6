"""`pointsman train`: makes the bundles that the scorer serves."""

from __future__ import annotations

import argparse
import logging
from pathlib import Path

from pointsman.extras import needed_from

_EXAMPLES = """\
examples:
  pointsman train mf --data data --out bundles
      train on data/preferences, write bundles/mf and bundles/blobs
  pointsman train mf --data data --out bundles --seed 1 --no-cache
      another seed, and embed everything anew

Training needs `pip install 'pointsman[train]'`, and about five minutes on two cores.
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
    parser.add_argument("router", choices=["mf"], help="which router to train")
    parser.add_argument(
        "--data",
        type=Path,
        required=True,
        metavar="DIR",
        help="folder that holds preferences/ and, for figures, benchmarks/ and extra/",
    )
    parser.add_argument(
        "--out", type=Path, required=True, metavar="DIR", help="bundles folder to write into"
    )
    parser.add_argument("--seed", type=int, default=0, help="seed of the fit (default: 0)")
    parser.add_argument(
        "--cache",
        type=Path,
        default=Path.home() / ".cache" / "pointsman",
        metavar="DIR",
        help="folder that keeps embeddings between runs (default: %(default)s)",
    )
    parser.add_argument(
        "--no-cache",
        action="store_const",
        const=None,
        dest="cache",
        help="keep no embeddings",
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Train and return the exit status.

    Raises:
        ConfigError: torch or the encoder is not installed, or the data cannot be read.
    """
    with needed_from("train", "training"):
        from pointsman.training.mf import TrainSettings, train_mf
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    settings = TrainSettings(data=args.data, out=args.out, cache=args.cache, seed=args.seed)
    folder = train_mf(settings)
    print(f"wrote {folder}")
    return 0
