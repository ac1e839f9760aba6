"""Logged outcomes on disk → clean columns to train on: the first step of every training.

Cleaning is where honesty is kept: prompts are cut as serving cuts them, models have one name
each, and nothing that equals or nearly equals a test prompt comes through.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pointsman.evaluation.contamination import NEAR_DUPLICATE_COSINE, nearest_cosines
from pointsman.evaluation.preferences import canonical_model, preference_rows, user_turns
from pointsman.routers.bundle import prompt_digest
from pointsman.routers.manifest import DataSource
from pointsman.training.settings import Balance

CALIBRATION_SOURCES = ("arena_bench_v1", "qlora_gpt4")
"""Open-ended prompts of real users: held out, so that percentiles and shares mean something."""

HELD_OUT_SOURCES = (*CALIBRATION_SOURCES, "qlora_other")
"""``qlora_other`` shares its prompts with ``qlora_gpt4``."""


_EXPONENTS: dict[Balance, float] = {"none": 0.0, "sqrt": 0.5, "equal": 1.0}


@dataclass(frozen=True)
class Source:
    """A data set that may be trained on."""

    name: str
    licence: str


SOURCES = (
    Source("mmlu_pro_gpt4o_mixtral", "Apache-2.0"),
    Source("zeroeval_crux", "Apache-2.0"),
    Source("zeroeval_math_l5", "Apache-2.0"),
    Source("zeroeval_zebra", "Apache-2.0"),
    Source("misguided_attention_2025", "CC0-1.0"),
    Source("bullshit_2025", "MIT"),
)
"""All are permissively licensed; the licences were read in the repositories they come from."""

SIGNALS = (Source("gsm8k_train", "MIT"), Source("mmlu", "MIT"))
"""Permissively licensed too: texts without outcomes, and labels that a protocol allows."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Outcomes:
    """n outcomes over p prompts, in columns."""

    prompts: tuple[str, ...]
    """p distinct texts, as the router will see them."""

    roots: NDArray[np.int64]
    """int64[p]: prompts with equal roots are forms of one question and stay together in a split."""

    prompt_index: NDArray[np.int64]
    """int64[n]: the prompt of each outcome."""

    source_index: NDArray[np.int64]
    """int64[n]: the source of each outcome, an index into ``sources``."""

    sources: tuple[str, ...]
    strong_models: tuple[str, ...]
    """n canonical names."""

    weak_models: tuple[str, ...]
    """n canonical names."""

    strong_scores: NDArray[np.float64]
    """float64[n] in [0, 1]: correctness or a judge's scaled score."""

    weak_scores: NDArray[np.float64]
    """float64[n] in [0, 1]."""

    def describe(self) -> tuple[DataSource, ...]:
        """Return the manifest's entry for every source that has rows left."""
        licences = {source.name: source.licence for source in (*SOURCES, *SIGNALS)}
        entries = []
        for index, name in enumerate(self.sources):
            rows = self.source_index == index
            if rows.any():
                prompts = len(np.unique(self.prompt_index[rows]))
                licence = licences.get(name.partition(" (")[0], "unknown")
                count = int(rows.sum())
                entries.append(DataSource(name=name, licence=licence, rows=count, prompts=prompts))
        return tuple(entries)

    def keep_prompts(self, keep: NDArray[np.bool_]) -> Outcomes:
        """Return the outcomes of the prompts that ``keep`` (bool[p]) marks, indices closed up."""
        rows = np.flatnonzero(keep[self.prompt_index])
        renumbered = np.cumsum(keep) - 1
        return Outcomes(
            prompts=tuple(np.asarray(self.prompts, dtype=object)[keep]),
            roots=self.roots[keep],
            prompt_index=renumbered[self.prompt_index[rows]],
            source_index=self.source_index[rows],
            sources=self.sources,
            strong_models=tuple(self.strong_models[row] for row in rows),
            weak_models=tuple(self.weak_models[row] for row in rows),
            strong_scores=self.strong_scores[rows],
            weak_scores=self.weak_scores[rows],
        )


def read_outcomes(
    data: Path, sources: Sequence[str], *, allowed_overlap: frozenset[str] = frozenset()
) -> Outcomes:
    """Read ``preferences/<source>.jsonl.gz``, without rows that name an overlap with a test set.

    Args:
        data: the folder that holds ``preferences/``.
        sources: file names without their ending.
        allowed_overlap: test sets that are trained on anyway, as the rows name them.

    Raises:
        ConfigError: a file cannot be read, or a row lacks a field; names file and line.
    """
    rows = [
        (index, row)
        for index, source in enumerate(sources)
        for row in preference_rows(data, source)
        if allowed_overlap.issuperset(row.overlap)
    ]
    numbers: dict[str, int] = {}
    for _, row in rows:
        numbers.setdefault(user_turns(row.prompt)[-1], len(numbers))
    return Outcomes(
        prompts=tuple(numbers),
        roots=np.arange(len(numbers)),
        prompt_index=np.asarray([numbers[user_turns(row.prompt)[-1]] for _, row in rows]),
        source_index=np.asarray([index for index, _ in rows]),
        sources=tuple(sources),
        strong_models=tuple(canonical_model(row.strong) for _, row in rows),
        weak_models=tuple(canonical_model(row.weak) for _, row in rows),
        strong_scores=np.asarray([row.strong_score for _, row in rows], dtype=np.float64),
        weak_scores=np.asarray([row.weak_score for _, row in rows], dtype=np.float64),
    )


def source_weights(outcomes: Outcomes, balance: Balance) -> NDArray[np.float64]:
    """Return float64[sources]: how much a prompt of each source weighs, 1 on average over prompts.

    A prompt counts once per source, however many pairs of models were tried on it. With p prompts
    in a source, each weighs 1, 1 / sqrt(p) or 1 / p, up to a factor that all have in common; a
    source without prompts weighs nothing.
    """
    pairs = outcomes.source_index * len(outcomes.prompts) + outcomes.prompt_index
    of_pairs = np.unique(pairs) // max(1, len(outcomes.prompts))
    counts = np.bincount(of_pairs, minlength=len(outcomes.sources)).astype(np.float64)
    weights = np.power(counts, -_EXPONENTS[balance], out=np.zeros_like(counts), where=counts > 0)
    total = float(weights @ counts)
    return weights * (counts.sum() / total) if total else weights


def calibration_prompts(data: Path) -> tuple[str, ...]:
    """Return the distinct first user turns of the calibration sources, in file order."""
    firsts = (
        user_turns(row.prompt)[0]
        for source in CALIBRATION_SOURCES
        for row in preference_rows(data, source)
    )
    return tuple(dict.fromkeys(firsts))


def without_protected(
    outcomes: Outcomes,
    protected: Iterable[str],
    embed: Callable[[Sequence[str]], NDArray[np.float32]],
) -> tuple[Outcomes, int]:
    """Drop prompts that equal (case and space folded) or nearly equal a protected one.

    All forms of a question go when one of them does.

    Args:
        outcomes: what was read.
        protected: test prompts, their copies, and prompts held out for calibration.
        embed: texts → sentence embeddings, whose cosine tells topic and wording.

    Returns:
        The rest, and how many prompts went.
    """
    texts = sorted(set(protected))
    if not texts:
        return outcomes, 0
    digests = {prompt_digest(text) for text in texts}
    equal = np.asarray([prompt_digest(prompt) in digests for prompt in outcomes.prompts])
    nearest = nearest_cosines(embed(outcomes.prompts), embed(texts))
    spoilt = np.unique(outcomes.roots[equal | (nearest >= NEAR_DUPLICATE_COSINE)])
    keep = ~np.isin(outcomes.roots, spoilt)
    return outcomes.keep_prompts(keep), int((~keep).sum())
