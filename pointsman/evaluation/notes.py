"""What a reader should know before believing a figure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pointsman.evaluation.methods import Outcomes

_FEW_PROMPTS = 30
_MOSTLY = 0.95
"""Of the rows; MMLU itself has a few questions twice."""


@dataclass(frozen=True, kw_only=True, eq=False)
class ScoredRouter:
    """A router's win rates on a benchmark."""

    name: str
    revision: str
    rates: NDArray[np.float64]
    """float64[n], one for each prompt."""
    trained_on: int | None = None
    """How many of the prompts it trained on; None where nobody knows."""
    repeatable: bool = True
    """Whether another run gives the same win rates."""


def notes_on_outcomes(outcomes: Outcomes) -> Iterator[str]:
    """Yields what makes every figure on these scores doubtful."""
    gap = outcomes.gap
    if np.array_equal(outcomes.strong, outcomes.weak):
        yield "both models do equally well on every prompt: there is nothing to route for"
    elif abs(gap.value) <= gap.margin:
        yield (
            f"the gap between the models, {gap.value:.4g}, is not shown to differ from zero "
            f"(±{gap.margin:.2g}): PGR, APGR and CPT divide by it and mean little here"
        )
    elif gap.value < 0:
        yield (
            f"the strong model scores {-gap.value:.4g} less than the weak one, so more APGR is "
            "worse: swap --strong-model and --weak-model"
        )
    if len(outcomes) < _FEW_PROMPTS:
        yield f"few prompts ({len(outcomes)}): the intervals are rough and too narrow"


def notes_on_prompts(prompts: Sequence[str]) -> Iterator[str]:
    """Yields what makes the intervals doubtful where prompts come more than once."""
    different = len(set(prompts))
    if different < _MOSTLY * len(prompts):
        yield (
            f"{len(prompts)} rows hold only {different} different prompts: intervals resample rows "
            "and are too narrow"
        )


def notes_on_routers(routers: Sequence[ScoredRouter]) -> Iterator[str]:
    """Yields what makes a router's figures doubtful."""
    for router in routers:
        if router.trained_on:
            yield (
                f"{router.name} trained on {router.trained_on} of these {len(router.rates)} "
                "prompts: its figures here are too good"
            )
        if len(router.rates) > 1 and len(np.unique(router.rates)) == 1:
            yield f"{router.name} gives every prompt the same win rate: it is a random mix"
        if not router.repeatable:
            yield (f"{router.name} names no revision or seed: another run may give other figures")
