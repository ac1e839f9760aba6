"""A benchmark for a pair of which other answers were graded than those that were logged."""

import json
from pathlib import Path

import numpy as np
import pytest

from pointsman.evaluation.benchmarks import PAIR, PERCENT_RIGHT, Benchmark
from pointsman.evaluation.generated import generated_file, of_models

LOGGED = Benchmark(
    name="gsm8k",
    prompts=("one", "two"),
    pair=PAIR,
    unit=PERCENT_RIGHT,
    weak_scores=np.zeros(2),
    strong_scores=np.full(2, 100.0),
)


def graded(data: Path, model: str, **more: str) -> None:
    """Write a right answer to both prompts."""
    path = generated_file(data, LOGGED.name, model)
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = ({"prompt": prompt, "score": 1, **more} for prompt in LOGGED.prompts)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def test_the_logged_pair_needs_no_note(tmp_path: Path) -> None:
    """RouteLLM asked both alike, under whatever spelling."""
    found = of_models(LOGGED, tmp_path, strong_model=None, weak_model="mixtral-8x7b-instruct-v0.1")
    assert found is LOGGED


def test_one_protocol_needs_no_note(tmp_path: Path) -> None:
    """Two models that `data generate` asked in the same way may be compared."""
    graded(tmp_path, "big", protocol="zero-shot, temperature 0")
    graded(tmp_path, "small", protocol="zero-shot, temperature 0")
    assert of_models(LOGGED, tmp_path, strong_model="big", weak_model="small").notes == ()


@pytest.mark.parametrize(
    ("strong", "weak", "told"),
    [
        (None, "greedy", "graded as RouteLLM logged, and greedy zero-shot, temperature 0"),
        ("warm", "greedy", "warm was graded zero-shot, temperature 1, and greedy zero-shot"),
        ("own", "greedy", "own was graded nobody knows how"),
        ("own", "other", "other nobody knows how"),
    ],
)
def test_two_protocols_are_told(tmp_path: Path, strong: str | None, weak: str, told: str) -> None:
    """A gap between eight worked examples and none is no gap between models."""
    graded(tmp_path, "greedy", protocol="zero-shot, temperature 0")
    graded(tmp_path, "warm", protocol="zero-shot, temperature 1")
    graded(tmp_path, "own")
    graded(tmp_path, "other")
    [note] = of_models(LOGGED, tmp_path, strong_model=strong, weak_model=weak).notes
    assert told in note
