"""Figures of a router on test sets, beside their controls."""

import gzip
import json
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from pointsman.errors import ConfigError
from pointsman.evaluation.benchmarks import Benchmark
from pointsman.routing import ModelPair
from pointsman.training.datasets import CALIBRATION_SOURCES
from pointsman.training.figures import figures_on, held_out_sets

TEST = Benchmark(
    name="toy",
    prompts=tuple(f"{'hard' if number % 2 else 'easy and long'} {number}" for number in range(40)),
    pair=ModelPair(strong="s", weak="w"),
    unit="percent right",
    weak_scores=np.asarray([0.0 if number % 2 else 100.0 for number in range(40)]),
    strong_scores=np.full(40, 100.0),
)


def knows(prompts: object) -> NDArray[np.float32]:
    """Send what the weak model fails at to strong."""
    return np.asarray([float(text.startswith("hard")) for text in TEST.prompts], dtype=np.float32)


def test_every_router_stands_beside_length_and_luck() -> None:
    """With intervals; the one that knows is above chance, and length, upside down here, below."""
    figures = figures_on([TEST], {"knows": knows, "not": lambda texts: 1 - knows(texts)})
    assert list(figures) == [
        "APGR toy, knows",
        "APGR toy, not",
        "APGR toy, prompt length",
        "APGR toy, random (mean and range of draws)",
    ]
    values = {name: float(text.split(" ")[0]) for name, text in figures.items()}
    assert values["APGR toy, knows"] > 0.7
    assert values["APGR toy, not"] < 0.3
    assert values["APGR toy, prompt length"] < 0.3
    assert 0.45 < values["APGR toy, random (mean and range of draws)"] < 0.55


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A data folder with the judged chats alone."""
    row = {
        "prompt": "User: hi",
        "strong": "s",
        "weak": "w",
        "strong_score": 1.0,
        "weak_score": 0.5,
        "overlap": [],
    }
    (tmp_path / "preferences").mkdir()
    for source in CALIBRATION_SOURCES:
        path = tmp_path / "preferences" / f"{source}.jsonl.gz"
        path.write_bytes(gzip.compress(json.dumps(row).encode()))
    return tmp_path


def test_a_data_folder_need_not_hold_benchmarks(data: Path) -> None:
    """The chats are measured on all the same."""
    names = [test.name for test in held_out_sets(data)]
    assert names == [f"judged chat {source}" for source in CALIBRATION_SOURCES]


def test_a_damaged_benchmark_is_not_left_out_in_silence(data: Path) -> None:
    """Else the manifest would lack its figure, and nobody would know why."""
    folder = data / "benchmarks" / "gsm8k"
    folder.mkdir(parents=True)
    (folder / "contaminated_prompts.jsonl").write_text("")
    (folder / "gsm8k_responses.csv").write_text("prompt,unheard of\nhi,1\n")
    with pytest.raises(ConfigError, match=r"benchmark gsm8k in .* is damaged"):
        held_out_sets(data)
