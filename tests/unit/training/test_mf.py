"""Training end to end: real export, quantisation and fit, on a tiny encoder and tiny data."""

import csv
import gzip
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from pointsman.routers.bundle import load_bundle, prompt_digest
from pointsman.routers.registry import load_router

pytestmark = [pytest.mark.train, pytest.mark.filterwarnings("default")]


@pytest.fixture
def train(quick_settings: Any) -> Any:
    """Train on the tiny data into a folder of the given name; return the bundle's folder."""
    from pointsman.training.bilinear import FitSettings
    from pointsman.training.mf import MfRecipe, train_mf

    def run(out: str = "bundles", **changes: Any) -> Path:
        settings = replace(quick_settings, out=quick_settings.out.parent / out, **changes)
        return train_mf(settings, MfRecipe(fit=FitSettings(iterations=30), max_tokens=32))

    return run


def write_solutions(data: Path) -> None:
    """Forty word problems, with worked solutions of one to seven lines."""
    steps = [
        {"question": f"add {number} and {number} apple", "answer": "sum\n" * (1 + number % 7)}
        for number in range(40)
    ]
    solutions = "\n".join(msgspec.json.encode(row).decode() for row in steps)
    (data / "extra").mkdir()
    (data / "extra" / "gsm8k_train.jsonl.gz").write_bytes(gzip.compress(solutions.encode()))


def write_benchmarks(
    data: Path, *, mmlu: Sequence[str] = ("apple",), gsm8k: Sequence[str] = ("pear",)
) -> None:
    """All three test sets; the weak model is wrong wherever something is to be proven."""
    for path, prompts in (
        ("gsm8k/gsm8k_responses.csv", gsm8k),
        ("mmlu/responses/mmlu_law.csv", mmlu),
    ):
        responses = data / "benchmarks" / path
        responses.parent.mkdir(parents=True)
        with responses.open("w", newline="") as stream:
            rows = csv.writer(stream)
            rows.writerow(["prompt", "mistralai/Mixtral-8x7B-Instruct-v0.1", "gpt-4-1106-preview"])
            rows.writerows([prompt, str("prove" not in prompt), "True"] for prompt in prompts)
        (data / "benchmarks" / path.split("/")[0] / "contaminated_prompts.jsonl").write_text("")
    question = {"question_id": 1, "turns": ["unrelated words entirely", "more"]}
    questions = data / "benchmarks" / "mt_bench" / "question.jsonl"
    questions.parent.mkdir()
    questions.write_bytes(msgspec.json.encode(question))
    (questions.parent / "contaminated_prompts.jsonl").write_text("")


def test_a_trained_bundle_is_served_and_right(train) -> None:
    """From logged outcomes to a router that sends what the weak model fails at to strong."""
    folder = train()
    loaded = load_router("mf", bundles_dir=folder.parent)
    assert loaded.golden is not None
    assert loaded.golden.verdict == "ok", loaded.golden.message
    easy, hard = loaded.router.strong_win_rates(
        ["what is the easy sum of 99 and two plum?", "prove the hard contour integral theorem 99"]
    )
    assert easy < 0.3
    assert hard > 0.7
    manifest = load_bundle(folder).manifest
    assert manifest.calibration.prompts == 5
    assert manifest.embedder.dimension == 32
    assert [source.name for source in manifest.data] == ["mmlu_pro_gpt4o_mixtral"]
    assert any("judged chat" in name for name in manifest.figures)


def test_each_form_of_prompt_gets_a_router_of_its_own(train, tiny_data: Path) -> None:
    """With worked solutions beside exam questions: a gate, three forms, one bundle that serves."""
    from pointsman.routers.forms import FormRouter

    write_solutions(tiny_data)
    folder = train()
    assert {"weights", "weights_exam", "weights_problem", "gate"} <= set(
        load_bundle(folder).manifest.files
    )
    loaded = load_router("mf", bundles_dir=folder.parent)
    assert isinstance(loaded.router, FormRouter)
    assert loaded.golden is not None
    assert loaded.golden.verdict == "ok", loaded.golden.message
    easy, hard = loaded.router.strong_win_rates(
        ["what is the easy sum of 99 and two plum?", "prove the hard contour integral theorem 99"]
    )
    assert easy < 0.3
    assert hard > 0.7


def test_labels_of_real_exam_questions_become_a_kernel(train, tiny_data: Path) -> None:
    """It is in the bundle in place of the exam form's vector, and served."""
    write_solutions(tiny_data)
    questions = [f"what is the easy sum of {number} and two pear?" for number in range(100, 130)]
    write_benchmarks(tiny_data, mmlu=[*questions, *(f"prove {text}" for text in questions)])
    folder = train(mmlu_labels="all")
    files = load_bundle(folder).manifest.files
    assert {"weights", "kernel_exam", "weights_problem", "gate"} <= set(files)
    assert "weights_exam" not in files
    loaded = load_router("mf", bundles_dir=folder.parent)
    assert loaded.golden is not None
    assert loaded.golden.verdict == "ok", loaded.golden.message


def test_training_twice_gives_the_same_bundle(train) -> None:
    """Seed, data and machine decide every byte."""
    first, second = train("one"), train("two")
    assert (first / "manifest.json").read_bytes() == (second / "manifest.json").read_bytes()
    names = [
        sorted(path.name for path in (folder.parent / "blobs").iterdir())
        for folder in (first, second)
    ]
    assert names[0] == names[1]


def test_another_seed_is_another_revision(train) -> None:
    """The seed is in the manifest and in the weights."""
    one, two = (load_bundle(train(f"seed{seed}", seed=seed)).manifest for seed in (1, 2))
    assert (one.seed, two.seed) == (1, 2)
    assert one.revision != two.revision
    assert one.files["encoder"] == two.files["encoder"]


def test_a_test_prompt_never_enters_training(train, tiny_data: Path) -> None:
    """A benchmark in the data folder is kept away from, hash by hash."""
    stolen = "what is the easy sum of 7 and two plum?"  # 7 % 5 = 2: plum
    write_benchmarks(tiny_data, gsm8k=[stolen.upper()])
    digests = load_bundle(train()).training_prompt_digests()
    assert prompt_digest(stolen) not in digests
    assert len(digests) == 119


def test_the_graph_pools_as_torch_does(tiny_encoder: Path) -> None:
    """Means and deviations inside the float32 graph equal those computed by hand."""
    import torch

    from pointsman.routers.embedding import Embedder, EmbedderSettings
    from pointsman.training.export import Pooling, export_onnx, load_encoder

    model = load_encoder(tiny_encoder)
    tokenizer = (tiny_encoder / "tokenizer.json").read_bytes()
    graph = export_onnx(model, Pooling(mean_layers=(2, 0), deviation_layers=(1,)))
    embedder = Embedder(graph, tokenizer, EmbedderSettings(max_tokens=32, dimension=48))
    text = "prove the hard theorem of plum and pear"
    ids = torch.tensor([embedder._tokenizer.encode(text).ids])
    with torch.no_grad():
        layers = model(input_ids=ids, output_hidden_states=True).hidden_states
    expected = torch.cat(
        [layers[2][0].mean(0), layers[0][0].mean(0), layers[1][0].std(0, correction=0)]
    )
    assert np.abs(embedder.embed([text])[0] - expected.numpy()).max() < 1e-4
