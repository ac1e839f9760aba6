"""RouteLLM's three benchmarks for any pair: its logged answers, and what was generated since."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pointsman.errors import ConfigError
from pointsman.evaluation.benchmarks import JUDGES_SCORE, Benchmark, load_benchmark
from pointsman.evaluation.preferences import canonical_model
from pointsman.routing import ModelPair, quote
from pointsman.rows import read_rows

logger = logging.getLogger(__name__)

_LOGGED = "as RouteLLM logged"
_UNKNOWN = "nobody knows how"


def generated_file(data: Path, benchmark: str, model: str) -> Path:
    """Returns where `pointsman data generate` keeps a model's graded answers to a benchmark."""
    return data / "generated" / benchmark / f"{model.replace('/', '__')}.jsonl"


@dataclass(frozen=True, kw_only=True, eq=False)
class _Graded:
    """One model's scores on a benchmark's prompts."""

    model: str
    scores: NDArray[np.float64]
    """float64[n], NaN where nobody graded it."""
    protocol: str
    """How it was asked and graded, in words."""


def of_models(
    logged: Benchmark, data: Path, *, strong_model: str | None, weak_model: str | None
) -> Benchmark:
    """Returns the benchmark for these models, on the prompts that both have graded answers to.

    It carries a note where the two were not asked and graded alike.

    Args:
        logged: One of RouteLLM's three, as `load_benchmark` returns it.
        data: The folder that holds ``generated/``.
        strong_model: In any spelling; by default the one that was logged.
        weak_model: Likewise.

    Raises:
        ConfigError: There are no graded answers of a model, or none to the same prompts.
    """
    strong = _graded(strong_model or logged.pair.strong, logged, data)
    weak = _graded(weak_model or logged.pair.weak, logged, data)
    pair = ModelPair(strong=strong.model, weak=weak.model)
    if pair == logged.pair:
        return logged
    both = np.isfinite(strong.scores) & np.isfinite(weak.scores)
    count, total = int(both.sum()), len(both)
    if not count:
        raise ConfigError(
            f"benchmark {logged.name}: no prompt has graded answers of both {pair.strong} and "
            f"{pair.weak}; run `{_command(logged.name, pair.strong)}`, and the same for {pair.weak}"
        )
    if count < total:
        logger.warning(
            "%s: only %d of %d prompts have graded answers of both %s and %s; the others are left "
            "out",
            *(logged.name, count, total, pair.strong, pair.weak),
        )
    return replace(
        logged,
        pair=pair,
        prompts=tuple(p for p, keep in zip(logged.prompts, both, strict=True) if keep),
        weak_scores=weak.scores[both],
        strong_scores=strong.scores[both],
        notes=tuple(_notes(strong, weak)),
    )


def _notes(strong: _Graded, weak: _Graded) -> Iterator[str]:
    if strong.protocol != weak.protocol or strong.protocol == _UNKNOWN:
        yield (
            f"{strong.model} was graded {strong.protocol}, and {weak.model} {weak.protocol}: part "
            "of the gap between them may be the protocol's"
        )


def _graded(model: str, logged: Benchmark, data: Path) -> _Graded:
    for known, scores in (
        (logged.pair.strong, logged.strong_scores),
        (logged.pair.weak, logged.weak_scores),
    ):
        if canonical_model(known) == canonical_model(model):
            return _Graded(model=known, scores=scores, protocol=_LOGGED)
    path = _answers_file(data, logged.name, model)
    lowest, highest = (1.0, 10.0) if logged.unit == JUDGES_SCORE else (0.0, 1.0)
    scale = 1.0 if logged.unit == JUDGES_SCORE else 100.0
    found: dict[str, float] = {}
    protocol = _UNKNOWN
    for row in read_rows(str(path)):
        score = row.number("score")
        if not lowest <= score <= highest:
            raise ConfigError(
                f"{row.place}: the score {score:g} is not from {lowest:g} to {highest:g}, as "
                f"{logged.name} has it"
            )
        found[row.text("prompt")] = scale * score
        if row.has("protocol"):  # one in a file, as `data generate` writes it
            protocol = row.text("protocol")
    scores = np.asarray([found.get(prompt, np.nan) for prompt in logged.prompts])
    return _Graded(model=model, scores=scores, protocol=protocol)


def _answers_file(data: Path, benchmark: str, model: str) -> Path:
    """Returns the file of a model's graded answers, under whatever spelling it was generated."""
    exact = generated_file(data, benchmark, model)
    if exact.is_file():
        return exact
    names = {path.stem.replace("__", "/"): path for path in sorted(exact.parent.glob("*.jsonl"))}
    same = [name for name in names if canonical_model(name) == canonical_model(model)]
    if len(same) == 1:
        return names[same[0]]
    if same:
        raise ConfigError(
            f"benchmark {benchmark} has answers of {' and '.join(same)}, and {quote(model)} may "
            "mean any; write the whole name"
        )
    logged = load_benchmark(benchmark, data).pair
    known = ", ".join([logged.strong, logged.weak, *names])
    raise ConfigError(
        f"benchmark {benchmark} has no graded answers of {quote(model)}, only of {known}; run "
        f"`{_command(benchmark, model)}`"
    )


def _command(benchmark: str, model: str) -> str:
    return f"pointsman data generate --benchmark {benchmark} --model {model} --base-url ..."
