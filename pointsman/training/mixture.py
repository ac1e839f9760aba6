"""Embedded outcomes → a bilinear form for each form of prompt, mixed by a gate.

Each form learns what carries furthest for it (docs/training-log.md):

- *open*: from everything, whether the weak model falls short;
- *exam*: where there are labels of real exam questions, who of the two is right; else, from
  questions of that form, whether the weak model falls short, and that long ones are hard;
- *problem*: from worked solutions, how many steps they take, and that long ones are hard.

Exam and problem only rank prompts of their form anew. Level and spread there are those of the open
form, which alone has seen outcomes of all kinds.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from pointsman.routers.forms import FORMS, FormGate
from pointsman.routers.log_odds import Platt
from pointsman.routers.mf import BilinearWeights
from pointsman.routing import ModelPair
from pointsman.training.augmentation import is_form
from pointsman.training.benchmark_labels import MMLU_SOURCE
from pointsman.training.bilinear import Examples, FitSettings, fit_bilinear
from pointsman.training.datasets import Outcomes
from pointsman.training.forms import EXAM, OPEN, PROBLEM, fit_gate, form_of

EXAM_LABELS_RIDGE = 25_000.0
"""Ridge times number of labels: the fewer there are, the less each may say."""

EXAM_RIDGE, EXAM_LENGTH = 3.0, 0.5
"""Ridge, and the weight of length against outcomes, where no exam question has labels."""

PROBLEM_RIDGE, PROBLEM_LENGTH = 3.0, 2.0
"""Of the step signal. Length alone is as good as anything known on GSM8K."""

FORM_ITERATIONS = 50
"""Steps of L-BFGS for exam and problem, which learn from one kind of prompt for the same kind."""

TARGET_SPREAD = 0.45
"""Standard deviation of targets that length was mixed into: that of outcomes."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Mixture:
    """A gate and a trained bilinear form for each of its forms; without a gate, one for all."""

    gate: FormGate | None
    weights: tuple[BilinearWeights, ...]

    def calibrated(self, line: Platt) -> Mixture:
        """Return the mixture with Platt's line on its log-odds, which is one on each form's."""
        return replace(
            self,
            weights=tuple(
                replace(one, scale=line.scale * one.scale, bias=line.scale * one.bias + line.bias)
                for one in self.weights
            ),
        )


@dataclass(frozen=True, kw_only=True, eq=False)
class Curriculum:
    """What each form learns from, over the same prompts."""

    forms: NDArray[np.int64]
    """int64[p]: the form of each prompt."""

    gate: FormGate | None
    examples: tuple[Examples, ...]
    settings: tuple[FitSettings, ...]

    def shuffled(self, seed: int) -> Curriculum:
        """Return the control: targets permuted among the examples of each source."""
        generator = np.random.default_rng(seed)
        return replace(
            self, examples=tuple(_shuffled(examples, generator) for examples in self.examples)
        )

    def fit(self, pair: ModelPair, description: str) -> Mixture:
        """Return what is learned from everything, uncalibrated.

        Args:
            pair: whose levels and spreads the forms share.
            description: what the progress bars say.
        """
        weights = [self.fit_open(pair, description)]
        embeddings = self.examples[OPEN].embeddings
        vector, bias = weights[OPEN].collapse(pair)
        values = embeddings.astype(np.float64) @ vector + bias
        for number in range(1, len(self.examples)):
            name = f"{description}, {FORMS[number]} form"
            found = fit_bilinear(self.examples[number], self.settings[number], name)
            inside = self.forms == number
            own = embeddings[inside].astype(np.float64) @ found.collapse(pair)[0]
            scale = float(values[inside].std() / max(own.std(), 1e-12))
            level = float(values[inside].mean() - scale * own.mean())
            weights.append(replace(found, scale=scale, bias=level))
        return Mixture(gate=self.gate, weights=tuple(weights))

    def fit_open(
        self, pair: ModelPair, description: str, keep: NDArray[np.bool_] | None = None
    ) -> BilinearWeights:
        """Return the open form, with log-odds 0 at the mean prompt.

        Args:
            pair: whose log-odds these are.
            description: what the progress bar says.
            keep: bool[p], the prompts to learn from; all by default.
        """
        examples = self.examples[OPEN]
        kept = examples if keep is None else examples.subset(keep[examples.prompt_index])
        weights = fit_bilinear(kept, self.settings[OPEN], f"{description}, {FORMS[OPEN]} form")
        mean = examples.embeddings.mean(axis=0).astype(np.float64)
        return replace(weights, bias=-float(mean @ weights.collapse(pair)[0]))


def curriculum_of(outcomes: Outcomes, examples: Examples, settings: FitSettings) -> Curriculum:
    """Return what each form learns from; the open form alone where other forms have no prompts.

    Args:
        outcomes: n outcomes over p prompts.
        examples: all of them as soft labels that the weak model falls short.
        settings: of the open form; the others have its rank, shrinkage and seed.
    """
    by_source = np.asarray([form_of(source) for source in outcomes.sources])
    forms = np.full(len(outcomes.prompts), OPEN)
    forms[outcomes.prompt_index] = by_source[outcomes.source_index]
    if not {EXAM, PROBLEM} <= set(forms.tolist()):
        return Curriculum(forms=forms, gate=None, examples=(examples,), settings=(settings,))
    lengths = np.log1p([float(len(prompt)) for prompt in outcomes.prompts])
    exam, exam_ridge = _exam(outcomes, examples, lengths)
    problem = examples.subset(by_source[outcomes.source_index] == PROBLEM)
    return Curriculum(
        forms=forms,
        gate=fit_gate(examples.embeddings, forms),
        examples=(examples, exam, _with_length(problem, lengths, PROBLEM_LENGTH)),
        settings=(
            settings,
            replace(settings, ridge=exam_ridge, iterations=FORM_ITERATIONS),
            replace(settings, ridge=PROBLEM_RIDGE, iterations=FORM_ITERATIONS),
        ),
    )


def _exam(
    outcomes: Outcomes, examples: Examples, lengths: NDArray[np.float64]
) -> tuple[Examples, float]:
    """Return what the exam form learns from, and its ridge."""
    sources = outcomes.sources
    labelled = np.asarray([source == MMLU_SOURCE for source in sources])[outcomes.source_index]
    if labelled.any():
        gaps = outcomes.strong_scores[labelled] - outcomes.weak_scores[labelled]
        exam = replace(examples.subset(labelled), targets=(1.0 + gaps) / 2.0)
        return exam, EXAM_LABELS_RIDGE / int(labelled.sum())
    exams = np.asarray([form_of(source) == EXAM or is_form(source) for source in sources])
    similar = examples.subset(exams[outcomes.source_index])
    return _with_length(similar, lengths, EXAM_LENGTH), EXAM_RIDGE


def _with_length(examples: Examples, lengths: NDArray[np.float64], weight: float) -> Examples:
    """Return the examples with the logarithm of length mixed into their targets, by source."""
    targets = examples.targets.copy()
    for source in np.unique(examples.source_index):
        rows = examples.source_index == source
        length = lengths[examples.prompt_index[rows]]
        mixed = _standardised(targets[rows]) + weight * _standardised(length)
        targets[rows] = np.clip(0.5 + TARGET_SPREAD * _standardised(mixed), 0.0, 1.0)
    return replace(examples, targets=targets)


def _standardised(values: NDArray[np.float64]) -> NDArray[np.float64]:
    result: NDArray[np.float64] = (values - values.mean()) / max(float(values.std()), 1e-12)
    return result


def _shuffled(examples: Examples, generator: np.random.Generator) -> Examples:
    targets = examples.targets.copy()
    for source in np.unique(examples.source_index):
        rows = np.flatnonzero(examples.source_index == source)
        targets[rows] = targets[generator.permutation(rows)]
    return replace(examples, targets=targets)
