"""Embedded outcomes → weights for each form of prompt, mixed by a gate.

Each form learns what carries furthest for it (docs/training-log.md):

- *open*: from everything, whether the weak model falls short;
- *exam*: where there are labels of real exam questions, who of the two is right, by a kernel; else,
  from questions with options, whether the weak model falls short, and that long ones are hard;
- *problem*: from worked solutions, how many steps they take, that long ones are hard, and what the
  head says that the encoder was tuned with.

Exam and problem only rank prompts of their form anew. Level and spread there are those of the open
form, which alone has seen outcomes of all kinds.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from pointsman.routers.forms import FORMS, FormGate, FormWeights
from pointsman.routers.kernel import KernelWeights
from pointsman.routers.log_odds import Platt
from pointsman.routers.mf import BilinearWeights
from pointsman.routing import ModelPair
from pointsman.training.benchmark_labels import MMLU_SOURCE
from pointsman.training.bilinear import Examples, FitSettings, fit_bilinear
from pointsman.training.datasets import Outcomes
from pointsman.training.forms import EXAM, OPEN, PROBLEM, fit_gate, form_of
from pointsman.training.kernel import KernelSettings, fit_kernel

EXAM_RIDGE, EXAM_LENGTH = 1.0, 1.0
"""Ridge, and the weight of length against outcomes, where no exam question has labels."""

PROBLEM_RIDGE, PROBLEM_LENGTH, PROBLEM_JUDGEMENT = 1.0, 2.0, 1.0
"""Of the step signal. Length alone is as good as anything known on GSM8K; the tuned head has
learned from outcomes and errs elsewhere."""

FORM_ITERATIONS = 50
"""Steps of L-BFGS for exam and problem, which learn from one kind of prompt for the same kind."""

TARGET_SPREAD = 0.45
"""Standard deviation of targets that something was mixed into: that of outcomes."""


WeightsT = TypeVar("WeightsT", bound=FormWeights)


@dataclass(frozen=True, kw_only=True, eq=False)
class Mixture:
    """A gate and trained weights for each of its forms; without a gate, one for all."""

    gate: FormGate | None
    open: BilinearWeights
    others: tuple[FormWeights, ...] = ()
    """Of the forms but open, in their order."""

    @property
    def weights(self) -> tuple[FormWeights, ...]:
        """Return those of all forms, in their order."""
        return (self.open, *self.others)

    def calibrated(self, line: Platt) -> Mixture:
        """Return the mixture with Platt's line on its log-odds, which is one on each form's."""
        return replace(
            self,
            open=_on_line(self.open, line),
            others=tuple(_on_line(one, line) for one in self.others),
        )


@dataclass(frozen=True, kw_only=True, eq=False)
class Curriculum:
    """What each form learns from, over the same prompts."""

    forms: NDArray[np.int64]
    """int64[p]: the form of each prompt."""

    gate: FormGate | None
    examples: tuple[Examples, ...]
    settings: FitSettings
    """Of the open form."""

    other_settings: tuple[FitSettings | KernelSettings, ...] = ()
    """Of the forms but open, in their order."""

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
        open_weights = self.fit_open(pair, description)
        others = []
        for number, settings in enumerate(self.other_settings, start=1):
            name = f"{description}, {FORMS[number]} form"
            found = _fitted(self.examples[number], settings, name)
            inside = self.examples[OPEN].embeddings[self.forms == number]
            like = log_odds_of(open_weights, pair, inside)
            own = log_odds_of(found, pair, inside)
            scale = float(like.std() / max(own.std(), 1e-12))
            line = Platt(scale=scale, bias=float(like.mean() - scale * own.mean()))
            others.append(_on_line(found, line))
        return Mixture(gate=self.gate, open=open_weights, others=tuple(others))

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
        weights = fit_bilinear(kept, self.settings, f"{description}, {FORMS[OPEN]} form")
        mean = examples.embeddings.mean(axis=0).astype(np.float64)
        return replace(weights, bias=-float(mean @ weights.collapse(pair)[0]))


def _on_line(weights: WeightsT, line: Platt) -> WeightsT:
    """Return the weights whose log-odds are those of ``weights`` on a line."""
    scale, bias = line.scale * weights.scale, line.scale * weights.bias + line.bias
    return replace(weights, scale=scale, bias=bias)


def log_odds_of(
    weights: FormWeights, pair: ModelPair, embeddings: NDArray[np.float32]
) -> NDArray[np.float64]:
    """Return float64[n], log-odds by one form's weights for float32[n, d]."""
    rows = embeddings.astype(np.float64)
    if isinstance(weights, KernelWeights):
        return np.asarray([weights.log_odds(row) for row in rows])
    vector, bias = weights.collapse(pair)
    result: NDArray[np.float64] = rows @ vector + bias
    return result


def _fitted(
    examples: Examples, settings: FitSettings | KernelSettings, description: str
) -> FormWeights:
    if isinstance(settings, KernelSettings):
        return fit_kernel(examples.embeddings[examples.prompt_index], examples.targets, settings)
    return fit_bilinear(examples, settings, description)


def curriculum_of(
    outcomes: Outcomes,
    examples: Examples,
    settings: FitSettings,
    judgements: NDArray[np.float64] | None = None,
) -> Curriculum:
    """Return what each form learns from; the open form alone where other forms have no prompts.

    Args:
        outcomes: n outcomes over p prompts.
        examples: all of them as soft labels that the weak model falls short.
        settings: of the open form; the others have its rank, shrinkage and seed.
        judgements: float64[p], log-odds by the head that the encoder was tuned with; None for an
            encoder that was not tuned.
    """
    by_source = np.asarray([form_of(source) for source in outcomes.sources])
    forms = np.full(len(outcomes.prompts), OPEN)
    forms[outcomes.prompt_index] = by_source[outcomes.source_index]
    if not {EXAM, PROBLEM} <= set(forms.tolist()):
        return Curriculum(forms=forms, gate=None, examples=(examples,), settings=settings)
    lengths = np.log1p([float(len(prompt)) for prompt in outcomes.prompts])
    exam, exam_settings = _exam(outcomes, examples, lengths, settings)
    problem = examples.subset(by_source[outcomes.source_index] == PROBLEM)
    problem = _mixed(problem, lengths, PROBLEM_LENGTH)
    if judgements is not None:
        problem = _mixed(problem, judgements, PROBLEM_JUDGEMENT)
    return Curriculum(
        forms=forms,
        gate=fit_gate(examples.embeddings, forms),
        examples=(examples, exam, problem),
        settings=settings,
        other_settings=(
            exam_settings,
            replace(settings, ridge=PROBLEM_RIDGE, iterations=FORM_ITERATIONS),
        ),
    )


def _exam(
    outcomes: Outcomes,
    examples: Examples,
    lengths: NDArray[np.float64],
    settings: FitSettings,
) -> tuple[Examples, FitSettings | KernelSettings]:
    """Return what the exam form learns from, and how."""
    sources = outcomes.sources
    labelled = np.asarray([source == MMLU_SOURCE for source in sources])[outcomes.source_index]
    if labelled.any():
        gaps = outcomes.strong_scores[labelled] - outcomes.weak_scores[labelled]
        exam = replace(examples.subset(labelled), targets=(1.0 + gaps) / 2.0)
        return exam, KernelSettings(seed=settings.seed)
    exams = np.asarray([form_of(source) == EXAM for source in sources])
    similar = examples.subset(exams[outcomes.source_index])
    linear = replace(settings, ridge=EXAM_RIDGE, iterations=FORM_ITERATIONS)
    return _mixed(similar, lengths, EXAM_LENGTH), linear


def _mixed(examples: Examples, values: NDArray[np.float64], weight: float) -> Examples:
    """Return the examples with something known of each prompt mixed into their targets, by source.

    Args:
        examples: n of them, over p prompts.
        values: float64[p].
        weight: of the values against the targets, each standardised.
    """
    targets = examples.targets.copy()
    for source in np.unique(examples.source_index):
        rows = examples.source_index == source
        added = _standardised(values[examples.prompt_index[rows]])
        mixed = _standardised(targets[rows]) + weight * added
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
