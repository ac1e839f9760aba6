"""RouteLLM's `causal_llm`: the bundle gives greedy generation's numbers, in one file or two."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pointsman.errors import ConfigError
from pointsman.routers.bundle import load_bundle, read_manifest
from pointsman.routers.registry import load_router

from .checkpoints import LABELS, QUESTION, SYSTEM, llama
from .conftest import files_in

pytestmark = [pytest.mark.train, pytest.mark.usefixtures("torch_installed")]

PROMPTS = [
    *("", "write a poem about rain", "prove that every prime above two is odd", "sort list"),
    *("how tides work", "what is the sum of two and three", "python function", "雨 and rain 🌧"),
]


def routellm(model: Any, folder: Path, prompt: str) -> tuple[float, int | None]:
    """As RouteLLM's router computes it; also at which new token the label came."""
    import torch
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.add_special_tokens(LABELS)
    turns = (("system", SYSTEM), ("user", QUESTION.format(question=prompt)))
    text = "".join(
        f"<|start_header_id|>{role}<|end_header_id|>\n\n{content.strip()}<|eot_id|>"
        for role, content in turns
    )
    inputs = torch.tensor([tokenizer.encode(text).ids])
    output = model.generate(
        inputs,
        attention_mask=torch.ones_like(inputs),
        max_new_tokens=6,
        do_sample=False,
        pad_token_id=model.config.eos_token_id,
        output_scores=True,
        return_dict_in_generate=True,
    )
    first_label = tokenizer.get_vocab_size() - 5
    new = output.sequences[0, inputs.shape[1] :].tolist()
    place = next((index for index, token in enumerate(new) if token >= first_label), None)
    if place is None:
        return 1.0, None
    logits = output.scores[place][0][first_label : first_label + 5].numpy()
    scores = np.exp(logits - logits.max())
    scores /= scores.sum()
    return float(1 - scores[3:].sum()), place


@pytest.mark.parametrize("with_labels", [True, False])
@pytest.mark.parametrize("seed", [5, 8])
def test_the_bundle_gives_routellms_numbers(
    tmp_path: Path, settings: Callable[..., Any], with_labels: bool, seed: int
) -> None:
    """To 1e-4 in float32, whether the labels are in the tokenizer or are added as RouteLLM does."""
    from pointsman.importing.causal_llm import import_causal_llm

    folder = tmp_path / "checkpoint"
    model = llama(folder, with_labels=with_labels, seed=seed)
    bundle = import_causal_llm(settings(folder, precision="float32"))
    router = load_router("imported", bundle=bundle)
    expected, places = zip(*(routellm(model, folder, prompt) for prompt in PROMPTS), strict=True)
    np.testing.assert_allclose(router.router.strong_win_rates(PROMPTS), expected, atol=1e-4)
    assert 0 in places
    assert len(set(expected)) > 2


def test_int8_is_near(tmp_path: Path, settings: Callable[..., Any]) -> None:
    """And carries golden win rates that say how near."""
    from pointsman.importing.causal_llm import import_causal_llm

    folder = tmp_path / "checkpoint"
    llama(folder, emphasis=4.0)
    full = import_causal_llm(settings(folder, precision="float32", name="full"))
    small = import_causal_llm(settings(folder))
    graphs = [load_bundle(bundle).read_file("decoder") for bundle in (small, full)]
    assert [b"MatMulInteger" in graph for graph in graphs] == [True, False]
    rates = [
        load_router("x", bundle=bundle).router.strong_win_rates(PROMPTS) for bundle in (small, full)
    ]
    np.testing.assert_allclose(*rates, atol=0.1)
    assert not np.array_equal(*rates)
    assert read_manifest(small).golden is not None


def test_int8_that_makes_another_router_is_refused(
    tmp_path: Path, settings: Callable[..., Any]
) -> None:
    """Random weights, where any change is a large one; it says what to do."""
    from pointsman.importing.causal_llm import import_causal_llm

    folder = tmp_path / "checkpoint"
    llama(folder, seed=6)
    with pytest.raises(ConfigError, match=r"move a win rate by .*--precision float32"):
        import_causal_llm(settings(folder))
    assert files_in(tmp_path / "bundles") == []


@pytest.mark.parametrize("precision", ["float32", "int8"])
def test_a_model_beyond_protobufs_limit_is_two_files(
    tmp_path: Path,
    settings: Callable[..., Any],
    monkeypatch: pytest.MonkeyPatch,
    precision: str,
) -> None:
    """Here by lowering the limit: the same numbers, the weights beside the graph."""
    from pointsman.importing import causal_llm

    folder = tmp_path / "checkpoint"
    llama(folder, emphasis=4.0)
    whole = causal_llm.import_causal_llm(settings(folder, precision=precision, name="whole"))
    limited = partial(causal_llm.export_graph, largest_bytes=1000)
    monkeypatch.setattr(causal_llm, "export_graph", limited)
    apart = causal_llm.import_causal_llm(settings(folder, precision=precision, name="apart"))
    files = read_manifest(apart).files
    assert files["decoder_data"].bytes > 50_000
    assert files["decoder"].bytes < read_manifest(whole).files["decoder"].bytes - 20_000
    assert files["decoder_data"].name.encode() in load_bundle(apart).read_file("decoder")
    rates = [
        load_router("x", bundle=bundle).router.strong_win_rates(PROMPTS)
        for bundle in (whole, apart)
    ]
    np.testing.assert_allclose(rates[0], rates[1], atol=1e-6)


def test_a_tokenizer_may_lie_elsewhere(tmp_path: Path, settings: Callable[..., Any]) -> None:
    """RouteLLM takes the base model's, which has a licence of its own."""
    from pointsman.importing.causal_llm import import_causal_llm

    folder, base = tmp_path / "checkpoint", tmp_path / "base"
    llama(folder, with_labels=False, emphasis=4.0)
    base.mkdir()
    (folder / "tokenizer.json").rename(base / "tokenizer.json")
    with pytest.raises(ConfigError, match="--tokenizer"):
        import_causal_llm(settings(folder))
    bundle = import_causal_llm(settings(folder, tokenizer=str(base)))
    assert b"[[5]]" in load_bundle(bundle).read_file("tokenizer")


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("system_ft_v5.txt", None, "beside their weights"),
        ("classifier_ft_v5.txt", None, "beside their weights"),
        ("classifier_ft_v5.txt", "Rate it.", "must name {question} once, and does 0 times"),
        ("classifier_ft_v5.txt", "{question} {question}", "once, and does 2 times"),
        ("classifier_ft_v5.txt", "{question} {answer}", "a field that is not {question}"),
        ("classifier_ft_v5.txt", "{question", "a field that is not {question}"),
    ],
)
def test_a_wrong_text_is_one_line_and_writes_nothing(
    tmp_path: Path, settings: Callable[..., Any], name: str, text: str | None, said: str
) -> None:
    """Both texts are part of the checkpoint: without them it would score something else."""
    from pointsman.importing.causal_llm import import_causal_llm

    folder = tmp_path / "checkpoint"
    llama(folder)
    if text is None:
        (folder / name).unlink()
    else:
        (folder / name).write_text(text)
    with pytest.raises(ConfigError) as refused:
        import_causal_llm(settings(folder))
    assert str(refused.value).startswith(str(folder / name))
    assert said in str(refused.value)
    assert files_in(tmp_path / "bundles") == []


def test_a_vocabulary_too_small_for_the_labels_is_refused(
    tmp_path: Path, settings: Callable[..., Any]
) -> None:
    """A base model without the label tokens, or another's tokenizer: both numbers are named."""
    from tokenizers import Tokenizer

    from pointsman.importing.causal_llm import import_causal_llm

    folder = tmp_path / "checkpoint"
    llama(folder, with_labels=False)
    path = str(folder / "tokenizer.json")
    tokenizer = Tokenizer.from_file(path)
    before = tokenizer.get_vocab_size()
    tokenizer.add_tokens(["one-more"])
    tokenizer.save(path)
    with pytest.raises(ConfigError, match=f"has {before + 6} tokens and the model {before + 5}"):
        import_causal_llm(settings(folder))
    assert files_in(tmp_path / "bundles") == []


@given(
    before=st.text(st.characters(exclude_characters="{}", codec="utf-8"), max_size=20),
    after=st.text(st.characters(exclude_characters="{}", codec="utf-8"), max_size=20),
    question=st.text(st.characters(codec="utf-8"), max_size=20),
)
def test_the_texts_join_as_routellm_joins_them(before: str, after: str, question: str) -> None:
    """Whatever the texts, round any question with something at both ends."""
    import tempfile

    from pointsman.importing.causal_llm import routellm_texts

    # Line ends are read as text files have them.
    before, after = ("".join(part.splitlines()) for part in (before, after))
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "system_ft_v5.txt").write_text(SYSTEM, encoding="utf-8")
        Path(folder, "classifier_ft_v5.txt").write_text(
            f"{before}<{{question}}>{after}", encoding="utf-8"
        )
        start, end = routellm_texts(Path(folder))
    user = f"{before}<{question}>{after}".strip()
    assert start + question + end == (
        f"<|start_header_id|>system<|end_header_id|>\n\n{SYSTEM.strip()}<|eot_id|>"
        f"<|start_header_id|>user<|end_header_id|>\n\n{user}<|eot_id|>"
    )
