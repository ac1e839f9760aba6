"""Which of MMLU's labels a protocol allows, and that the rest stays untouched."""

import csv
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pointsman.errors import ConfigError
from pointsman.training.benchmark_labels import MmluLabels


@pytest.fixture
def mmlu(tmp_path: Path) -> Path:
    """A data folder with forty MMLU questions, one of them twice, and one of GSM8K's."""
    folder = tmp_path / "benchmarks"
    models = ["mistralai/Mixtral-8x7B-Instruct-v0.1", "gpt-4-1106-preview"]

    def write(path: Path, prompts: list[str]) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("w", newline="") as stream:
            rows = csv.writer(stream)
            rows.writerow(["prompt", *models])
            rows.writerows([[prompt, str(len(prompt) % 2 == 0), "True"] for prompt in prompts])

    questions = [f"question {number}" for number in range(39)] + ["question 0"]
    write(folder / "mmlu" / "responses" / "mmlu_law.csv", questions)
    write(folder / "gsm8k" / "gsm8k_responses.csv", ["how many apples?"])
    for name in ("mmlu", "gsm8k", "mt_bench"):
        (folder / name).mkdir(exist_ok=True)
        (folder / name / "contaminated_prompts.jsonl").write_text("")
    (folder / "mt_bench" / "question.jsonl").write_text(
        '{"question_id": 1, "turns": ["write a poem", "shorter"]}'
    )
    return tmp_path


def test_none_takes_nothing_and_protects_everything(mmlu: Path) -> None:
    """The default."""
    labels = MmluLabels.parse("none")
    assert labels.drawn(mmlu) is None
    assert {"question 5", "how many apples?", "shorter"} <= set(labels.protected(mmlu))
    assert not labels.allowed_overlap


def test_a_draw_is_a_function_of_its_seed_and_the_rest_is_protected(mmlu: Path) -> None:
    """Drawn and protected questions share nothing."""
    labels = MmluLabels.parse("12:3")
    drawn = labels.drawn(mmlu)
    assert drawn is not None
    assert len(drawn.prompt_index) == 12
    assert drawn.prompts == MmluLabels.parse("12:3").drawn(mmlu).prompts
    assert drawn.prompts != MmluLabels.parse("12:4").drawn(mmlu).prompts
    protected = set(labels.protected(mmlu))
    assert not protected & set(drawn.prompts)
    assert {f"question {number}" for number in range(39)} == {
        *drawn.prompts,
        *(prompt for prompt in protected if prompt.startswith("question")),
    }
    assert not labels.allowed_overlap


def test_all_takes_all_and_protects_the_other_test_sets(mmlu: Path) -> None:
    """A question that is there twice is one prompt with two outcomes."""
    labels = MmluLabels.parse("all")
    drawn = labels.drawn(mmlu)
    assert drawn is not None
    assert len(drawn.prompts) == 39
    assert len(drawn.prompt_index) == 40
    assert set(labels.protected(mmlu)) == {"how many apples?", "write a poem", "shorter"}
    assert labels.allowed_overlap == {"mmlu", "mmlu_stem"}
    prompts = [drawn.prompts[index] for index in drawn.prompt_index]
    scores = dict(zip(prompts, drawn.weak_scores, strict=True))
    assert scores["question 5"] == 1.0
    assert scores["question 15"] == 0.0


def test_more_than_there_are_is_refused(mmlu: Path) -> None:
    """With the number there is."""
    with pytest.raises(ConfigError, match="MMLU has 40 questions"):
        MmluLabels.parse("41:0").drawn(mmlu)


@given(st.text(max_size=12))
def test_any_text_is_read_or_refused(text: str) -> None:
    """Never another error, and a refusal names the value."""
    try:
        labels = MmluLabels.parse(text)
    except ConfigError as error:
        assert "--mmlu-labels" in str(error)
    else:
        assert labels.count is None or labels.count >= 0
