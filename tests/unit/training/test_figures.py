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
from pointsman.training.figures import figures_on, held_out_sets, twin_figures

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


def twin(folder: Path, rows: int, figure: str | None) -> Path:
    """Writes the manifest of a twin, and nothing that it names."""
    from pointsman.routers.embedding import EmbedderSettings
    from pointsman.routers.manifest import DataSource
    from pointsman.training.bundling import write_bundle

    data = [DataSource(name="mmlu", licence="MIT", rows=rows, prompts=rows)] if rows else []
    return write_bundle(
        kind="mf",
        name=folder.name,
        pair=ModelPair(strong="s", weak="w"),
        embedder=EmbedderSettings(max_tokens=8, dimension=2),
        contents={"weights": b""},
        data=data,
        seed=0,
        figures={"APGR mmlu, mf": figure} if figure else {},
        calibration=None,
        golden=None,
        out=folder.parent,
    )


def test_twins_speak_for_a_router_that_saw_all_labels(tmp_path: Path) -> None:
    """Those with as many labels are averaged, intervals too."""
    twins = [
        twin(tmp_path / "none", 0, "0.590 (0.570-0.610)"),
        twin(tmp_path / "draw0", 1500, "0.650 (0.630-0.670)"),
        twin(tmp_path / "draw1", 1452, "0.660 (0.640-0.680)"),
    ]
    name = "APGR mmlu, mf twin trained on"
    assert twin_figures("mf", twins) == {
        f"{name} none of its labels": "0.590 (0.570-0.610)",
        f"{name} about 1500 of its labels, mean of 2 draws": "0.655 (0.635-0.675)",
    }


def test_a_twin_without_a_figure_is_refused(tmp_path: Path) -> None:
    """It was trained on all labels itself, or is another kind of router."""
    with pytest.raises(ConfigError, match="no figure on MMLU for mf"):
        twin_figures("mf", [twin(tmp_path / "all", 14037, None)])
