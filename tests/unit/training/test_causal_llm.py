"""`train causal_llm` end to end: a tiny encoder becomes a decoder that rates before it writes."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pointsman.errors import ConfigError
from pointsman.routers.bundle import load_bundle
from pointsman.routers.registry import load_router

pytestmark = [pytest.mark.train, pytest.mark.filterwarnings("default")]


@pytest.fixture
def train(quick_settings: Any, quick_finetuning: Any) -> Any:
    """Train on the tiny data into the folder of bundles; return the bundle's folder."""
    from pointsman.training.causal_llm import CausalRecipe, train_causal_llm

    def run(**changes: Any) -> Path:
        recipe = CausalRecipe(finetune=quick_finetuning, max_tokens=40, first_token_weight=0.5)
        return train_causal_llm(replace(quick_settings, **changes), recipe)

    return run


def test_a_trained_bundle_is_served_and_right(train, separable) -> None:
    """From logged outcomes to a decoder that tells unseen hard prompts from unseen easy ones."""
    folder = train()
    loaded = load_router("causal_llm", bundles_dir=folder.parent)
    assert loaded.golden is not None
    assert loaded.golden.verdict == "ok", loaded.golden.message
    assert separable.area(loaded.router) > 0.8
    manifest = load_bundle(folder).manifest
    assert set(manifest.files) == {"decoder", "tokenizer", "format", "training_prompts"}


def test_what_is_cut_off_was_never_said(train, separable, monkeypatch, tmp_path: Path) -> None:
    """Of the whole vocabulary a label comes first, so win rates are as good without the rest."""
    from onnxruntime import InferenceSession

    from pointsman.routers.causal_llm import PromptFormat, PromptTokens
    from pointsman.training import causal_llm

    prompts = [*separable.easy, *separable.hard]
    served = train(out=tmp_path / "served")
    monkeypatch.setattr(causal_llm, "export_causal_bert", causal_llm.export_causal)
    whole = train(out=tmp_path / "whole")
    bundle = load_bundle(whole)
    session = InferenceSession(bundle.read_file("decoder"))
    tokens = PromptTokens(
        bundle.read_file("tokenizer"), PromptFormat.from_bytes(bundle.read_file("format"))
    )
    for prompt in prompts:
        ids = np.asarray([tokens.ids(prompt)])
        labels, other, _ = session.run(
            ["label_logits", "other_logit", "other_token"],
            {"input_ids": ids, "attention_mask": np.ones_like(ids)},
        )
        assert labels.max() > other[0]
    rates = [
        load_router("causal_llm", bundles_dir=folder.parent).router.strong_win_rates(prompts)
        for folder in (served, whole)
    ]
    np.testing.assert_allclose(*rates, atol=0.1)  # int8 rounds each graph's numbers by itself
    outputs = InferenceSession(load_bundle(served).read_file("decoder")).get_outputs()
    assert [output.name for output in outputs] == ["label_logits"]


def test_training_twice_gives_the_same_bundle(train, tmp_path: Path) -> None:
    """Seed, data and machine decide every byte."""
    first, second = (train(out=tmp_path / name) / "manifest.json" for name in ("one", "two"))
    assert first.read_bytes() == second.read_bytes()


def test_any_causal_language_model_will_do(train, tiny_llama: Path, separable) -> None:
    """A Llama's folder as --base-model: its own tokenizer, and a text round the question."""
    from pointsman.routers.causal_llm import PromptFormat

    folder = train(base_model=tiny_llama)
    form = PromptFormat.from_bytes(load_bundle(folder).read_file("format"))
    assert form.after.strip() == "Prediction:"
    assert separable.area(load_router("causal_llm", bundles_dir=folder.parent).router) > 0.8


def test_a_folder_without_a_model_is_named(train, tmp_path: Path) -> None:
    """One line that says which folder, and which option."""
    with pytest.raises(ConfigError, match="--base-model"):
        train(base_model=tmp_path)


def test_padding_in_front_changes_no_loss(tiny_encoder: Path) -> None:
    """A prompt learns the same alone and beside a longer one; only ends are compared."""
    import torch

    from pointsman.training.batches import Corpus
    from pointsman.training.decoder import RatingDecoder, add_labels, load_decoder

    model = load_decoder(tiny_encoder)
    _, label_ids = add_labels(model, (tiny_encoder / "tokenizer.json").read_bytes())
    decoder = RatingDecoder(model, label_ids, source_count=2, first_token_weight=0.3).eval()
    corpus = Corpus(
        token_ids=[np.arange(5, 9, dtype=np.int32), np.arange(4, 24, dtype=np.int32)],
        weights=np.ones(2),
        labels={"source": np.arange(2), "ratings": np.eye(5, dtype=np.float32)[[0, 3]]},
    )
    device = torch.device("cpu")
    with torch.no_grad():
        together = decoder.losses(corpus.batch(np.arange(2), device))
        apart = [decoder.losses(corpus.batch(np.asarray([row]), device)) for row in range(2)]
    assert torch.allclose(together, torch.cat(apart), atol=1e-5)


def test_ratings_stand_between_the_nearest_labels() -> None:
    """0 is [[1]], 1 is [[5]], and 0.6 is 0.6 of [[3]] and 0.4 of [[4]]."""
    from pointsman.training.labels import ratings_of

    rows = ratings_of(np.asarray([0.0, 1.0, 0.5, 0.6]))
    expected = [[1, 0, 0, 0, 0], [0, 0, 0, 0, 1], [0, 0, 1, 0, 0], [0, 0, 0.6, 0.4, 0]]
    assert np.allclose(rows, expected)
