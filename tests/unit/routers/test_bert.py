"""The head is softmax's first share, and Platt's line acts on its log-odds."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from pointsman.errors import ConfigError
from pointsman.routers.bert import BertRouter, ClassifierHead
from pointsman.routers.embedding import Embedder, EmbedderSettings
from pointsman.routers.log_odds import Platt
from tests.unit.routers.graphs import mean_encoder, word_tokenizer

SETTINGS = EmbedderSettings(max_tokens=8, dimension=4)


def tiny_embedder() -> Embedder:
    """Mean of word vectors."""
    table = np.random.default_rng(0).standard_normal((5, 4)).astype(np.float32)
    return Embedder(mean_encoder(table), word_tokenizer(["a", "b", "c", "d", "?"]), SETTINGS)


def random_head(seed: int = 1) -> ClassifierHead:
    """Three rows of four."""
    generator = np.random.default_rng(seed)
    return ClassifierHead(
        weights=generator.standard_normal((3, 4)).astype(np.float32),
        bias=generator.standard_normal(3).astype(np.float32),
    )


@given(arrays(np.float32, (6, 4), elements=st.floats(-1e4, 1e4, width=32)))
def test_the_win_rate_is_the_first_share_of_the_softmax(features) -> None:
    """RouteLLM has 1 - (p1 + p2): the same number, also where the softmax saturates."""
    head = random_head()
    logits = features.astype(np.float64) @ head.weights.astype(np.float64).T + head.bias
    shares = np.exp(logits - logits.max(axis=1, keepdims=True))
    shares /= shares.sum(axis=1, keepdims=True)
    rates = BertRouter(tiny_embedder(), head).win_rates_of(features)
    assert rates.dtype == np.float32
    assert rates == pytest.approx(shares[:, 0], abs=1e-6)


def test_platts_line_acts_on_log_odds() -> None:
    """Scale and bias move the rate as they would move any log-odds."""
    embedder, head = tiny_embedder(), random_head()
    rates = BertRouter(embedder, head).strong_win_rates(["a b", "c"]).astype(np.float64)
    lined = BertRouter(embedder, replace(head, platt=Platt(scale=2.0, bias=-1.0)))
    expected = 1 / (1 + np.exp(-(2.0 * np.log(rates / (1 - rates)) - 1.0)))
    assert lined.strong_win_rates(["a b", "c"]) == pytest.approx(expected, abs=1e-6)


def test_neighbours_do_not_change_a_win_rate() -> None:
    """A prompt scores the same alone and in company, and none is a batch too."""
    router = BertRouter(tiny_embedder(), random_head())
    prompts = ["a", "b c", "", "what d"]
    alone = [float(router.strong_win_rates([prompt])[0]) for prompt in prompts]
    assert router.strong_win_rates(prompts).tolist() == alone
    assert router.strong_win_rates([]).shape == (0,)


def test_the_prompt_is_cut_to_the_models_length() -> None:
    """What lies beyond changes nothing."""
    router = BertRouter(tiny_embedder(), random_head())
    same = router.strong_win_rates(["a b " * 4, "a b " * 4 + "c " * 100])
    assert same[0] == same[1]


def test_a_head_survives_the_disk_byte_for_byte() -> None:
    """Equal heads are equal files: the revision depends on it."""
    head = replace(random_head(), platt=Platt(scale=0.5, bias=0.25))
    again = ClassifierHead.from_bytes(head.to_bytes())
    assert again.to_bytes() == head.to_bytes()
    assert (again.weights == head.weights).all()
    assert again.platt == head.platt


@pytest.mark.parametrize("data", [b"", b"PK\x03\x04", b"not an archive"])
def test_a_broken_archive_is_one_error(data: bytes) -> None:
    """Whatever numpy says, the operator reads which file it was."""
    with pytest.raises(ConfigError, match="bert head cannot be read"):
        ClassifierHead.from_bytes(data)


def test_another_number_of_labels_is_refused() -> None:
    """A two-way classifier has no tie."""
    with pytest.raises(ConfigError, match=r"\[2, 4\] and \[2\]"):
        ClassifierHead(weights=np.zeros((2, 4), np.float32), bias=np.zeros(2, np.float32))


def test_another_dimension_is_refused_with_both_numbers() -> None:
    """Head and graph belong together."""
    head = ClassifierHead(weights=np.zeros((3, 7), np.float32), bias=np.zeros(3, np.float32))
    with pytest.raises(ConfigError, match=r"bert was trained on .* 7 numbers .* 4;"):
        BertRouter(tiny_embedder(), head)
