"""A tiny encoder and a tiny data folder, both made on the spot; torch where it is installed."""

import gzip
import importlib.util
import json
import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from pointsman.routers.base import Router

SENTENCE = (
    "add sum two numbers easy small integral prove theorem hard contour what is the of and "
    "apple pear plum grape lemon"
)


@pytest.fixture(scope="session")
def torch_installed() -> None:
    """Skip without torch and transformers; fail in CI, where they must be there."""
    missing = [name for name in ("torch", "transformers", "onnx") if not _installed(name)]
    if not missing:
        return
    message = f"{', '.join(missing)} not installed: pip install 'pointsman[train]'"
    if os.environ.get("CI") == "true":
        pytest.fail(f"CI must run the training tests: {message}")
    pytest.skip(message)


def _installed(name: str) -> bool:
    return importlib.util.find_spec(name) is not None


@pytest.fixture(scope="session")
def tiny_encoder(torch_installed: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random BERT of two layers and thirty words, in Hugging Face's layout."""
    import torch
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
    from transformers import BertConfig, BertModel

    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]
    letters = [chr(code) for code in range(ord("a"), ord("z") + 1)] + list("0123456789+-?.")
    words = dict.fromkeys(
        special + SENTENCE.split() + letters + [f"##{letter}" for letter in letters]
    )
    vocabulary = {word: number for number, word in enumerate(words)}
    tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        special_tokens=[("[CLS]", vocabulary["[CLS]"]), ("[SEP]", vocabulary["[SEP]"])],
    )
    torch.manual_seed(0)
    model = BertModel(
        BertConfig(
            vocab_size=len(vocabulary),
            hidden_size=16,
            num_hidden_layers=2,
            num_attention_heads=2,
            intermediate_size=32,
            max_position_embeddings=64,
        ),
        add_pooling_layer=False,
    )
    folder = tmp_path_factory.mktemp("encoder")
    model.save_pretrained(folder)
    tokenizer.save(str(folder / "tokenizer.json"))
    return folder


@pytest.fixture(scope="session")
def tiny_llama(tiny_encoder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random Llama of two layers over the tiny encoder's words, in Hugging Face's layout."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    words = json.loads((tiny_encoder / "tokenizer.json").read_text())["model"]["vocab"]
    torch.manual_seed(0)
    model = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(words),
            hidden_size=32,
            num_hidden_layers=2,
            num_attention_heads=2,
            num_key_value_heads=1,
            intermediate_size=32,
            max_position_embeddings=64,
            bos_token_id=words["[CLS]"],
            eos_token_id=words["[SEP]"],
        )
    )
    folder = tmp_path_factory.mktemp("llama")
    model.save_pretrained(folder)
    shutil.copy(tiny_encoder / "tokenizer.json", folder)
    return folder


def outcome(prompt: str, weak_score: float, **fields: Any) -> dict[str, Any]:
    """One row as the data folder has it."""
    row = {
        "prompt": prompt,
        "strong": "gpt-4o-2024-05-13",
        "weak": "Mixtral-8x7B-Instruct-v0.1",
        "strong_score": 1.0,
        "weak_score": weak_score,
        "overlap": [],
    }
    return {**row, **fields}


def write_rows(path: Path, rows: list[dict[str, Any]]) -> None:
    """Write a gzipped JSON Lines file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(gzip.compress("\n".join(json.dumps(row) for row in rows).encode()))


@pytest.fixture
def tiny_data(tmp_path: Path) -> Path:
    """Easy sums that the weak model gets right, hard theorems that it does not, and two chats."""
    folder = tmp_path / "data"
    fruits = ["apple", "pear", "plum", "grape", "lemon"]
    rows = []
    for number in range(60):
        fruit = fruits[number % 5]
        rows.append(outcome(f"what is the easy sum of {number} and two {fruit}?", 1.0))
        rows.append(outcome(f"prove the hard contour integral theorem {number} {fruit}", 0.0))
    rows.append(outcome("an overlapping prompt", 1.0, overlap=["mmlu"]))
    write_rows(folder / "preferences" / "mmlu_pro_gpt4o_mixtral.jsonl.gz", rows)
    chat = [
        outcome(f"User: add {fruit}\n\nAssistant: yes\n\nUser: and {fruit}?", number % 2)
        for number, fruit in enumerate(fruits)
    ]
    write_rows(folder / "preferences" / "arena_bench_v1.jsonl.gz", chat)
    write_rows(folder / "preferences" / "qlora_gpt4.jsonl.gz", chat[:3])
    return folder


@dataclass(frozen=True)
class Separable:
    """Prompts of the two kinds of `tiny_data`, none of them among its own."""

    easy: list[str]
    hard: list[str]

    def area(self, router: Router) -> float:
        """Return the share of (easy, hard) pairs that the router has in order, ties half."""
        easy, hard = router.strong_win_rates(self.easy), router.strong_win_rates(self.hard)
        ahead = hard[:, None] - easy[None]
        return float(((ahead > 0) + 0.5 * (ahead == 0)).mean())


@pytest.fixture
def separable() -> Separable:
    """Twenty easy and twenty hard prompts that were not trained on."""
    return Separable(
        easy=[f"what is the easy sum of {number} and two plum?" for number in range(60, 80)],
        hard=[
            f"prove the hard contour integral theorem {number} plum" for number in range(100, 120)
        ],
    )


@pytest.fixture
def quick_settings(
    tiny_encoder: Path, tiny_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Any:
    """Settings of a training that takes seconds: everything tiny, and nothing real loaded."""
    from pointsman.training import datasets, encoder
    from pointsman.training.settings import TrainSettings

    # To a random encoder all texts look alike; near-duplicates have a test of their own.
    monkeypatch.setattr(datasets, "NEAR_DUPLICATE_COSINE", 1.1)
    monkeypatch.setattr(encoder, "installed_encoder", lambda: tiny_encoder)
    monkeypatch.setattr(encoder, "SENTENCE_TOKENS", 32)
    return TrainSettings(
        data=tiny_data,
        out=tmp_path / "bundles",
        cache=tmp_path / "cache",
        encoder=tiny_encoder,
        device="cpu",
    )


@pytest.fixture
def quick_finetuning(torch_installed: None) -> Any:
    """Some steps that are enough for the tiny data."""
    from pointsman.training.optimization import FinetuneSettings

    return FinetuneSettings(
        steps=40,
        batch_size=16,
        learning_rate=1e-3,
        head_learning_rate=1e-2,
        evaluate_every=10,
        device="cpu",
    )
