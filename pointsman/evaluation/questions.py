"""A benchmark's prompts → what a model is asked, and the answers that are right.

The prompts are those that evaluation scores, so that graded answers find their rows again. The
protocol is zero-shot: RouteLLM's logged answers had 8 worked examples (GSM8K) or 5 (MMLU), so only
models that were asked in the same way can be compared.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path

import msgspec

from pointsman.errors import ConfigError
from pointsman.evaluation.benchmarks import load_benchmark
from pointsman.evaluation.grading import final_letter, final_number
from pointsman.evaluation.originals import mmlu_subjects, read_key
from pointsman.rows import read_rows

_LETTERS = "ABCD"
# What pandas, through which RouteLLM read MMLU, takes for a missing value and writes as "nan".
_MISSING = frozenset(
    {"", "#N/A", "#N/A N/A", "#NA", "-1.#IND", "-1.#QNAN", "-NaN", "-nan", "1.#IND", "1.#QNAN"}
    | {"<NA>", "N/A", "NA", "NULL", "NaN", "None", "n/a", "nan", "null"}
)
_GSM8K_REQUEST = (
    "{prompt}\n\nWork it out step by step. End with a line of the form `#### number` that holds "
    "nothing but the final number."
)
_MMLU_REQUEST = (
    "This is a multiple-choice question. Reply with the letter of the right option (A, B, C or D) "
    "and nothing else.\n\n{prompt}"
)


@dataclass(frozen=True, kw_only=True)
class Question:
    """One prompt of a benchmark, what is said to the model, and what is right."""

    prompt: str
    """As evaluation scores it: the row's key."""
    turns: tuple[str, ...]
    """What the user says, one text a turn."""
    right: tuple[Decimal | str, ...] = ()
    """The right answer of an exam; several where the prompt comes several times, with other keys
    each; none where a judge grades."""
    references: tuple[str, ...] = ()
    """For the judge, one a turn; none where tastes differ."""

    def grade(self, answer: str) -> tuple[float | None, str | None]:
        """Returns the share of the keys that the answer meets, 0 to 1, and what was read in it.

        (None, None) if the answer holds no number or no letter.
        """
        numeric = isinstance(self.right[0], Decimal)
        read = final_number(answer) if numeric else final_letter(answer)
        if read is None:
            return None, None
        return sum(read == key for key in self.right) / len(self.right), str(read)


def load_questions(benchmark: str, data: Path) -> list[Question]:
    """Returns a benchmark's decontaminated questions, each prompt once, shuffled.

    The order is the same every time, so the first n of them are a fair sample and part of the
    first n + 1.

    Args:
        benchmark: `gsm8k`, `mmlu` or `mt-bench`.
        data: The data folder.

    Raises:
        ConfigError: The benchmark or its right answers are not there, or do not belong together.
    """
    prompts = dict.fromkeys(load_benchmark(benchmark, data).prompts)
    folder = data / "benchmarks" / benchmark.replace("-", "_")
    known = _READERS[benchmark](folder)
    if lacking := [prompt for prompt in prompts if prompt not in known]:
        raise ConfigError(
            f"{folder}: {len(lacking)} of {len(prompts)} prompts of {benchmark} have no right "
            f"answer, the first begins {lacking[0][:60]!r}; remove the folder and run `pointsman "
            "data fetch` again"
        )
    return sorted((known[prompt] for prompt in prompts), key=_place)


def _place(question: Question) -> bytes:
    return hashlib.sha256(question.prompt.encode("utf-8", "surrogatepass")).digest()


def _gsm8k(folder: Path) -> dict[str, Question]:
    path = folder / "test.jsonl"
    _require(path, "gsm8k")
    found = {}
    for row in read_rows(str(path)):
        prompt, solution = row.text("question"), row.text("answer")
        marked = solution.rpartition("####")[2] if "####" in solution else ""
        key = final_number(marked)
        if key is None:
            raise ConfigError(f"{row.place}: the answer does not end in `#### number`")
        request = _GSM8K_REQUEST.format_map({"prompt": prompt})
        found[prompt] = Question(prompt=prompt, turns=(request,), right=(key,))
    return found


def _mmlu(folder: Path) -> dict[str, Question]:
    """Returns MMLU's questions by the prompts that were logged: row i of both files is one."""
    keys: defaultdict[str, list[str]] = defaultdict(list)
    for subject in mmlu_subjects():
        prompts = [
            row.text("prompt")
            for row in read_rows(str(folder / "responses" / f"mmlu_{subject}.csv"))
        ]
        path = folder / "test" / f"{subject}_test.csv"
        rows = read_key(path)
        if len(rows) != len(prompts):
            raise ConfigError(f"{path}: {len(rows)} rows for {len(prompts)} prompts; {_AGAIN}")
        for number, (prompt, row) in enumerate(zip(prompts, rows, strict=True), start=1):
            if not _is_same(prompt, row):
                raise ConfigError(
                    f"{path}, row {number}: not the question {prompt[:60]!r} of the logged "
                    f"answers; {_AGAIN}"
                )
            keys[prompt].append(row[5])
    return {
        prompt: Question(
            prompt=prompt,
            turns=(_MMLU_REQUEST.format_map({"prompt": prompt}),),
            right=tuple(letters),
        )
        for prompt, letters in keys.items()
    }


_AGAIN = "remove the folder test and run `pointsman data fetch --only mmlu_key` again"


def _is_same(prompt: str, row: list[str]) -> bool:
    """Returns whether the prompt was made from the row, numbers and missing values as pandas has.

    RouteLLM put the question, `A. ` to `D. ` with the options, and `Answer:` on lines of their own.
    """
    rest = _lines(prompt)
    question = _lines(row[0])
    if not rest.startswith(question) or not rest.endswith("\nAnswer:"):
        return False
    rest = rest[len(question) :].removesuffix("\nAnswer:")
    for letter, option, after in zip(_LETTERS, row[1:5], (*_LETTERS[1:], ""), strict=True):
        mark = f"\n{letter}. "
        if not rest.startswith(mark):
            return False
        rest = rest.removeprefix(mark)
        exact = _lines(option)
        end = f"\n{after}. "
        if rest == exact or (after and rest.startswith(exact + end)):
            rest = rest[len(exact) :]
            continue
        shown = rest.partition(end)[0] if after else rest
        if not _reads_alike(shown, option):
            return False
        rest = rest[len(shown) :]
    return not rest


def _reads_alike(shown: str, cell: str) -> bool:
    if shown == "nan":
        return cell.strip() in _MISSING
    try:
        return float(shown) == float(cell)
    except ValueError:
        return shown.strip() == cell.strip()


def _lines(text: str) -> str:
    return text.replace("\r\n", "\n").replace("\r", "\n")


def _mt_bench(folder: Path) -> dict[str, Question]:
    path = folder / "question.jsonl"
    _require(path, "mt-bench")
    found = {}
    for number, line in enumerate(path.read_bytes().splitlines(), start=1):
        try:
            row = msgspec.json.decode(line, type=_MtBenchRow)
        except ValueError as error:
            raise ConfigError(f"{path}, line {number}: {error}") from error
        turns = tuple(row.turns)
        found[turns[0]] = Question(
            prompt=turns[0],
            turns=turns,
            references=tuple(row.reference) if len(row.reference) == len(turns) else (),
        )
    return found


class _MtBenchRow(msgspec.Struct):
    turns: list[str]
    reference: list[str] = []


def _require(path: Path, name: str) -> None:
    if not path.is_file():
        raise ConfigError(f"{path} is not there; `pointsman data fetch --only {name}` gets it")


_READERS: Mapping[str, Callable[[Path], dict[str, Question]]] = {
    "gsm8k": _gsm8k,
    "mmlu": _mmlu,
    "mt-bench": _mt_bench,
}
