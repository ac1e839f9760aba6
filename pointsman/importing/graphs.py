"""A torch module → the ONNX files of a bundle, in the precision that is served.

A graph of 2 GB or more, protobuf's limit, is two files: the graph, and the weights, which the
graph names by the name that their blob will have, so that both lie side by side in ``blobs/``.
"""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import onnx
from onnx.external_data_helper import (
    ExternalDataInfo,
    set_external_data,
    uses_external_data,
)
from onnxruntime.quantization import QuantType, quantize_dynamic
from torch import nn

from pointsman.importing.settings import Precision
from pointsman.training.bundling import SUFFIXES
from pointsman.training.export import quantize
from pointsman.training.tracing import LARGEST_GRAPH_BYTES, quiet, trace, trace_to, weight_bytes

logger = logging.getLogger(__name__)

DATA_SUFFIX = SUFFIXES["decoder_data"]
"""Ending of the blob that holds a large graph's weights, whatever the graph's role."""

_SMALLEST_BYTES = 1024
"""Smaller weights, shapes and indexes among them, stay in the graph."""

_ALIGNMENT = 4096
"""Weights begin at whole pages, so that the runtime can map them rather than copy."""


@dataclass(frozen=True, kw_only=True)
class GraphFiles:
    """An ONNX graph, and the weights that do not fit into it."""

    graph: bytes
    data: bytes | None = None
    """None where the graph holds everything."""

    def roles(self, role: str) -> Mapping[str, bytes]:
        """Return role → content: the graph's, and ``<role>_data``'s where there is any."""
        return {role: self.graph, **({f"{role}_data": self.data} if self.data else {})}


def export_graph(
    module: nn.Module,
    outputs: Sequence[str],
    precision: Precision,
    operators: Sequence[str],
    *,
    largest_bytes: int = LARGEST_GRAPH_BYTES,
) -> tuple[GraphFiles, GraphFiles | None]:
    """Return the files of a module's graph as served, and in full precision.

    Args:
        module: what `pointsman.training.tracing.trace` takes.
        outputs: the names of what it returns.
        precision: ``int8`` quantises weights, matrices per channel.
        operators: the ONNX operators whose weights are quantised.
        largest_bytes: weights of so many bytes and more, as float32, get a file of their own, and
            the second result is None.
    """
    size = weight_bytes(module)
    logger.info("exporting %.3g GB of weights", size / 1e9)
    if size < largest_bytes:
        full = GraphFiles(graph=trace(module, outputs))
        if precision == "float32":
            return full, full
        logger.info("making them int8")
        return GraphFiles(graph=quantize(full.graph, operators)), full
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "float32.onnx"
        trace_to(module, outputs, path)
        if precision == "int8":
            logger.info("making them int8")
            path = _quantized(path, operators)
        return _split(path), None


def _quantized(path: Path, operators: Sequence[str]) -> Path:
    target = path.with_name("int8.onnx")
    with quiet():
        quantize_dynamic(
            path,
            target,
            op_types_to_quantize=list(operators),
            per_channel=True,
            weight_type=QuantType.QInt8,
            use_external_data_format=True,
        )
    return target


def _split(path: Path) -> GraphFiles:
    """Return the graph in a file and its weights apart, read one at a time."""
    model: Any = onnx.load(path, load_external_data=False)
    data = bytearray()
    placed: list[tuple[Any, int, int]] = []
    for tensor in model.graph.initializer:
        weights = _weights(tensor, path.parent)
        if len(weights) < _SMALLEST_BYTES and not uses_external_data(tensor):
            continue
        data += bytes(-len(data) % _ALIGNMENT)
        placed.append((tensor, len(data), len(weights)))
        data += weights
    location = sha256(data).hexdigest() + DATA_SUFFIX
    for tensor, offset, length in placed:
        tensor.raw_data = b""  # the library sets a place for those alone that have data
        set_external_data(tensor, location=location, offset=offset, length=length)
        tensor.ClearField("raw_data")
    for node in model.graph.node:  # documentation strings may hold paths of this machine
        node.doc_string = ""
        node.ClearField("metadata_props")
    return GraphFiles(graph=model.SerializeToString(deterministic=True), data=bytes(data))


def _weights(tensor: Any, folder: Path) -> bytes:
    """Return a tensor's numbers, from the graph or from the file that it names."""
    if not uses_external_data(tensor):
        inside: bytes = tensor.raw_data
        return inside
    place = ExternalDataInfo(tensor)
    with (folder / place.location).open("rb") as stream:
        stream.seek(place.offset or 0)
        beside: bytes = stream.read(place.length or -1)
    return beside
