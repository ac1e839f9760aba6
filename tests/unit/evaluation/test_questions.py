"""Questions carry the prompts that evaluation scores, and the answers that are right."""

import csv
import io
import json
import re
from decimal import Decimal
from pathlib import Path

import pandas
import pytest

from pointsman.errors import ConfigError
from pointsman.evaluation.benchmarks import load_benchmark
from pointsman.evaluation.originals import mmlu_subjects
from pointsman.evaluation.questions import Question, load_questions

HEADER = "prompt,mistralai/Mixtral-8x7B-Instruct-v0.1,gpt-4-1106-preview\n"


def gsm8k(data: Path, solutions: dict[str, str], *, logged: list[str] | None = None) -> Path:
    """A GSM8K of one's own."""
    folder = data / "benchmarks" / "gsm8k"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "contaminated_prompts.jsonl").write_text("")
    text = io.StringIO(newline="")
    rows = csv.writer(text)
    rows.writerows([prompt, "True", "False"] for prompt in logged or solutions)
    (folder / "gsm8k_responses.csv").write_text(HEADER + text.getvalue())
    lines = [json.dumps({"question": q, "answer": a}) for q, a in solutions.items()]
    (folder / "test.jsonl").write_text("\n".join(lines) + "\n")
    return data


def mmlu(data: Path, rows: list[list[str]]) -> Path:
    """MMLU with these rows in its first subject and one in every other, logged by pandas."""
    folder = data / "benchmarks" / "mmlu"
    (folder / "responses").mkdir(parents=True)
    (folder / "test").mkdir()
    (folder / "contaminated_prompts.jsonl").write_text("")
    for number, subject in enumerate(mmlu_subjects()):
        own = [[f"What is {subject}?", "w", "x", "y", "z", "D"]] if number else rows
        path = folder / "test" / f"{subject}_test.csv"
        with path.open("w", newline="") as stream:
            csv.writer(stream).writerows(own)
        # as RouteLLM's generate_responses.py makes its prompts
        frame = pandas.read_csv(path, header=None)
        prompts = [
            "".join([str(row[0]), *(f"\n{k}. {v}" for k, v in zip("ABCD", row[1:5], strict=True))])
            + "\nAnswer:"
            for row in frame.itertuples(index=False)
        ]
        pandas.DataFrame(
            {
                "prompt": prompts,
                "mistralai/Mixtral-8x7B-Instruct-v0.1": True,
                "gpt-4-1106-preview": True,
            }
        ).to_csv(folder / "responses" / f"mmlu_{subject}.csv", index=False)
    return data


def test_gsm8k_asks_for_the_number_and_knows_it(tmp_path: Path) -> None:
    """The prompt stays as it is scored; the instruction is for the model alone."""
    solution = "2 * 600 = <<2*600=1200>>1,200\n#### 1,200"
    (question,) = load_questions("gsm8k", gsm8k(tmp_path, {"How much?": solution}))
    assert question.prompt == "How much?"
    assert question.turns[0].startswith("How much?\n")
    assert "####" in question.turns[0]
    assert question.right == (Decimal(1200),)
    assert question.grade("So #### $1200.00") == (1.0, "1200.00")
    assert question.grade("#### 1201") == (0.0, "1201")
    assert question.grade("who knows") == (None, None)


def test_braces_in_a_prompt_are_text(tmp_path: Path) -> None:
    """A prompt is never a template."""
    (question,) = load_questions("gsm8k", gsm8k(tmp_path, {"{prompt} {0} {": "#### 1"}))
    assert question.turns[0].startswith("{prompt} {0} {\n")


@pytest.mark.parametrize("solution", ["42", "#### none", "42 ####"])
def test_a_key_without_number_is_named(tmp_path: Path, solution: str) -> None:
    """By file and line."""
    with pytest.raises(ConfigError, match=r"test\.jsonl, line 1.*#### number"):
        load_questions("gsm8k", gsm8k(tmp_path, {"Q?": solution}))


def test_a_prompt_without_key_is_named(tmp_path: Path) -> None:
    """Another edition of the answers is not taken for this one."""
    data = gsm8k(tmp_path, {"Q?": "#### 1"}, logged=["Q?", "Another?"])
    with pytest.raises(ConfigError, match=r"1 of 2 prompts of gsm8k.*Another"):
        load_questions("gsm8k", data)


@pytest.mark.parametrize("benchmark", ["gsm8k", "mmlu", "mt-bench"])
def test_missing_files_name_the_remedy(tmp_path: Path, benchmark: str) -> None:
    """Nobody has to know where the files come from."""
    with pytest.raises(ConfigError, match="data"):
        load_questions(benchmark, tmp_path)


def test_missing_answers_name_the_command(tmp_path: Path) -> None:
    """GSM8K's logged outcomes may be there without its answers."""
    data = gsm8k(tmp_path, {"Q?": "#### 1"})
    (data / "benchmarks/gsm8k/test.jsonl").unlink()
    with pytest.raises(ConfigError, match="pointsman data fetch --only gsm8k"):
        load_questions("gsm8k", data)


MMLU_ROWS = [
    ['Which "one", then?', "first", "second", "None", "N/A", "C"],
    ["Two\nlines?", "1.50", "2", "1e3", ".5", "A"],
    ["A. B. C.\nA. trap?", "x\nB. trap", "y", "z", "w\nAnswer:", "B"],
    ["Spaces? ", " left", "right ", "", "0", "D"],
]


def test_mmlus_prompts_meet_their_keys(tmp_path: Path) -> None:
    """Though pandas wrote `None` as nan, and numbers in its own way."""
    questions = load_questions("mmlu", mmlu(tmp_path, MMLU_ROWS))
    assert len(questions) == len(MMLU_ROWS) + 56
    keys = {question.prompt: question.right for question in questions}
    assert [keys[p] for p in keys if p.startswith("Which")] == [("C",)]
    assert [keys[p] for p in keys if p.startswith("A. B.")] == [("B",)]
    (which,) = (question for question in questions if question.prompt.startswith("Which"))
    assert "C. nan" in which.prompt
    assert which.prompt in which.turns[0]
    assert which.grade("(C) None") == (1.0, "C")
    assert which.grade("A") == (0.0, "A")


def test_mmlus_all_numeric_columns_meet_their_keys(tmp_path: Path) -> None:
    """Where pandas makes a column of numbers, 2 becomes 2.0 beside 1.5."""
    rows = [["a?", "1.50", "1", "007", "1", "A"], ["b?", "2", "None", "8", "1.0", "B"]]
    questions = load_questions("mmlu", mmlu(tmp_path, rows))
    assert {q.prompt[0]: q.right for q in questions if q.prompt[1] == "?"} == {
        "a": ("A",),
        "b": ("B",),
    }


def test_a_prompt_with_two_keys_counts_half(tmp_path: Path) -> None:
    """MMLU has a few questions twice, and not always with one key."""
    row = ["Twice?", "a", "b", "c", "d"]
    questions = load_questions("mmlu", mmlu(tmp_path, [[*row, "A"], [*row, "B"]]))
    (question,) = (question for question in questions if question.prompt.startswith("Twice"))
    assert question.right == ("A", "B")
    assert question.grade("A") == (0.5, "A")


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ("Another?,w,x,y,z,D\n", "row 1: not the question"),
        ("What is virology?,w,x,y,Z,D\n", "row 1: not the question"),
        ("What is virology?,w,x,y,z,D\n" * 2, "2 rows for 1 prompts"),
        ("What is virology?,w,x,y,z,E\n", "right letter"),
        ("What is virology?,D\n", "2 cells"),
    ],
)
def test_other_keys_are_refused(tmp_path: Path, changed: str, told: str) -> None:
    """Grading by the key of another question would look like a weak model."""
    data = mmlu(tmp_path, MMLU_ROWS)
    (data / "benchmarks/mmlu/test/virology_test.csv").write_text(changed)
    with pytest.raises(ConfigError, match=told):
        load_questions("mmlu", data)


def test_the_order_is_fair_and_stays(tmp_path: Path) -> None:
    """The first n questions are drawn from all subjects, and a larger n only adds to them."""
    data = mmlu(tmp_path, MMLU_ROWS)
    prompts = [question.prompt for question in load_questions("mmlu", data)]
    assert prompts == [question.prompt for question in load_questions("mmlu", data)]
    assert prompts != sorted(prompts)
    assert sum(prompt.startswith("What is a") for prompt in prompts[:20]) < 4


@pytest.mark.parametrize("benchmark", ["mt-bench"])
def test_real_questions_are_the_benchmarks(data_folder: Path, benchmark: str) -> None:
    """Every prompt that is measured on has a question, with two turns."""
    questions = load_questions(benchmark, data_folder)
    assert {q.prompt for q in questions} == set(load_benchmark(benchmark, data_folder).prompts)
    assert all(len(question.turns) == 2 for question in questions)
    assert {len(question.references) for question in questions} == {0, 2}
    assert all(question.turns[0] == question.prompt for question in questions)


def test_real_mmlu_prompts_read_back_their_rows(data_folder: Path, tmp_path: Path) -> None:
    """All 14,042 logged prompts are told apart from the rows they were made of."""
    layout = re.compile(r"(.*?)\nA\. (.*?)\nB\. (.*?)\nC\. (.*?)\nD\. (.*)\nAnswer:", re.DOTALL)
    source = data_folder / "benchmarks" / "mmlu"
    folder = tmp_path / "benchmarks" / "mmlu"
    (folder / "test").mkdir(parents=True)
    (folder / "responses").symlink_to(source / "responses")
    (folder / "contaminated_prompts.jsonl").symlink_to(source / "contaminated_prompts.jsonl")
    for subject in mmlu_subjects():
        with (source / "responses" / f"mmlu_{subject}.csv").open(newline="") as stream:
            prompts = [row["prompt"] for row in csv.DictReader(stream)]
        with (folder / "test" / f"{subject}_test.csv").open("w", newline="") as stream:
            for prompt in prompts:
                found = layout.fullmatch(prompt)
                assert found is not None
                cells = ["None" if cell == "nan" else cell for cell in found.groups()]
                csv.writer(stream).writerow([*cells, "A"])
    questions = load_questions("mmlu", tmp_path)
    assert len(questions) == len(set(load_benchmark("mmlu", data_folder).prompts))


def test_an_exam_answer_is_graded_by_its_kind() -> None:
    """A number among letters is none."""
    assert Question(prompt="?", turns=("?",), right=("B",)).grade("42") == (None, None)
