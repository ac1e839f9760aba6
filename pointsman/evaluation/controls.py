"""What every router is compared with, and the words for the comparison.

A router that does not beat these is not worth its milliseconds: a mix of both models by the toss
of a coin, the length of the prompt, the router's own win rates dealt out at random. The oracle,
which knows both answers, is what no router can beat.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from pointsman.evaluation.methods import Gap, Outcomes
from pointsman.evaluation.metrics import Curve, Interval, percentile_interval
from pointsman.evaluation.results import Outcome, Verdict

RANDOM = "random mix"
ALWAYS_WEAK = "always weak"
ALWAYS_STRONG = "always strong"
LENGTH = "prompt length"
ORACLE = "oracle"

DESCRIPTIONS = {
    RANDOM: "each call to strong with the same chance; mean and range of the draws",
    ALWAYS_WEAK: "every call to the weak model",
    ALWAYS_STRONG: "every call to the strong model",
    LENGTH: "the longer the prompt, in characters, the sooner strong",
    ORACLE: "knows both answers: strong where it gains most; no router can do better",
}

CHANCE = 0.5
"""APGR of a random mix on average: its curve is the straight line from weak to strong."""


def random_draws(count: int, draws: int, seed: int) -> Iterator[NDArray[np.float64]]:
    """Yields float64[count] in [0, 1), `draws` times: with seed 0 those RouteLLM's router draws."""
    generator = random.Random(seed)
    for _ in range(draws):
        yield np.asarray([generator.random() for _ in range(count)])


def shuffles(rates: NDArray[np.float64], draws: int, seed: int) -> Iterator[NDArray[np.float64]]:
    """Yields the same win rates in another order, `draws` times: their ties stay."""
    generator = np.random.default_rng(seed)
    for _ in range(draws):
        yield generator.permutation(rates)


def prompt_lengths(prompts: Sequence[str]) -> NDArray[np.float64]:
    """Returns float64[n]: characters of each prompt."""
    return np.asarray([float(len(prompt)) for prompt in prompts])


def oracle(outcomes: Outcomes) -> NDArray[np.float64]:
    """Returns float64[n], the ranks of what strong gains: no order of the prompts is better.

    Ranks, for it may cut between prompts of equal gain: it knows them apart.
    """
    order = np.argsort(outcomes.strong - outcomes.weak, kind="stable")
    ranks = np.empty(len(order))
    ranks[order] = np.arange(len(order))
    return ranks


def mean_curve(curves: Sequence[Curve]) -> Curve:
    """Returns the mean quality at each strong share that any curve has, as RouteLLM draws it."""
    shares = np.concatenate([curve.strong_shares for curve in curves])
    qualities = np.concatenate([curve.qualities for curve in curves])
    found, place = np.unique(shares, return_inverse=True)
    means = np.bincount(place, weights=qualities) / np.bincount(place)
    return Curve(strong_shares=found[::-1], qualities=means[::-1])


def spread(value: float, drawn: Sequence[float]) -> Interval:
    """Returns the value between the smallest and the largest draw, NaN where none is defined."""
    return Interval(value=value, low=float(np.min(drawn)), high=float(np.max(drawn)))


def verdict(
    router: str, against: str, difference: float, sampled: NDArray[np.float64], gap: Gap
) -> Verdict:
    """Returns whether the difference of APGR is shown: whether its interval leaves out zero.

    Undefined unless the strong model is shown to be better: over a gap that may be negative, more
    APGR may be less quality.

    Args:
        router: Its name.
        against: `RANDOM` or `LENGTH`.
        difference: Router minus control.
        sampled: float64[samples], the same on resampled prompts.
        gap: Between the models.
    """
    interval = percentile_interval(difference, sampled)
    outcome = _outcome(interval) if gap.shown else "undefined"
    return Verdict(
        against=against,
        outcome=outcome,
        difference=interval,
        text=_sentence(router, against, outcome, interval),
    )


def _outcome(interval: Interval) -> Outcome:
    if np.isnan([interval.value, interval.low, interval.high]).any():
        return "undefined"
    if interval.low > 0:
        return "beats"
    return "worse" if interval.high < 0 else "no difference shown"


def _sentence(router: str, against: str, outcome: Outcome, interval: Interval) -> str:
    rival = "a random mix of the same strong share" if against == RANDOM else against
    figures = f"APGR {interval.value:+.3f} ({interval.low:+.3f} to {interval.high:+.3f})"
    match outcome:
        case "undefined":
            return (
                f"{router} cannot be compared with {rival}: the strong model is not shown to be "
                "better than the weak one"
            )
        case "beats":
            return f"{router} beats {rival}: {figures}"
        case _:
            return f"{router} does not beat {rival}: {outcome}, {figures}"
