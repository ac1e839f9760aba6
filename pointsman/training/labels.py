"""Outcomes → what a fine-tuning learns of each prompt: soft labels, and tasks beside them.

A prompt counts once per source, with the mean over all pairs of models that were tried on it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pointsman.training.augmentation import STEPS_SOURCE, is_form
from pointsman.training.datasets import Outcomes

STEPS_WEIGHT = 0.5
"""Weight of one prompt of the step signal against one with outcomes. More lifts arithmetic and
lowers knowledge questions and chat; see docs/training-log.md."""

FORM_WEIGHT = 0.3
"""Weight of another form of a question against the question as it was asked."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Task:
    """Something else worth knowing about a prompt, learnt by a head that is not served."""

    name: str
    targets: NDArray[np.float32]
    """float32[n] in [0, 1]; NaN where it is not known."""

    weight: float
    """Of its loss against that of the labels."""


@dataclass(frozen=True, kw_only=True, eq=False)
class PromptLabels:
    """n pairs of a prompt and a source."""

    prompt_index: NDArray[np.int64]
    """int64[n] into the outcomes' prompts."""

    source_index: NDArray[np.int64]
    """int64[n] into the outcomes' sources."""

    classes: NDArray[np.float32]
    """float32[n, 3], rows that add up to 1: the weak model falls short (strong needed), both do
    well (a tie), only the weak one does well."""

    ratings: NDArray[np.float32]
    """float32[n, 5], rows that add up to 1: ratings 1 to 5 of the weak model's answer."""

    strong_fails: NDArray[np.float32]
    """float32[n]: 1 - the strong models' mean score."""

    has_outcomes: NDArray[np.bool_]
    """bool[n]: False for signals that tell nothing of any model's answers."""

    weights: NDArray[np.float64]
    """float64[n], positive."""

    @property
    def weak_fails(self) -> NDArray[np.float32]:
        """Return float32[n], the first class: how surely the strong model is needed."""
        first: NDArray[np.float32] = self.classes[:, 0]
        return first

    def tasks(self) -> tuple[Task, ...]:
        """Return what is learnt beside the classes.

        Whether the strong model fails too, which of both does better, and how many steps a
        solution takes: each is another view of difficulty, and none alone is what is served.
        """
        unknown = np.float32("nan")
        gap = (1.0 + self.weak_fails - self.strong_fails) / 2.0
        return (
            Task(
                name="strong fails",
                targets=np.where(self.has_outcomes, self.strong_fails, unknown),
                weight=0.5,
            ),
            Task(name="gap", targets=np.where(self.has_outcomes, gap, unknown), weight=0.5),
            Task(
                name="steps",
                targets=np.where(self.has_outcomes, unknown, self.weak_fails),
                weight=0.5,
            ),
        )


def label_prompts(
    outcomes: Outcomes, source_weights: NDArray[np.float64] | None = None
) -> PromptLabels:
    """Return the mean labels per prompt and source.

    An outcome with scores s and w in [0, 1] spreads over the classes as 1 - w, s w, (1 - s) w.

    Args:
        outcomes: n outcomes.
        source_weights: float64[sources], positive, multiplied with those that forms and signals
            have; all equal by default.
    """
    key = outcomes.source_index * len(outcomes.prompts) + outcomes.prompt_index
    found, inverse, counts = np.unique(key, return_inverse=True, return_counts=True)

    def mean(values: NDArray[np.float64]) -> NDArray[np.float32]:
        means: NDArray[np.float64] = np.bincount(inverse.ravel(), values) / counts
        return means.astype(np.float32)

    strong, weak = outcomes.strong_scores, outcomes.weak_scores
    source_index, prompt_index = np.divmod(found, len(outcomes.prompts))
    importance = np.asarray([source_importance(source) for source in outcomes.sources])
    if source_weights is not None:
        importance = importance * source_weights
    signals = np.asarray([source == STEPS_SOURCE for source in outcomes.sources])
    return PromptLabels(
        prompt_index=prompt_index,
        source_index=source_index,
        classes=np.stack([mean(1 - weak), mean(strong * weak), mean((1 - strong) * weak)], axis=1),
        ratings=np.stack([mean(column) for column in ratings_of(weak).T], axis=1),
        strong_fails=mean(1 - strong),
        has_outcomes=~signals[source_index],
        weights=importance[source_index],
    )


def ratings_of(scores: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return float64[n, 5]: each score in [0, 1] as 1 + 4 score, shared by the nearest ratings."""
    places = 4.0 * scores[:, None]  # 0 for rating 1, 4 for rating 5
    return np.clip(1.0 - np.abs(places - np.arange(5.0)), 0.0, 1.0)


def source_importance(source: str) -> float:
    """Return the weight of a prompt of this source."""
    if source == STEPS_SOURCE:
        return STEPS_WEIGHT
    return FORM_WEIGHT if is_form(source) else 1.0


def held_out_prompts(outcomes: Outcomes, fraction: float, seed: int) -> NDArray[np.bool_]:
    """Return bool[p]: the prompts of about so many roots, all forms of a question together."""
    roots = np.unique(outcomes.roots)
    chosen = np.random.default_rng(seed).permutation(len(roots))[: round(fraction * len(roots))]
    return np.isin(outcomes.roots, roots[chosen])
