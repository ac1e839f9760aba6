"""RouteLLM's `bert`: the bundle gives transformers' numbers, and a wrong folder one line."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pointsman.errors import ConfigError
from pointsman.routers.bundle import load_bundle, read_manifest
from pointsman.routers.registry import load_router

from .checkpoints import xlm_roberta
from .conftest import files_in

pytestmark = [pytest.mark.train, pytest.mark.usefixtures("torch_installed")]

PROMPTS = [
    "",
    "write a poem about rain",
    "prove that every prime above two is odd",
    "explain how tides work in simple words " * 30,
]


def routellm(model: Any, folder: Path, prompt: str, max_length: int) -> float:
    """As RouteLLM's router computes it: one prompt, truncated, `1 - (p1 + p2)`."""
    import torch
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.enable_truncation(max_length)
    with torch.no_grad():
        logits = model(torch.tensor([tokenizer.encode(prompt).ids])).logits.numpy()[0]
    scores = np.exp(logits - logits.max())
    scores /= scores.sum()
    return float(1 - scores[-2:].sum())


def without_classifier(folder: Path) -> None:
    """Takes the last layer out of the weights: transformers would start it at random."""
    from safetensors.numpy import load_file, save_file

    path = folder / "model.safetensors"
    kept = {name: array for name, array in load_file(path).items() if "out_proj" not in name}
    save_file(kept, path, metadata={"format": "pt"})


@pytest.mark.parametrize(("told", "read"), [(40, 40), (512, 64), (None, 64), (10**30, 64)])
def test_the_bundle_gives_routellms_numbers(
    tmp_path: Path, settings: Callable[..., Any], told: int | None, read: int
) -> None:
    """To 1e-4 in float32; cut to what the tokenizer says, or to the positions there are."""
    from pointsman.importing.bert import import_bert

    folder = tmp_path / "checkpoint"
    model = xlm_roberta(folder, max_length=told)
    bundle = import_bert(settings(folder, precision="float32"))
    manifest = read_manifest(bundle)
    assert manifest.embedder.max_tokens == read
    assert manifest.golden is not None
    assert manifest.golden.how.startswith("served in float32")
    router = load_router("imported", bundle=bundle)
    expected = [routellm(model, folder, prompt, read) for prompt in PROMPTS]
    np.testing.assert_allclose(router.router.strong_win_rates(PROMPTS), expected, atol=1e-4)
    assert max(expected) - min(expected) > 0.02


def test_int8_is_near_and_carries_golden_and_calibrated_win_rates(
    tmp_path: Path, settings: Callable[..., Any]
) -> None:
    """How near, the golden section says; percentiles are those of the named prompts."""
    from pointsman.importing.bert import import_bert

    folder = tmp_path / "checkpoint"
    model = xlm_roberta(folder)
    prompts = tmp_path / "prompts.jsonl"
    prompts.write_text("".join(json.dumps({"prompt": prompt}) + "\n" for prompt in PROMPTS * 2))
    bundle = import_bert(settings(folder, calibrate=prompts))
    manifest = read_manifest(bundle)
    assert manifest.golden is not None
    assert manifest.calibration is not None
    assert manifest.calibration.prompts == len(PROMPTS)
    assert manifest.calibration.description == "distinct prompts of prompts.jsonl"
    router = load_router("imported", bundle=bundle)
    assert router.golden is not None
    assert router.golden.verdict == "ok"
    rates = router.router.strong_win_rates(PROMPTS)
    assert router.quantiles[[0, -1]].tolist() == pytest.approx([rates.min(), rates.max()])
    expected = [routellm(model, folder, prompt, 40) for prompt in PROMPTS]
    np.testing.assert_allclose(rates, expected, atol=0.1)
    assert b"MatMulInteger" in load_bundle(bundle).read_file("encoder")


def test_pickled_weights_are_read_as_numbers(tmp_path: Path, settings: Callable[..., Any]) -> None:
    """RouteLLM's first checkpoints were pickles; the same weights give the same bundle."""
    import torch

    from pointsman.importing.bert import import_bert

    folder = tmp_path / "checkpoint"
    model = xlm_roberta(folder)
    first = import_bert(settings(folder))
    (folder / "model.safetensors").unlink()
    torch.save(model.state_dict(), folder / "pytorch_model.bin")
    second = import_bert(settings(folder, name="other"))
    assert read_manifest(first).revision == read_manifest(second).revision


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda folder: (folder / "model.safetensors").unlink(), "no model that can be read"),
        (lambda folder: (folder / "model.safetensors").write_bytes(b"x"), "no model that can be"),
        (lambda folder: (folder / "config.json").unlink(), "no model that can be read"),
        (lambda folder: (folder / "config.json").write_text("{"), "no model that can be read"),
        (lambda folder: (folder / "tokenizer.json").write_text("{}"), "--tokenizer"),
        (lambda folder: (folder / "tokenizer_config.json").write_text("["), "cannot be read"),
        (without_classifier, r"have no classifier\.out_proj\.bias and 1"),
        (lambda folder: xlm_roberta(folder, labels=5), "has 5 labels and `bert` needs 3"),
    ],
)
def test_a_wrong_folder_is_one_line_and_writes_nothing(
    tmp_path: Path,
    settings: Callable[..., Any],
    damage: Callable[[Path], Any],
    said: str,
) -> None:
    """Missing, damaged, of another kind."""
    from pointsman.importing.bert import import_bert

    folder = tmp_path / "checkpoint"
    xlm_roberta(folder)
    damage(folder)
    with pytest.raises(ConfigError, match=said) as refused:
        import_bert(settings(folder))
    assert str(refused.value).startswith(str(folder))
    assert "\n" not in str(refused.value)
    assert files_in(tmp_path / "bundles") == []


def test_the_folders_own_code_is_never_run(tmp_path: Path, settings: Callable[..., Any]) -> None:
    """A checkpoint that names code of its own is refused, the code untouched."""
    from pointsman.importing.bert import import_bert

    folder, trace = tmp_path / "checkpoint", tmp_path / "trace"
    xlm_roberta(folder)
    config = json.loads((folder / "config.json").read_text())
    config["model_type"] = "of_its_own"
    config["auto_map"] = {
        "AutoConfig": "own.Config",
        "AutoModelForSequenceClassification": "own.Model",
    }
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "own.py").write_text(f"open({str(trace)!r}, 'w').write('ran')\n")
    with pytest.raises(ConfigError):
        import_bert(settings(folder))
    assert not trace.exists()


def test_a_tokenizer_of_an_older_form_is_converted(
    tmp_path: Path, settings: Callable[..., Any]
) -> None:
    """BERT's word list: transformers makes a tokenizer of it, which the bundle keeps."""
    from transformers import BertConfig, BertForSequenceClassification

    from pointsman.importing.bert import import_bert

    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "rain", "tides", "##s", "a"]
    folder = tmp_path / "checkpoint"
    BertForSequenceClassification(
        BertConfig(
            vocab_size=len(words),
            hidden_size=16,
            intermediate_size=16,
            num_hidden_layers=1,
            num_attention_heads=2,
            max_position_embeddings=32,
            num_labels=3,
        )
    ).save_pretrained(folder)
    (folder / "vocab.txt").write_text("\n".join(words) + "\n")
    bundle = import_bert(settings(folder, precision="float32"))
    router = load_router("imported", bundle=bundle).router
    rates = router.strong_win_rates(["rain", "RAIN", "tides", "tide s", "unheard"])
    assert rates[0] == rates[1]
    assert len(set(rates.tolist())) == 4


class Bomb:
    """Leaves a file behind wherever it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return (Path.write_text, (self.path, "ran"))


def test_weights_that_ask_to_run_code_are_refused(
    tmp_path: Path, settings: Callable[..., Any]
) -> None:
    """One line, nothing run, nothing written."""
    import torch

    from pointsman.importing.bert import import_bert

    folder, trace = tmp_path / "checkpoint", tmp_path / "trace"
    xlm_roberta(folder)
    (folder / "model.safetensors").unlink()
    torch.save({"classifier.dense.bias": Bomb(trace)}, folder / "pytorch_model.bin")
    with pytest.raises(ConfigError, match="no model that can be read") as refused:
        import_bert(settings(folder))
    assert "\n" not in str(refused.value)
    assert not trace.exists()
    assert files_in(tmp_path / "bundles") == []
