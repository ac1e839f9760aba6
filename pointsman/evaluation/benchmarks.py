"""RouteLLM's three test sets → prompts and both models' qualities, decontaminated as it does.

The files are those of lm-sys/RouteLLM at 0b64fda; the data folder is always handed in, for the
repository holds no row of it.
"""

from __future__ import annotations

import csv
import io
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from pointsman.errors import ConfigError
from pointsman.routing import ModelPair

PAIR = ModelPair(strong="gpt-4-1106-preview", weak="mistralai/Mixtral-8x7B-Instruct-v0.1")
"""The pair whose answers were graded, as the files spell it."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Benchmark:
    """Prompts as the models got them and how well each model did on them."""

    name: str
    prompts: tuple[str, ...]
    """n texts: what a router is asked to score."""

    weak_scores: NDArray[np.float64]
    """float64[n]: percent right (0 or 100), for MT-Bench the judge's 1 to 10, mean of the turns."""

    strong_scores: NDArray[np.float64]
    """float64[n], in the same unit."""


def load_benchmark(name: str, data: Path) -> Benchmark:
    """Return one decontaminated test set.

    Args:
        name: ``mmlu``, ``gsm8k`` or ``mt_bench``.
        data: the folder that holds ``benchmarks/``.

    Raises:
        ConfigError: no such benchmark, or its files are not under ``data``.
    """
    if name not in _LOADERS:
        raise ConfigError(f"no benchmark is called {name!r}; there are: {', '.join(BENCHMARKS)}")
    try:
        return _LOADERS[name](data / "benchmarks" / name)
    except OSError as error:
        raise ConfigError(
            f"benchmark {name!r} cannot be read: {error}; --data must name the folder that holds "
            "benchmarks/"
        ) from error


def protected_prompts(data: Path) -> Iterator[str]:
    """Yield every test prompt and its known copies: what no honest router has trained on.

    Contaminated questions, the training prompts they came from, and MT-Bench's second turns are
    included.
    """
    folder = data / "benchmarks"
    for path in sorted((folder / "mmlu" / "responses").glob("*.csv")):
        yield from (row["prompt"] for row in _csv_rows(path))
    yield from (row["prompt"] for row in _csv_rows(folder / "gsm8k" / "gsm8k_responses.csv"))
    for question in _json_lines(folder / "mt_bench" / "question.jsonl"):
        yield from question["turns"]
    for path in sorted(folder.glob("*/contaminated_prompts.jsonl")):
        for row in _json_lines(path):
            yield row["train_prompt"]
            yield row["eval_prompt"]


def _mmlu(folder: Path) -> Benchmark:
    paths = sorted((folder / "responses").glob("mmlu_*.csv"))
    if not paths:
        raise FileNotFoundError(f"no mmlu_*.csv in {folder / 'responses'}")
    return _graded("mmlu", [row for path in paths for row in _csv_rows(path)], folder)


def _gsm8k(folder: Path) -> Benchmark:
    return _graded("gsm8k", list(_csv_rows(folder / "gsm8k_responses.csv")), folder)


def _graded(name: str, rows: list[dict[str, str]], folder: Path) -> Benchmark:
    """Return a benchmark whose answers are right or wrong."""
    contaminated = _contaminated(folder)
    kept = [row for row in rows if row["prompt"] not in contaminated]
    return Benchmark(
        name=name,
        prompts=tuple(row["prompt"] for row in kept),
        weak_scores=np.asarray([100.0 * (row[PAIR.weak] == "True") for row in kept]),
        strong_scores=np.asarray([100.0 * (row[PAIR.strong] == "True") for row in kept]),
    )


def _mt_bench(folder: Path) -> Benchmark:
    """Return MT-Bench: routed on the first turn, graded on both."""
    contaminated = _contaminated(folder)
    questions = {
        question["question_id"]: question["turns"][0]
        for question in _json_lines(folder / "question.jsonl")
        if question["turns"][0] not in contaminated
    }
    scores: defaultdict[tuple[str, int], list[float]] = defaultdict(list)
    for judgement in _json_lines(folder / "judgements.jsonl"):
        scores[judgement["model"], judgement["question_id"]].append(judgement["score"])
    mean = {key: float(np.mean(values)) for key, values in scores.items()}
    return Benchmark(
        name="mt_bench",
        prompts=tuple(questions.values()),
        weak_scores=np.asarray([mean[PAIR.weak, number] for number in questions]),
        strong_scores=np.asarray([mean[PAIR.strong, number] for number in questions]),
    )


def _contaminated(folder: Path) -> set[str]:
    return {row["eval_prompt"] for row in _json_lines(folder / "contaminated_prompts.jsonl")}


def _json_lines(path: Path) -> Iterator[dict[str, Any]]:
    for line in path.read_bytes().splitlines():
        if line.strip():
            yield msgspec.json.decode(line)


def _csv_rows(path: Path) -> Iterator[dict[str, str]]:
    yield from csv.DictReader(io.StringIO(path.read_text(encoding="utf-8"), newline=""))


_LOADERS: Mapping[str, Callable[[Path], Benchmark]] = {
    "mmlu": _mmlu,
    "gsm8k": _gsm8k,
    "mt_bench": _mt_bench,
}
BENCHMARKS: tuple[str, ...] = tuple(_LOADERS)
"""The names `load_benchmark` knows."""
