"""The last step of every training: what is written, and what is refused before anything is."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pointsman.errors import ConfigError
from pointsman.routers.bundle import load_bundle
from pointsman.routers.embedding import EmbedderSettings
from pointsman.routers.manifest import DataSource, Golden, GoldenCase, TrainingPair
from pointsman.routing import ModelPair
from pointsman.training.bundling import SUFFIXES, write_bundle

CONTENTS = {role: f"content of {role}".encode() for role in SUFFIXES if "_data" not in role}


def write(out: Path, **changes: Any) -> Path:
    """Write a small bundle."""
    arguments: dict[str, Any] = {
        "kind": "bert",
        "name": "mine",
        "pair": ModelPair(strong="s", weak="w"),
        "embedder": EmbedderSettings(max_tokens=8, dimension=4),
        "contents": CONTENTS,
        "data": [DataSource(name="logs", licence="MIT", rows=3, prompts=2)],
        "seed": 7,
        "figures": {"APGR": "0.6"},
        "calibration": ("some prompts", np.array([0.1, 0.9, 0.5])),
        "golden": None,
        "out": out,
    }
    return write_bundle(**{**arguments, **changes})


def test_everything_that_is_said_is_read_again(tmp_path: Path) -> None:
    """Contents by role, pair, data, seed, figures, percentiles."""
    folder = write(tmp_path)
    assert folder == tmp_path / "mine"
    bundle = load_bundle(folder)
    assert {role: bundle.read_file(role) for role in CONTENTS} == CONTENTS
    manifest = bundle.manifest
    assert (manifest.kind, manifest.name, manifest.seed) == ("bert", "mine", 7)
    assert manifest.training_pair == TrainingPair(strong="s", weak="w")
    assert manifest.data == (DataSource(name="logs", licence="MIT", rows=3, prompts=2),)
    assert manifest.figures == {"APGR": "0.6"}
    assert manifest.calibration is not None
    assert manifest.calibration.description == "some prompts"
    assert manifest.calibration.prompts == 3
    assert bundle.quantiles[[0, 500, 1000]].tolist() == [0.1, 0.5, 0.9]
    assert {role: entry.suffix for role, entry in manifest.files.items()} == {
        role: SUFFIXES[role] for role in CONTENTS
    }


def test_calibration_and_golden_may_be_missing_or_there(tmp_path: Path) -> None:
    """An imported checkpoint has neither; neither is part of the revision."""
    golden = Golden(
        cases=(GoldenCase(prompt="hi", strong_win_rate=0.5),),
        tolerance=0.1,
        gross_difference=0.2,
        how="by hand",
    )
    bare = load_bundle(write(tmp_path / "bare", calibration=None)).manifest
    full = load_bundle(write(tmp_path / "full", golden=golden)).manifest
    assert (bare.calibration, bare.golden, full.golden) == (None, None, golden)
    assert bare.revision == full.revision


def test_tied_rates_have_ascending_quantiles(tmp_path: Path) -> None:
    """Interpolation between equal numbers may round down; the manifest would be refused."""
    rates = np.full(999, 0.1 + 0.2)
    quantiles = load_bundle(write(tmp_path, calibration=("tied", rates))).quantiles
    assert np.all(np.diff(quantiles) >= 0)


@pytest.mark.parametrize("rates", [[], [0.5, float("nan")], [1.1], [-0.1, 0.5]])
def test_no_win_rates_no_percentiles(tmp_path: Path, rates: list[float]) -> None:
    """A router that went wrong is not written."""
    with pytest.raises(ValueError, match="percentiles need win rates"):
        write(tmp_path, calibration=("some prompts", np.asarray(rates, dtype=np.float64)))
    assert not list(tmp_path.iterdir())


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    """A file stands where the folder should."""
    (tmp_path / "out").write_text("")
    with pytest.raises(ConfigError, match=r"out: .*--out"):
        write(tmp_path / "out")
