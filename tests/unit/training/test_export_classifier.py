"""The exported features and head give the classifier's own logits, whatever its family."""

from typing import Any

import numpy as np
import onnxruntime as ort
import pytest

pytestmark = [pytest.mark.train, pytest.mark.usefixtures("torch_installed")]

SIZES = {
    "vocab_size": 60,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": 96,
    "num_labels": 3,
    "initializer_range": 0.3,
}


def classifier(family: str) -> Any:
    """A random sequence classifier of three labels."""
    import torch
    import transformers

    torch.manual_seed(3)
    config = getattr(transformers, f"{family}Config")(**SIZES)
    return getattr(transformers, f"{family}ForSequenceClassification")(config).eval()


@pytest.mark.parametrize("family", ["XLMRoberta", "Roberta", "Bert", "Electra"])
@pytest.mark.parametrize("length", [1, 7, 50])
def test_features_and_head_are_the_classifier(family: str, length: int) -> None:
    """`weights @ features + bias` equals transformers' logits."""
    import torch

    from pointsman.training.export_classifier import export_classifier

    model = classifier(family)
    ids = np.random.default_rng(length).integers(3, 60, (1, length))
    with torch.no_grad():
        expected = model(input_ids=torch.from_numpy(ids)).logits[0].numpy()
    exported = export_classifier(model)
    session = ort.InferenceSession(exported.graph, providers=["CPUExecutionProvider"])
    (features,) = session.run(["features"], {"input_ids": ids, "attention_mask": np.ones_like(ids)})
    assert features.shape == (1, 32)
    logits = exported.weights @ features[0] + exported.bias
    np.testing.assert_allclose(logits, expected, atol=1e-4)


def test_a_head_without_a_bias_has_none() -> None:
    """GPT-2's, for one; zeros stand for it."""
    import torch

    from pointsman.training.export_classifier import ClassifierFeatures

    model = classifier("Bert")
    model.classifier = torch.nn.Linear(32, 3, bias=False)
    weights, bias = ClassifierFeatures(model).head()
    assert weights.shape == (3, 32)
    assert bias.tolist() == [0.0, 0.0, 0.0]


def test_a_model_without_a_linear_end_is_refused() -> None:
    """One line that says which models there are."""
    import torch

    from pointsman.errors import ConfigError
    from pointsman.training.export_classifier import export_classifier

    model = classifier("Bert")
    model.classifier = torch.nn.Sequential(torch.nn.Linear(32, 3), torch.nn.Tanh())
    with pytest.raises(ConfigError, match="BertForSequenceClassification does not end in a linear"):
        export_classifier(model)
