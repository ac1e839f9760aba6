"""RouteLLM's three test sets → prompts and both models' qualities, decontaminated as it does.

The files are those of lm-sys/RouteLLM at 0b64fda; the data folder is always handed in, for the
repository holds no row of it.
"""

from __future__ import annotations

import csv
import io
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from pointsman.errors import ConfigError
from pointsman.routing import ModelPair

_CONTAMINATED = "contaminated_prompts.jsonl"
PERCENT_RIGHT = "percent right"
JUDGES_SCORE = "judge's score, 1 to 10"

PAIR = ModelPair(strong="gpt-4-1106-preview", weak="mistralai/Mixtral-8x7B-Instruct-v0.1")
"""The pair whose answers were graded, as the files spell it."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Benchmark:
    """Prompts as the models got them and how well each model did on them."""

    name: str
    prompts: tuple[str, ...]
    """n texts: what a router is asked to score."""

    pair: ModelPair
    """Whose answers were graded."""

    unit: str
    """What a score is, in words: ``percent right``, ``judge's score, 1 to 10``."""

    weak_scores: NDArray[np.float64]
    """float64[n]: 0 or 100 where answers are right or wrong, else the grade."""

    strong_scores: NDArray[np.float64]
    """float64[n], in the same unit."""

    weak_costs: NDArray[np.float64] | None = None
    """float64[n] dollars that each answer cost; None where nobody knows."""

    strong_costs: NDArray[np.float64] | None = None
    """float64[n] dollars; None where nobody knows."""

    notes: tuple[str, ...] = ()
    """What a reader should know before believing a figure on it."""

    def __post_init__(self) -> None:
        """Refuse columns that do not belong together.

        Raises:
            ValueError: there is no prompt, or a column has another length or is not finite.
        """
        if not self.prompts:
            raise ValueError("a benchmark must have prompts")
        for name in ("weak_scores", "strong_scores", "weak_costs", "strong_costs"):
            column = getattr(self, name)
            if column is None and name.endswith("_costs"):
                continue
            if np.shape(column) != (len(self.prompts),) or not np.isfinite(column).all():
                raise ValueError(f"{name} must be {len(self.prompts)} finite numbers, one a prompt")


def load_benchmark(name: str, data: Path) -> Benchmark:
    """Return one decontaminated test set.

    Args:
        name: one of `BENCHMARKS`.
        data: the folder that holds ``benchmarks/``.

    Raises:
        ConfigError: no such benchmark, or its files are not under ``data`` or damaged.
    """
    if name not in _LOADERS:
        raise ConfigError(f"no benchmark is called {name!r}; there are: {', '.join(BENCHMARKS)}")
    with _reading(f"benchmark {name}", data):
        return _LOADERS[name](data / "benchmarks" / name.replace("-", "_"))


def in_natural_unit(scores: NDArray[np.float64]) -> tuple[float, str]:
    """Return what to multiply scores of an unnamed unit with, and that unit in words.

    0 and 1 alone are wrong and right answers, which are shown in percent.
    """
    if np.isin(scores, (0.0, 1.0)).all():
        return 100.0, PERCENT_RIGHT
    if ((scores >= 0.0) & (scores <= 1.0)).all():
        return 1.0, "score, 0 to 1"
    return 1.0, "score"


def protected_prompts(data: Path) -> Iterator[str]:
    """Yield every test prompt and its known copies: what no honest router has trained on.

    Contaminated questions, the training prompts they came from, and MT-Bench's second turns are
    included.

    Raises:
        ConfigError: a file is not under ``data`` or damaged: with fewer test prompts than there
            are, training could not know what to leave out.
    """
    folder = data / "benchmarks"
    with _reading("a test set", data):
        for path in _mmlu_paths(folder / "mmlu"):
            yield from (row["prompt"] for row in _csv_rows(path))
        yield from (row["prompt"] for row in _csv_rows(folder / "gsm8k" / "gsm8k_responses.csv"))
        for question in _json_lines(folder / "mt_bench" / "question.jsonl"):
            yield from question["turns"]
        for name in BENCHMARKS:
            for row in _json_lines(folder / name.replace("-", "_") / _CONTAMINATED):
                yield row["train_prompt"]
                yield row["eval_prompt"]


@contextmanager
def _reading(what: str, data: Path) -> Iterator[None]:
    """Say what is to be done about files under ``data`` that are missing or damaged."""
    try:
        yield
    except OSError as error:
        raise ConfigError(
            f"{what} is not there: {error.strerror or error}: {error.filename or data}; "
            "get it with `pointsman data fetch`, or name the folder that holds benchmarks/ with "
            "--data or POINTSMAN_DATA"
        ) from error
    except (KeyError, TypeError, ValueError, csv.Error) as error:
        raise ConfigError(
            f"{what} in {data / 'benchmarks'} is damaged: {type(error).__name__}: "
            f"{error}; get it again with `pointsman data fetch`"
        ) from error


def _mmlu(folder: Path) -> Benchmark:
    rows = [row for path in _mmlu_paths(folder) for row in _csv_rows(path)]
    return _graded("mmlu", rows, folder)


def _mmlu_paths(folder: Path) -> list[Path]:
    """Return a file for each subject, at least one."""
    paths = sorted((folder / "responses").glob("mmlu_*.csv"))
    if not paths:
        raise FileNotFoundError(None, "no mmlu_*.csv there", str(folder / "responses"))
    return paths


def _gsm8k(folder: Path) -> Benchmark:
    return _graded("gsm8k", list(_csv_rows(folder / "gsm8k_responses.csv")), folder)


def _graded(name: str, rows: list[dict[str, str]], folder: Path) -> Benchmark:
    """Return a benchmark whose answers are right or wrong."""
    contaminated = _contaminated(folder)
    kept = [row for row in rows if row["prompt"] not in contaminated]
    return Benchmark(
        name=name,
        pair=PAIR,
        unit=PERCENT_RIGHT,
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
        name="mt-bench",
        pair=PAIR,
        unit=JUDGES_SCORE,
        prompts=tuple(questions.values()),
        weak_scores=np.asarray([mean[PAIR.weak, number] for number in questions]),
        strong_scores=np.asarray([mean[PAIR.strong, number] for number in questions]),
    )


def _contaminated(folder: Path) -> set[str]:
    return {row["eval_prompt"] for row in _json_lines(folder / _CONTAMINATED)}


def _json_lines(path: Path) -> Iterator[dict[str, Any]]:
    for line in path.read_bytes().splitlines():
        if line.strip():
            yield msgspec.json.decode(line)


def _csv_rows(path: Path) -> Iterator[dict[str, str]]:
    yield from csv.DictReader(io.StringIO(path.read_text(encoding="utf-8"), newline=""))


_LOADERS: Mapping[str, Callable[[Path], Benchmark]] = {
    "mmlu": _mmlu,
    "gsm8k": _gsm8k,
    "mt-bench": _mt_bench,
}
BENCHMARKS: tuple[str, ...] = tuple(_LOADERS)
"""The names `load_benchmark` knows."""
