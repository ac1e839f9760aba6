"""What every trainer begins with: outcomes that may be trained on, and prompts to calibrate on."""

from __future__ import annotations

import functools
import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path

import numpy as np

from pointsman.errors import ConfigError
from pointsman.evaluation.benchmarks import Benchmark
from pointsman.routers.bundle import prompt_digest
from pointsman.routing import ModelPair, quote
from pointsman.training.augmentation import (
    protected_forms,
    with_question_forms,
    with_solution_steps,
)
from pointsman.training.benchmark_labels import MmluLabels
from pointsman.training.datasets import (
    CALIBRATION_SOURCES,
    SOURCES,
    Outcomes,
    calibration_prompts,
    read_outcomes,
    without_protected,
)
from pointsman.training.encoder import sentence_embeddings
from pointsman.training.figures import held_out_sets
from pointsman.training.labels import held_out_prompts
from pointsman.training.own_data import held_out_benchmark, read_own_outcomes
from pointsman.training.settings import TrainSettings

PERCENTILE_FRACTION = 0.1
"""Part of own data's questions that only the percentiles come from."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True, eq=False)
class Material:
    """What a router is made of: outcomes to learn from, and prompts that it never sees."""

    outcomes: Outcomes
    calibration: tuple[str, ...]
    """Prompts whose win rates become the bundle's percentiles."""

    calibration_description: str
    """Which prompts these are, in words."""

    tests: tuple[Benchmark, ...]
    """What the router is measured on."""

    def training_prompts(self) -> bytes:
        """Return the digests of every prompt that is trained on, 32 bytes each, sorted."""
        return b"".join(sorted({prompt_digest(text) for text in self.outcomes.prompts}))


def prepare(settings: TrainSettings) -> Material:
    """Read everything that may be trained on, away from test and calibration prompts.

    Raises:
        ConfigError: there is no data, or it cannot be read.
    """
    parts = []
    labels = MmluLabels.parse(settings.mmlu_labels)
    if settings.data is not None:
        parts.append(_shared_outcomes(settings.data, settings.pair, labels))
        if (drawn := labels.drawn(settings.data)) is not None:
            parts.append(drawn)
    if settings.own_data:
        skip = settings.skip_bad_rows
        parts.append(read_own_outcomes(settings.own_data, settings.pair, skip_bad_rows=skip))
    if not parts:
        raise ConfigError("there is nothing to train on; name a folder or files with --data")
    outcomes = functools.reduce(joined, parts)
    if settings.data is None:
        _check_pair(outcomes, settings.pair)
        return _held_back(outcomes, settings.seed)
    calibration = calibration_prompts(settings.data)
    protected = protected_forms(chain(labels.protected(settings.data), calibration))
    outcomes, dropped = without_protected(
        outcomes, protected, lambda texts: sentence_embeddings(texts, settings.cache)
    )
    logger.info(
        "prompts kept %d, dropped near test or calibration %d", len(outcomes.prompts), dropped
    )
    return Material(
        outcomes=outcomes,
        calibration=calibration,
        calibration_description=(
            f"distinct first user turns of {' and '.join(CALIBRATION_SOURCES)}"
        ),
        tests=_untouched(held_out_sets(settings.data), outcomes.prompts),
    )


def _untouched(tests: Sequence[Benchmark], trained: Sequence[str]) -> tuple[Benchmark, ...]:
    """Return the test sets without what was trained on, and without those of which nothing is left.

    Only a protocol that says so by name trains on a test set, see `benchmark_labels`.
    """
    known = {prompt_digest(prompt) for prompt in trained}
    found = []
    for test in tests:
        keep = np.asarray([prompt_digest(prompt) not in known for prompt in test.prompts])
        if keep.any():
            kept = replace(
                test,
                prompts=tuple(np.asarray(test.prompts, dtype=object)[keep]),
                weak_scores=test.weak_scores[keep],
                strong_scores=test.strong_scores[keep],
            )
            found.append(kept)
    return tuple(found)


def joined(first: Outcomes, second: Outcomes) -> Outcomes:
    """Return both; a prompt that is in both is one prompt, with the outcomes of either.

    One that differs from a prompt of the first in case and spaces only gets that one's root.
    """
    numbers = {text: number for number, text in enumerate(first.prompts)}
    fresh = [text not in numbers for text in second.prompts]
    added = tuple(text for text, new in zip(second.prompts, fresh, strict=True) if new)
    for number, text in enumerate(added, start=len(first.prompts)):
        numbers[text] = number
    moved = np.asarray([numbers[text] for text in second.prompts])
    known = {
        prompt_digest(text): root for text, root in zip(first.prompts, first.roots, strict=True)
    }
    new = second.roots + int(first.roots.max()) + 1
    roots = np.asarray(
        [
            known.get(prompt_digest(text), root)
            for text, root in zip(second.prompts, new, strict=True)
        ]
    )
    return Outcomes(
        prompts=first.prompts + added,
        roots=np.concatenate([first.roots, roots[np.asarray(fresh)]]),
        prompt_index=np.concatenate([first.prompt_index, moved[second.prompt_index]]),
        source_index=np.concatenate([first.source_index, second.source_index + len(first.sources)]),
        sources=first.sources + second.sources,
        strong_models=first.strong_models + second.strong_models,
        weak_models=first.weak_models + second.weak_models,
        strong_scores=np.concatenate([first.strong_scores, second.strong_scores]),
        weak_scores=np.concatenate([first.weak_scores, second.weak_scores]),
    )


def _shared_outcomes(data: Path, pair: ModelPair, labels: MmluLabels) -> Outcomes:
    names = [
        source.name
        for source in SOURCES
        if (data / "preferences" / f"{source.name}.jsonl.gz").exists()
    ]
    outcomes = read_outcomes(data, names, allowed_overlap=labels.allowed_overlap)
    if not outcomes.prompts:
        known = ", ".join(source.name for source in SOURCES)
        raise ConfigError(
            f"{data / 'preferences'} has no row to train on; it may hold {known}, each as "
            ".jsonl.gz; name files of your own with --data"
        )
    return with_solution_steps(with_question_forms(outcomes), data, pair)


def _check_pair(outcomes: Outcomes, pair: ModelPair) -> None:
    """Refuse a pair that own data does not know: more likely it was not named at all."""
    models = sorted({*outcomes.strong_models, *outcomes.weak_models})
    for model in (pair.strong, pair.weak):
        if model not in models:
            raise ConfigError(
                f"no outcome of {quote(model)}; the data has: {', '.join(map(quote, models))}; "
                "name the pair with --strong-model and --weak-model"
            )


def _held_back(outcomes: Outcomes, seed: int) -> Material:
    """Return own data with a tenth of its prompts kept for the percentiles."""
    kept_back = held_out_prompts(outcomes, PERCENTILE_FRACTION, seed)
    return Material(
        outcomes=outcomes.keep_prompts(~kept_back),
        calibration=tuple(np.asarray(outcomes.prompts, dtype=object)[kept_back]),
        calibration_description="held-out prompts of own data",
        tests=(held_out_benchmark(outcomes, kept_back),),
    )
