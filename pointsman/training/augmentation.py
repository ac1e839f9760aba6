"""More to learn from the same data: other forms of a question, and a signal without outcomes.

Exam questions are logged with up to ten options, while people ask with four or none. What makes
a question hard does not change with its form, so each form carries the question's outcomes.
"""

from __future__ import annotations

import gzip
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import numpy as np

from pointsman.routers.bundle import prompt_digest
from pointsman.routing import ModelPair
from pointsman.training.datasets import Outcomes

STEPS_SOURCE = "gsm8k_train"
"""GSM8K's training split: questions with worked solutions, no outcome of any model."""

STEPS_SPREAD = 0.48
"""Standard deviation given to the step signal: that of the weak model's failures on MMLU-Pro."""

_FIRST_OPTION = re.compile(r"\nA\. ")
_LATER_OPTION = re.compile(r"\n[B-Z]\. ")
_ANSWER_CUE = "\nAnswer:"


def question_alone(prompt: str) -> str | None:
    """Return a multiple-choice question without its options, None for any other text."""
    match = _FIRST_OPTION.search(prompt)
    return prompt[: match.start()] if match and _ANSWER_CUE in prompt else None


def with_four_options(prompt: str) -> str | None:
    """Return a multiple-choice question with four of its options, None if it has no more.

    Which four is a function of the text; the right one may be missing, for nobody answers it.
    """
    question = question_alone(prompt)
    if question is None:
        return None
    body = prompt[len(question) + len("\nA. ") :].rsplit(_ANSWER_CUE, 1)[0]
    options = _LATER_OPTION.split(body)
    if len(options) <= 4:
        return None
    ranked = sorted(range(len(options)), key=lambda number: prompt_digest(f"{number} {prompt}"))
    chosen = [options[number] for number in sorted(ranked[:4])]
    lines = [f"\n{letter}. {text}" for letter, text in zip("ABCD", chosen, strict=True)]
    return question + "".join(lines) + _ANSWER_CUE


FORMS: tuple[tuple[str, Callable[[str], str | None]], ...] = (
    ("question alone", question_alone),
    ("four options", with_four_options),
)


def with_question_forms(outcomes: Outcomes) -> Outcomes:
    """Return the outcomes and, for each multiple-choice question, its other forms with the same.

    Each form of a source is a source of its own, so that each has its own intercept.
    """
    result = outcomes
    for name, reshape in FORMS:
        reshaped = [reshape(prompt) for prompt in outcomes.prompts]
        changed = outcomes.keep_prompts(np.asarray([text is not None for text in reshaped]))
        if changed.prompts:
            texts = tuple(text for text in reshaped if text is not None)
            result = _joined(result, changed, texts, name)
    return result


def with_solution_steps(outcomes: Outcomes, data: Path, pair: ModelPair) -> Outcomes:
    """Return the outcomes and a step signal: the more steps a solution takes, the likelier a miss.

    The number of lines of the worked solution, standardised, stands in for the weak model's
    failures; nothing of any model's answers is in it. Without the file, nothing is added.

    Args:
        outcomes: what was read.
        data: the folder that holds ``extra/``.
        pair: the models that the signal is put down to.
    """
    path = data / "extra" / f"{STEPS_SOURCE}.jsonl.gz"
    if not path.exists():
        return outcomes
    rows = [msgspec.json.decode(line) for line in gzip.decompress(path.read_bytes()).splitlines()]
    steps = np.asarray([row["answer"].count("\n") for row in rows], dtype=np.float64)
    failure = np.clip(0.5 + STEPS_SPREAD * (steps - steps.mean()) / steps.std(), 0.0, 1.0)
    count = len(rows)
    added = Outcomes(
        prompts=tuple(row["question"] for row in rows),
        roots=np.arange(count) + int(outcomes.roots.max()) + 1,
        prompt_index=np.arange(count),
        source_index=np.zeros(count, dtype=np.int64),
        sources=(STEPS_SOURCE,),
        strong_models=(pair.strong,) * count,
        weak_models=(pair.weak,) * count,
        strong_scores=np.ones(count),
        weak_scores=1.0 - failure,
    )
    return _joined(outcomes, added, added.prompts, None)


def is_form(source: str) -> bool:
    """Return whether a source's name is that of another form of its questions."""
    return any(source.endswith(f" ({name})") for name, _ in FORMS)


def protected_forms(protected: Iterator[str]) -> Iterator[str]:
    """Yield each protected prompt and, for multiple-choice ones, the question alone."""
    for prompt in protected:
        yield prompt
        alone = question_alone(prompt)
        if alone is not None:
            yield alone


def _joined(
    first: Outcomes, second: Outcomes, prompts: tuple[str, ...], form: str | None
) -> Outcomes:
    """Return both, the second with the given texts and, for a form, sources named after it."""
    sources = tuple(f"{name} ({form})" if form else name for name in second.sources)
    return Outcomes(
        prompts=first.prompts + prompts,
        roots=np.concatenate([first.roots, second.roots]),
        prompt_index=np.concatenate([first.prompt_index, second.prompt_index + len(first.prompts)]),
        source_index=np.concatenate([first.source_index, second.source_index + len(first.sources)]),
        sources=first.sources + sources,
        strong_models=first.strong_models + second.strong_models,
        weak_models=first.weak_models + second.weak_models,
        strong_scores=np.concatenate([first.strong_scores, second.strong_scores]),
        weak_scores=np.concatenate([first.weak_scores, second.weak_scores]),
    )
