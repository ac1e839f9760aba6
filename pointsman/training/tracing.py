"""A torch module for token ids → one ONNX graph, traced on texts of one row and any length."""

from __future__ import annotations

import io
import logging
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import nn

OPSET = 17
"""First opset with LayerNormalization as one operator; read by onnxruntime 1.13 and later."""

_EXAMPLE_TOKENS = 8
"""Any length above one: a trace of a single token would take the length for a constant."""


IDS_AND_MASK = ("input_ids", "attention_mask")
"""What a text is to most modules."""


def trace(module: nn.Module, outputs: Sequence[str], inputs: Sequence[str] = IDS_AND_MASK) -> bytes:
    """Return the float32 graph of a module, for one text of any length.

    Args:
        module: takes int64[1, t] for each input; returns a tensor, or a tuple of them, that does
            not grow with t. In evaluation mode.
        outputs: the names of what it returns.
        inputs: the names of what it takes.

    Raises:
        ValueError: the module is too large for one file, 2 GB; `trace_to` writes several.
    """
    if weight_bytes(module) >= LARGEST_GRAPH_BYTES:
        raise ValueError(f"{weight_bytes(module)} bytes of weights do not fit one graph of 2 GB")
    buffer = io.BytesIO()
    _export(module, outputs, inputs, buffer)
    return buffer.getvalue()


LARGEST_GRAPH_BYTES = 2**31 - 2**24
"""Protobuf's limit for one message, less 16 MB for what is no weight."""


def trace_to(module: nn.Module, outputs: Sequence[str], path: Path) -> None:
    """Write the graph that `trace` returns to ``path``; weights of 2 GB and more lie beside it."""
    _export(module, outputs, IDS_AND_MASK, str(path))  # a Path it would not know for a file's name


def weight_bytes(module: nn.Module) -> int:
    """Return how many bytes a module's weights take; shared ones count once."""
    return sum(weight.numel() * weight.element_size() for weight in module.parameters())


def _export(
    module: nn.Module, outputs: Sequence[str], inputs: Sequence[str], target: io.BytesIO | str
) -> None:
    ids = torch.ones(1, _EXAMPLE_TOKENS, dtype=torch.int64)
    with torch.no_grad(), quiet():
        torch.onnx.export(
            module,
            (ids,) * len(inputs),  # ones are good ids and a good mask
            target,
            input_names=list(inputs),
            output_names=list(outputs),
            dynamic_axes={name: {1: "tokens"} for name in inputs},
            opset_version=OPSET,
            dynamo=False,
        )


@contextmanager
def quiet() -> Iterator[None]:
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
