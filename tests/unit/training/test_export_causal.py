"""The exported decoder answers as transformers does, at the last position and for any length."""

from typing import Any

import numpy as np
import onnxruntime as ort
import pytest
from numpy.typing import NDArray

pytestmark = [pytest.mark.train, pytest.mark.usefixtures("torch_installed")]

VOCABULARY = 60
LABELS = (55, 57, 56, 58, 59)
"""Not in order: each label keeps its own place."""


def llama() -> Any:
    """A random Llama with grouped attention."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(1)
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=VOCABULARY,
            hidden_size=32,
            intermediate_size=48,
            num_hidden_layers=2,
            num_attention_heads=4,
            num_key_value_heads=2,
            max_position_embeddings=96,
            initializer_range=0.3,
        )
    ).eval()


def causal_bert() -> Any:
    """A random BERT with a causal mask."""
    import torch
    from transformers import BertConfig, BertLMHeadModel

    torch.manual_seed(2)
    return BertLMHeadModel(
        BertConfig(
            vocab_size=VOCABULARY,
            hidden_size=32,
            intermediate_size=48,
            num_hidden_layers=2,
            num_attention_heads=4,
            max_position_embeddings=96,
            is_decoder=True,
            initializer_range=0.3,
        )
    ).eval()


def run(graph: bytes, ids: NDArray[np.int64]) -> list[NDArray[Any]]:
    """One forward pass of the graph over tokens that all count."""
    session = ort.InferenceSession(graph, providers=["CPUExecutionProvider"])
    feeds = {"input_ids": ids, "attention_mask": np.ones_like(ids)}
    return session.run(["label_logits", "other_logit", "other_token"], feeds)


@pytest.mark.parametrize("make", [llama, causal_bert])
@pytest.mark.parametrize("length", [1, 2, 8, 77])
def test_the_graph_gives_the_models_own_logits(make: Any, length: int) -> None:
    """Labels, and the best of all others, after a text of any length."""
    import torch

    from pointsman.training.export_causal import export_causal

    model = make()
    ids = np.random.default_rng(length).integers(0, VOCABULARY, (1, length))
    with torch.no_grad():
        expected = model(input_ids=torch.from_numpy(ids)).logits[0, -1].numpy()
    labels, other, token = run(export_causal(model, LABELS), ids)
    assert labels.shape == (1, 5)
    np.testing.assert_allclose(labels[0], expected[list(LABELS)], atol=1e-4)
    others = expected.copy()
    others[list(LABELS)] = -np.inf
    np.testing.assert_allclose(other, [others.max()], atol=1e-4)
    assert token.tolist() == [others.argmax()]


def test_a_masked_token_is_not_looked_at() -> None:
    """Whatever stands at a place whose mask is 0, the answer is the same."""
    from pointsman.training.export_causal import export_causal

    session = ort.InferenceSession(
        export_causal(llama(), LABELS), providers=["CPUExecutionProvider"]
    )
    mask = np.asarray([[1, 0, 1, 1]], dtype=np.int64)
    answers = [
        session.run(
            ["label_logits"],
            {"input_ids": np.asarray([[3, token, 4, 5]], dtype=np.int64), "attention_mask": mask},
        )[0]
        for token in (7, 8)
    ]
    np.testing.assert_array_equal(*answers)


@pytest.mark.parametrize(
    ("labels", "said"),
    [((1, 2, 3, 4, VOCABULARY), "in a vocabulary of 60"), (range(VOCABULARY), "nothing but")],
)
def test_labels_must_be_some_of_the_tokens(labels: Any, said: str) -> None:
    """Named before anything is exported."""
    from pointsman.training.export_causal import export_causal

    with pytest.raises(ValueError, match=said):
        export_causal(llama(), labels)


def test_a_graph_beyond_protobufs_limit_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Here by lowering the limit: such a model is written as two files."""
    from pointsman.training import tracing
    from pointsman.training.export_causal import export_causal

    monkeypatch.setattr(tracing, "LARGEST_GRAPH_BYTES", 1000)
    with pytest.raises(ValueError, match="do not fit one graph of 2 GB"):
        export_causal(llama(), LABELS)
