"""`train bert` end to end on a tiny encoder: tuned, averaged, exported, calibrated, served."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pointsman.errors import ConfigError
from pointsman.routers.bert import ClassifierHead
from pointsman.routers.bundle import load_bundle
from pointsman.routers.registry import load_router

pytestmark = [pytest.mark.train, pytest.mark.filterwarnings("default")]


@pytest.fixture
def train(quick_settings: Any, quick_finetuning: Any) -> Any:
    """Train on the tiny data into the folder of bundles; return the bundle's folder."""
    from pointsman.training.averaging import Averaging
    from pointsman.training.bert import BertRecipe, train_bert

    def run(seeds: int = 1, alpha: float = 1.0, **changes: Any) -> Path:
        recipe = BertRecipe(
            finetune=quick_finetuning, averaging=Averaging(seeds=seeds, alpha=alpha), max_tokens=32
        )
        return train_bert(replace(quick_settings, **changes), recipe)

    return run


def test_a_trained_bundle_is_served_and_right(train, separable, tmp_path: Path) -> None:
    """From logged outcomes to a router that tells unseen hard prompts from unseen easy ones."""
    folder = train()
    assert folder == tmp_path / "bundles" / "bert"
    loaded = load_router("bert", bundles_dir=folder.parent)
    assert loaded.golden is not None
    assert loaded.golden.verdict == "ok", loaded.golden.message
    assert separable.area(loaded.router) > 0.8
    manifest = load_bundle(folder).manifest
    assert set(manifest.files) == {"encoder", "tokenizer", "head", "training_prompts"}
    assert "expected calibration error, held-out prompts" in manifest.figures
    assert not list((tmp_path / "cache" / "checkpoints").iterdir())


def test_training_twice_gives_the_same_bundle(train, tmp_path: Path) -> None:
    """Seed, data and machine decide every byte; without a cache too."""
    first = (train(out=tmp_path / "one") / "manifest.json").read_bytes()
    second = (train(out=tmp_path / "two", cache=None) / "manifest.json").read_bytes()
    assert first == second


def test_the_tuned_encoder_is_shared(train, quick_settings, tmp_path: Path) -> None:
    """`train mf` on the saved encoder names the very same graph."""
    from pointsman.training.bilinear import FitSettings
    from pointsman.training.mf import MfRecipe, train_mf

    saved = tmp_path / "tuned"
    bert = load_bundle(train(save_encoder=saved)).manifest
    settings = replace(quick_settings, encoder=saved)
    recipe = MfRecipe(fit=FitSettings(iterations=10), max_tokens=32)
    mf = load_bundle(train_mf(settings, recipe)).manifest
    assert mf.files["encoder"] == bert.files["encoder"]
    assert mf.embedder == bert.embedder
    names = [path.name for path in (tmp_path / "bundles" / "blobs").glob("*.onnx")]
    assert names == [bert.files["encoder"].name]


def test_the_head_is_saved_with_its_encoder(train, tiny_encoder: Path, tmp_path: Path) -> None:
    """`train mf` asks it what it makes of a prompt: it orders prompts as the served router does."""
    from pointsman.training.encoder import HEAD_NAME, tuned_head

    saved = tmp_path / "tuned"
    bundle = load_bundle(train(save_encoder=saved))
    served = ClassifierHead.from_bytes(bundle.read_file("head"))
    found = tuned_head(saved)
    assert found is not None
    assert np.array_equal(found.weights, served.weights)
    assert tuned_head(tiny_encoder) is None  # it was not tuned
    (saved / HEAD_NAME).write_bytes(b"cut short")
    with pytest.raises(ConfigError, match=r"head\.npz cannot be read: .* save the encoder again"):
        tuned_head(saved)


def test_a_soup_on_the_way_to_the_start_is_served_too(train, separable) -> None:
    """Two seeds' mean, a quarter of the way back."""
    folder = train(seeds=2, alpha=0.75)
    assert separable.area(load_router("bert", bundles_dir=folder.parent).router) > 0.8


def test_int8_ranks_as_float32(train, quick_settings, tmp_path: Path, separable) -> None:
    """What quantisation costs is order at most, and hardly any of it."""
    from scipy.stats import spearmanr

    from pointsman.routers.bert import BertRouter, ClassifierHead
    from pointsman.training.encoder import make_encoder, pooling_of

    bundle = load_bundle(train(save_encoder=tmp_path / "tuned"))
    encoder = make_encoder(tmp_path / "tuned", pooling_of(tmp_path / "tuned"), 32)
    assert encoder.served == bundle.read_file("encoder")
    head = ClassifierHead.from_bytes(bundle.read_file("head"))
    prompts = [*separable.easy, *separable.hard]
    served = BertRouter(encoder.embedder(), head).strong_win_rates(prompts)
    exact = BertRouter(encoder.unquantized(), head).strong_win_rates(prompts)
    assert spearmanr(served, exact).statistic > 0.95


def test_a_report_shows_the_training(train, tmp_path: Path) -> None:
    """Its curve too, and none of the prompts."""
    page = tmp_path / "report.html"
    folder = train(report=page)
    text = page.read_text()
    assert load_bundle(folder).manifest.revision in text
    assert "held out, training 1" in text
    assert "integral" not in text


def test_what_was_no_saved_encoder_is_not_overwritten(train, tmp_path: Path) -> None:
    """--save-encoder on somebody's folder removes nothing."""
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("years of work")
    with pytest.raises(ConfigError, match="was not written by --save-encoder"):
        train(save_encoder=tmp_path / "mine")
    assert (tmp_path / "mine" / "thesis.txt").exists()
    assert not (tmp_path / "bundles").exists()
