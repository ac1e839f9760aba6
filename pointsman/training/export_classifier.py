"""A sequence classifier → an ONNX graph for its features, and the head that reads them.

The last linear layer stays out of the graph: it is small, never quantised, and several routers
over one encoder can then share the graph.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn
from transformers import PreTrainedModel

from pointsman.errors import ConfigError
from pointsman.training.tracing import trace

CLASSIFIER_OUTPUTS = ("features",)
"""What the graph returns: float32[1, d]."""


@dataclass(frozen=True, kw_only=True, eq=False)
class ExportedClassifier:
    """A classifier in two parts: ``logits = weights @ features + bias``."""

    graph: bytes
    """ONNX: int64 ``input_ids`` and ``attention_mask`` [1, t] → ``features`` float32[1, d]."""

    weights: NDArray[np.float32]
    """float32[labels, d]."""

    bias: NDArray[np.float32]
    """float32[labels]."""


class ClassifierFeatures(nn.Module):  # type: ignore[misc]  # torch is untyped here
    """What a classifier's last linear layer reads."""

    def __init__(self, model: PreTrainedModel) -> None:
        """Take the model without its last layer, in evaluation mode, float32.

        Raises:
            ConfigError: the model does not end in a linear layer of its own.
        """
        super().__init__()
        # "eager" attention is plain matrix products: exportable, and quantised like the rest.
        model.set_attn_implementation("eager")
        self.model = model.float()
        self._last = _take_head(model)
        self.eval()  # the exporter restores this mode, and dropout must never be on

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Return float32[1, d] for int64[1, t] ids and mask."""
        return self.model(input_ids=input_ids, attention_mask=attention_mask).logits

    def head(self) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Return float32[labels, d] weights and float32[labels] bias of the last layer."""
        weights = self._last.weight.detach().numpy().copy()
        if self._last.bias is None:
            return weights, np.zeros(len(weights), dtype=np.float32)
        return weights, self._last.bias.detach().numpy().copy()


def export_classifier(model: PreTrainedModel) -> ExportedClassifier:
    """Return the classifier's features as a float32 graph, and its head; the model is used up.

    Args:
        model: a sequence classifier of transformers: for XLM-RoBERTa the features are the dense
            layer's tanh over the first token, for BERT the pooler's output.

    Raises:
        ConfigError: the model does not end in a linear layer.
    """
    features = ClassifierFeatures(model)
    weights, bias = features.head()
    return ExportedClassifier(graph=trace(features, CLASSIFIER_OUTPUTS), weights=weights, bias=bias)


def _take_head(model: PreTrainedModel) -> nn.Linear:
    """Return the last linear layer, after putting the identity in its place."""
    roberta = getattr(model, "classifier", None)  # there, a module with layers of its own
    for owner, name in ((roberta, "out_proj"), (model, "classifier"), (model, "score")):
        layer = getattr(owner, name, None)
        if isinstance(layer, nn.Linear):
            setattr(owner, name, nn.Identity())
            return layer
    raise ConfigError(
        f"{type(model).__name__} does not end in a linear layer `classifier` or `score`; use a "
        "BERT, RoBERTa, XLM-RoBERTa, DistilBERT or ELECTRA sequence classifier"
    )
