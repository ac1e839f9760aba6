"""Preference sets: one spelling a model, the last turn, and the mean of a prompt's outcomes."""

import gzip
import json
import logging
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pointsman.errors import ConfigError
from pointsman.evaluation.benchmarks import PERCENT_RIGHT
from pointsman.evaluation.preferences import (
    canonical_model,
    preference_benchmark,
    preference_names,
    preference_rows,
    user_turns,
)


def outcome(prompt: str, strong_score: float, weak_score: float, **fields: Any) -> dict[str, Any]:
    """One row as the data folder has it."""
    models = {"strong": "gpt-4-0314", "weak": "Mixtral-8x7B-Instruct-v0.1"}
    scores = {"strong_score": strong_score, "weak_score": weak_score}
    return {"prompt": prompt, **models, **scores, **fields}


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Judged answers and one overlap under `chat`; right and wrong ones under `exam`."""
    write(
        tmp_path,
        "chat",
        outcome("User: a\n\nAssistant: b\n\nUser: hello", 0.9, 0.5),
        outcome("hello", 0.7, 0.1, weak="claude-1"),
        outcome("bye", 0.6, 0.6, strong="openai/GPT-4-0314"),
        outcome("a test prompt", 1.0, 0.0, overlap=["mmlu"]),
    )
    write(tmp_path, "exam", outcome("1+1", 1, 1), outcome("2+2", 1, 0), outcome("2+2", 1, 1))
    return tmp_path


def write(data: Path, name: str, *rows: dict[str, Any]) -> Path:
    """Write a preference set and return its path."""
    path = data / "preferences" / f"{name}.jsonl.gz"
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(gzip.compress("\n".join(json.dumps(row) for row in rows).encode()))
    return path


@pytest.mark.parametrize(
    ("text", "turns"),
    [
        ("hello", ["hello"]),
        ("", [""]),
        ("User: a", ["a"]),
        ("User: a\n\nAssistant: b\n\nUser: c\n\nd", ["a", "c\n\nd"]),
        ("User: a\n\nAssistant: b", ["a"]),
        ("Tell me what User: means", ["Tell me what User: means"]),
    ],
)
def test_transcripts_are_cut_into_user_turns(text: str, turns: list[str]) -> None:
    """Serving scores a user's turn, so training and evaluation must see the same text."""
    assert user_turns(text) == turns


@given(st.text())
def test_every_text_has_a_last_turn(text: str) -> None:
    """No prompt of anybody's is lost or crashes a reading."""
    assert user_turns(text)
    assert user_turns("User:" + text)


@pytest.mark.parametrize(
    ("name", "canonical"),
    [
        ("Mixtral-8x7B-Instruct-v0.1", "mixtral-8x7b-instruct-v0.1"),
        ("mistralai/Mixtral-8x7B-Instruct-v0.1", "mixtral-8x7b-instruct-v0.1"),
        ("anyscale/mistralai/Mixtral-8x7B-Instruct-v0.1", "mixtral-8x7b-instruct-v0.1"),
        ("Llama-3.1-405B-Inst@hyperbolic", "llama-3.1-405b-instruct"),
        ("Meta-Llama-3-8B-Instruct", "llama-3-8b-instruct"),
        ("gpt-4o", "gpt-4o-2024-05-13"),
    ],
)
def test_one_model_has_one_name(name: str, canonical: str) -> None:
    """Spellings of one model are one model."""
    assert canonical_model(name) == canonical


def test_a_prompt_counts_once_by_the_mean_of_all_models(
    data: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Forty outcomes of a prompt are not forty prompts, and overlaps are left out aloud."""
    with caplog.at_level(logging.WARNING):
        found = preference_benchmark("chat", data)
    assert found.prompts == ("hello", "bye")
    assert found.strong_scores == pytest.approx([0.8, 0.6])
    assert found.weak_scores == pytest.approx([0.3, 0.6])
    assert (found.pair.strong, found.pair.weak) == ("gpt-4-0314", "the weak models")
    assert "1 of 4 rows" in caplog.text


def test_one_pair_is_measured_by_its_own_rows(data: Path) -> None:
    """Any spelling names the pair."""
    found = preference_benchmark(
        "chat", data, strong_model="GPT-4-0314", weak_model="anthropic/claude-1"
    )
    assert (found.prompts, found.weak_scores.tolist()) == (("hello",), [0.1])
    assert found.pair.weak == "claude-1"


def test_an_unknown_pair_lists_the_pairs_most_rows_first(data: Path) -> None:
    """One sees at once which pairs can be measured."""
    listed = "mixtral-8x7b-instruct-v0.1, gpt-4-0314 and claude-1"
    with pytest.raises(ConfigError, match=f"`x` as weak; it has: gpt-4-0314 and {listed}"):
        preference_benchmark("chat", data, weak_model="x")


def test_right_and_wrong_answers_are_percent(data: Path) -> None:
    """0 and 1 are shown as every other exam is; a prompt that comes twice has its mean."""
    found = preference_benchmark("exam", data)
    assert found.unit == PERCENT_RIGHT
    assert found.weak_scores.tolist() == [100.0, 50.0]


def test_a_set_of_nothing_but_overlaps_is_an_error(tmp_path: Path) -> None:
    """A benchmark without prompts has no figure."""
    write(tmp_path, "copies", outcome("x", 1, 0, overlap=["gsm8k"]))
    with pytest.raises(ConfigError, match="copies has no rows"):
        preference_benchmark("copies", tmp_path)


def test_sets_are_named_by_their_files(data: Path) -> None:
    """No folder is no set."""
    assert preference_names(data) == ["chat", "exam"]
    assert preference_names(data / "absent") == []


def test_a_bad_row_is_named_by_file_and_line(data: Path) -> None:
    """Whoever made the file can open it at the right place."""
    path = write(data, "bad", outcome("fine", 1, 0), {"prompt": 1})
    with pytest.raises(ConfigError, match=r"bad\.jsonl\.gz, line 2"):
        list(preference_rows(data, "bad"))
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(ConfigError, match="cannot be read"):
        list(preference_rows(data, "bad"))
    with pytest.raises(ConfigError, match="--data"):
        list(preference_rows(data, "absent"))
