"""The graph that is cut to its labels gives the whole model's label logits, for any length."""

from typing import Any

import numpy as np
import onnxruntime as ort
import pytest
from numpy.typing import NDArray

from .test_export_causal import LABELS, VOCABULARY, causal_bert

pytestmark = [pytest.mark.train, pytest.mark.usefixtures("torch_installed")]


def whole_model(model: Any, ids: NDArray[np.int64]) -> NDArray[np.float32]:
    """The labels' logits as transformers computes them, after every position."""
    import torch

    with torch.no_grad():
        logits: NDArray[np.float32] = model(input_ids=torch.from_numpy(ids)).logits[0].numpy()
    return logits[:, list(LABELS)]


def graph_of(model: Any) -> ort.InferenceSession:
    """A session of the exported model."""
    from pointsman.training.export_causal_bert import export_causal_bert

    return ort.InferenceSession(
        export_causal_bert(model, LABELS), providers=["CPUExecutionProvider"]
    )


def with_biases(model: Any) -> Any:
    """The model with output biases, which a new one has at 0."""
    import torch

    with torch.no_grad():
        model.get_output_embeddings().bias.uniform_(-1.0, 1.0)
    return model


@pytest.mark.parametrize("length", [1, 2, 8, 77])
def test_the_label_logits_are_the_whole_models(length: int) -> None:
    """Nothing that was left out has a say in them: order, biases and length included."""
    model = with_biases(causal_bert())
    ids = np.random.default_rng(length).integers(0, VOCABULARY, (1, length))
    expected = whole_model(model, ids)[-1:]
    (labels,) = graph_of(model).run(["label_logits"], {"input_ids": ids})
    assert labels.dtype == np.float32
    np.testing.assert_allclose(labels, expected, atol=1e-5)


@pytest.mark.parametrize("strength", [4.0, 8.0])
def test_a_token_to_come_is_not_seen_however_much_it_draws(strength: float) -> None:
    """Sharp attention, in which one to come outbids all that may be seen a hundred times over."""
    import torch

    model = causal_bert()
    with torch.no_grad():
        for layer in model.bert.encoder.layer:
            layer.attention.self.query.weight *= strength
            layer.attention.self.key.weight *= strength
    ids = np.random.default_rng(3).integers(0, VOCABULARY, (1, 40))
    (labels,) = graph_of(model).run(["label_logits"], {"input_ids": ids})
    np.testing.assert_allclose(labels, whole_model(model, ids)[-1:], atol=1e-3)


def test_a_vocabulary_costs_one_table() -> None:
    """The input's: the output's, as large, would be read for every prompt."""
    from pointsman.training.export_causal_bert import export_causal_bert

    sizes = []
    for added in (0, 1000):
        model = causal_bert()
        model.resize_token_embeddings(VOCABULARY + added, mean_resizing=False)
        sizes.append(len(export_causal_bert(model, LABELS)))
    table = 1000 * model.config.hidden_size * 4
    assert table <= sizes[1] - sizes[0] < 1.1 * table


def test_labels_must_be_some_of_the_tokens() -> None:
    """Named before anything is exported."""
    from pointsman.training.export_causal_bert import export_causal_bert

    with pytest.raises(ValueError, match="in a vocabulary of 60"):
        export_causal_bert(causal_bert(), (1, 2, 3, 4, VOCABULARY))
