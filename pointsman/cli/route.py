"""`pointsman route`: where one prompt would go, and why; nothing is asked of any model."""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pointsman.errors import ConfigError, InvalidRequest
from pointsman.extras import needed_from
from pointsman.routing import (
    Bar,
    Choice,
    ModelPair,
    RouterRef,
    StrongShare,
    decide,
    parse_bar,
    quote,
)
from pointsman.rows import STANDARD

_EXAMPLES = """\
examples:
  pointsman route "What is the capital of France?" --threshold 0.3
      strong iff the strong win rate is at least 0.3
  pointsman route "Prove it." --threshold p30 --strong-model gpt-4.1 --weak-model llama3.2
      the threshold for about 30 % of strong calls, and the name of the model
  echo "Prove it." | pointsman route - --format json
      the prompt from standard input, without the line end after it
  pointsman route "Prove it." --address 127.0.0.1:50051
      ask a running scorer, such as that of `pointsman serve`
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scored:
    """A prompt's win rate, and what is known about the router that gave it."""

    strong_win_rate: float
    revision: str
    percentile: float | None
    """In [0, 100]; None without calibration prompts."""
    quantiles: Sequence[float]
    calibration_prompts: str
    training_pair: ModelPair | None


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Adds `route` to the command line."""
    parser = subparsers.add_parser(
        "route",
        help="say where a prompt would go, and why",
        description="Say where a prompt would go, and why. No model is asked.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("prompt", help="the prompt; - reads it from standard input")
    parser.add_argument("--router", default="mf", metavar="NAME", help="default: mf")
    parser.add_argument(
        "--threshold",
        type=_bar,
        default=StrongShare(50),
        metavar="BAR",
        help="0 (all strong) to 1 (almost all weak), or p30 for 30 %% strong (default: p50)",
    )
    parser.add_argument("--strong-model", metavar="MODEL", help="for the answer only")
    parser.add_argument("--weak-model", metavar="MODEL", help="for the answer only")
    parser.add_argument("--format", choices=["text", "json"], default="text", help="default: text")
    add_source(parser)
    parser.set_defaults(run=run)


def add_source(parser: argparse.ArgumentParser) -> None:
    """Adds the options that say where win rates come from."""
    source = parser.add_mutually_exclusive_group()
    source.add_argument(
        "--config", metavar="FILE", help="which routers there are; RouteLLM's file is accepted"
    )
    source.add_argument(
        "--address", metavar="HOST:PORT", help="ask this running scorer, instead of scoring here"
    )


def run(args: argparse.Namespace) -> int:
    """Prints the decision and returns the exit status.

    Raises:
        PointsmanError: The router cannot be loaded or asked, or has no calibration for a share.
    """
    pair = _pair(args.strong_model, args.weak_model)
    prompt = _prompt(args.prompt)
    scored = _remote(args, prompt) if args.address else _local(args, prompt)
    threshold = _threshold(args.router, args.threshold, scored)
    choice = decide(scored.strong_win_rate, threshold)
    model = pair.pick(choice) if pair else None
    if args.format == "json":
        print(json.dumps(_as_json(args.router, scored, threshold, choice, model)))
    else:
        print(_as_text(args, scored, threshold, choice, model))
    return 0


def _bar(text: str) -> Bar:
    try:
        return parse_bar(text)
    except InvalidRequest as error:
        raise argparse.ArgumentTypeError(
            f"{quote(text)} is neither a threshold from 0 to 1, such as 0.3, nor a share from p0 "
            "to p100, such as p30"
        ) from error


def _pair(strong: str | None, weak: str | None) -> ModelPair | None:
    if strong and weak:
        return ModelPair(strong, weak)
    if strong or weak:
        raise ConfigError("give both --strong-model and --weak-model, or neither")
    return None


def _prompt(argument: str) -> str:
    given = argument.encode("utf-8", "surrogateescape")  # the bytes that the shell handed over
    if argument == STANDARD:
        given = sys.stdin.buffer.read()
        given = given.removesuffix(b"\n").removesuffix(b"\r")
    try:
        return given.decode()
    except UnicodeDecodeError as error:
        raise ConfigError(f"the prompt is not UTF-8: {error}") from error


def _local(args: argparse.Namespace, prompt: str) -> Scored:
    from pointsman.cli.scoring import local_router, local_win_rates

    loaded = local_router(args.config, args.router)
    (rate,) = local_win_rates(loaded, [prompt])
    percentile = loaded.percentile(rate)
    return Scored(
        strong_win_rate=rate,
        revision=loaded.revision,
        percentile=None if math.isnan(percentile) else percentile,
        quantiles=loaded.quantiles.tolist(),
        calibration_prompts=loaded.calibration_prompts,
        training_pair=loaded.training_pair,
    )


def _remote(args: argparse.Namespace, prompt: str) -> Scored:
    with needed_from("serve", "--address"):
        from pointsman.cli.remote import RemoteScorer

    with RemoteScorer(args.address) as scorer:
        answer = scorer.score(args.router, prompt)
        router = scorer.describe(args.router)
    pair = router.training_pair if router.HasField("training_pair") else None
    return Scored(
        strong_win_rate=answer.strong_win_rate,
        revision=answer.revision,
        percentile=answer.percentile if router.win_rate_percentiles else None,
        quantiles=router.win_rate_percentiles,
        calibration_prompts=router.calibration_prompts,
        training_pair=ModelPair(pair.strong, pair.weak) if pair else None,
    )


def _threshold(router: str, bar: Bar, scored: Scored) -> float:
    try:
        return RouterRef(router, bar).threshold_among(scored.quantiles)
    except InvalidRequest as error:
        raise ConfigError(
            f"router {router} has no calibration prompts, so a share of calls says nothing; give a "
            "threshold, such as --threshold 0.5"
        ) from error


def _as_json(
    router: str, scored: Scored, threshold: float, choice: Choice, model: str | None
) -> dict[str, Any]:
    pair = scored.training_pair
    return {
        "router": router,
        "revision": scored.revision,
        "strong_win_rate": scored.strong_win_rate,
        "threshold": threshold,
        "decision": choice,
        "percentile": scored.percentile,
        "calibration_prompts": scored.calibration_prompts or None,
        "training_pair": {"strong": pair.strong, "weak": pair.weak} if pair else None,
        **({"model": model} if model else {}),
    }


def _as_text(
    args: argparse.Namespace, scored: Scored, threshold: float, choice: Choice, model: str | None
) -> str:
    reaches = "reaches" if choice == "strong" else "is below"
    share = f" (p{args.threshold.percent})" if isinstance(args.threshold, StrongShare) else ""
    pair = scored.training_pair
    lines = {
        "decision": f"{choice}: the strong win rate {reaches} the threshold",
        "model": model,
        "strong win rate": repr(scored.strong_win_rate),
        "threshold": f"{threshold!r}{share}",
        "percentile": (
            "none: the router has no calibration prompts"
            if scored.percentile is None
            else f"{scored.percentile:.1f} among: {scored.calibration_prompts}"
        ),
        "router": f"{args.router}, revision {scored.revision}",
        "trained on": f"{pair.strong} against {pair.weak}" if pair else None,
    }
    return "\n".join(f"{name:<16} {said}" for name, said in lines.items() if said is not None)
