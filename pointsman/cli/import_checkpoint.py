"""`pointsman import`: RouteLLM's checkpoints, made into bundles that the scorer serves."""

from __future__ import annotations

import argparse
import logging
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from pointsman.errors import ConfigError
from pointsman.extras import needed_from
from pointsman.routing import ROUTER_NAME, ModelPair, quote

if TYPE_CHECKING:
    from pointsman.importing.settings import ImportSettings

_EXAMPLES = """\
examples:
  pointsman import mf routellm/mf_gpt4_augmented --out bundles
      from the Hugging Face hub, for RouteLLM's own pair
  pointsman import mf mf_gpt4_augmented/model.safetensors --out bundles
      a file or a folder that is here already; nothing is fetched then
  pointsman import bert routellm/bert_gpt4_augmented --out bundles --calibrate prompts.jsonl
      int8, with percentiles over prompts of your own
  pointsman import causal_llm causal_llm_gpt4_augmented --tokenizer Meta-Llama-3-8B --out bundles
      RouteLLM's Llama has the base model's tokenizer, which needs a licence of Meta's
  pointsman import sw_ranking lmsys/lmsys-arena-human-preference-55k routellm/gpt4_judge_battles \\
      --embeddings routellm/arena_battles_embeddings routellm/gpt4_judge_battles_embeddings \\
      --out bundles

Needs `pip install 'pointsman[import]'`. No code of a checkpoint's is ever run. RouteLLM's own
config.yaml finds what was imported into the folder `bundles` beside it.
"""

KINDS = ("mf", "bert", "causal_llm", "sw_ranking")


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add ``import`` to the command line."""
    parser = subparsers.add_parser(
        "import",
        help="make a bundle of a checkpoint of RouteLLM's",
        description="Make a bundle of a checkpoint of RouteLLM's, which then scores as it did.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("router", choices=KINDS, help="which of RouteLLM's routers it is of")
    parser.add_argument(
        "sources",
        nargs="+",
        metavar="SOURCE",
        help="folder, file, or owner/name on the Hugging Face hub; sw_ranking: sets of battles",
    )
    parser.add_argument(
        "--out", type=Path, required=True, metavar="DIR", help="bundles folder to write into"
    )
    parser.add_argument("--name", help="name of the bundle (default: the router's)")
    parser.add_argument(
        "--strong-model", metavar="NAME", help="the pair's strong model (default: RouteLLM's)"
    )
    parser.add_argument("--weak-model", metavar="NAME", help="the pair's weak model, likewise")
    parser.add_argument("--revision", help="branch, tag or commit on the hub (default: the newest)")
    parser.add_argument(
        "--precision",
        choices=["int8", "float32"],
        default="int8",
        help="of exported weights: int8 is twice as fast, float32 scores as RouteLLM does; "
        "sw_ranking's embeddings: float16 or float32 (default: int8)",
    )
    parser.add_argument(
        "--calibrate",
        type=Path,
        metavar="FILE",
        help="bert, causal_llm: prompts whose win rates become the bundle's percentiles",
    )
    parser.add_argument(
        "--tokenizer",
        metavar="SOURCE",
        help="bert, causal_llm: where the tokenizer is, if not beside the weights",
    )
    parser.add_argument(
        "--embedding-model",
        metavar="NAME",
        help="mf, sw_ranking: what prompts are embedded by (default: text-embedding-3-small)",
    )
    _add_ranking_options(parser)
    parser.set_defaults(run=run)


def _add_ranking_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--embeddings",
        nargs="+",
        default=[],
        metavar="SOURCE",
        help="sw_ranking: data sets of the battles' embeddings, in the order of the battles",
    )
    parser.add_argument(
        "--tiers", type=int, default=10, help="sw_ranking: tiers of models (default: 10)"
    )
    parser.add_argument(
        "--clean",
        action="store_true",
        help="sw_ranking: count battles within a tier as they are, which RouteLLM does not",
    )


def run(args: argparse.Namespace) -> int:
    """Import and return the exit status.

    Raises:
        ConfigError: The checkpoint cannot be read or is none of the router's, or something that an
            import needs is not installed. Nothing is written then.
    """
    logging.basicConfig(format="%(message)s")
    logging.getLogger("pointsman").setLevel(logging.INFO)  # the libraries' own says nothing to us
    with needed_from("import", "pointsman import"):
        import_checkpoint = _importer(args.router)
        settings = _settings(args)
        folder = import_checkpoint(settings)
    print(f"wrote {folder}")
    print(f"serve it with a configuration file that says: {_served(args.router, folder)}")
    return 0


def _importer(router: str) -> Callable[[ImportSettings], Path]:
    """Return the function that makes the bundle; what it needs is imported now, not before."""
    if router == "mf":
        from pointsman.importing.mf import import_mf

        return import_mf
    if router == "bert":
        from pointsman.importing.bert import import_bert

        return import_bert
    if router == "causal_llm":
        from pointsman.importing.causal_llm import import_causal_llm

        return import_causal_llm
    from pointsman.importing.sw_ranking import import_sw_ranking

    return import_sw_ranking


def _settings(args: argparse.Namespace) -> ImportSettings:
    from pointsman.importing.settings import ROUTELLM_EMBEDDINGS, ImportSettings
    from pointsman.routers.routellm_config import ROUTELLM_PAIR

    name = args.name or args.router
    if not ROUTER_NAME.fullmatch(name):
        raise ConfigError(f"--name {quote(name)} is not [a-z0-9_]+")
    if args.router != "sw_ranking" and len(args.sources) > 1:
        raise ConfigError(
            f"{args.router} is one checkpoint and {len(args.sources)} were named: "
            f"{', '.join(args.sources)}"
        )
    return ImportSettings(
        sources=tuple(args.sources),
        out=args.out,
        name=name,
        pair=ModelPair(
            strong=args.strong_model or ROUTELLM_PAIR.strong,
            weak=args.weak_model or ROUTELLM_PAIR.weak,
        ),
        revision=args.revision,
        precision=args.precision,
        embedding_model=args.embedding_model or ROUTELLM_EMBEDDINGS,
        embeddings=tuple(args.embeddings),
        tokenizer=args.tokenizer,
        tiers=args.tiers,
        compat=not args.clean,
        calibrate=args.calibrate,
    )


def _served(router: str, folder: Path) -> str:
    """Return the lines of a configuration, as one line of YAML."""
    embeddings = ", embeddings: {}" if router in {"mf", "sw_ranking"} else ""
    return f"routers: {{{folder.name}: {{bundle: {folder}{embeddings}}}}}"
