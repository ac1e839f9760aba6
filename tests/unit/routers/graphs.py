"""Real graphs and tokenizers, small enough to work out by hand."""

from collections.abc import Sequence

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import WhitespaceSplit
from tokenizers.processors import TemplateProcessing

INPUTS = [
    helper.make_tensor_value_info(name, TensorProto.INT64, [1, "t"])
    for name in ("input_ids", "attention_mask")
]


def word_tokenizer(words: Sequence[str], *, first: str | None = None) -> bytes:
    """A tokenizer of one token a word, the last for all others; `first` begins every text."""
    vocabulary = {word: number for number, word in enumerate(words)}
    tokenizer = Tokenizer(WordLevel(vocabulary, unk_token=words[-1]))
    tokenizer.pre_tokenizer = WhitespaceSplit()
    if first is not None:
        tokenizer.post_processor = TemplateProcessing(
            single=f"{first} $A", special_tokens=[(first, vocabulary[first])]
        )
    return tokenizer.to_str().encode()


def mean_encoder(table: NDArray[np.float32]) -> bytes:
    """A graph that returns the mean of the tokens' rows in float32[v, d]."""
    nodes = [
        helper.make_node("Gather", ["table", "input_ids"], ["rows"]),
        helper.make_node("ReduceMean", ["rows"], ["pooled"], axes=[1], keepdims=0),
    ]
    output = helper.make_tensor_value_info("pooled", TensorProto.FLOAT, [1, table.shape[1]])
    return _graph(nodes, [output], {"table": table})


def bigram_decoder(
    labels: NDArray[np.float32], other_logits: NDArray[np.float32], others: NDArray[np.int64]
) -> bytes:
    """A graph that goes by the last token alone: float32[v, labels], float32[v], int64[v]."""
    nodes = [
        helper.make_node("Gather", ["input_ids", "end"], ["last"], axis=1),
        helper.make_node("Gather", ["labels", "last"], ["label_logits"]),
        helper.make_node("Gather", ["other_logits", "last"], ["other_logit"]),
        helper.make_node("Gather", ["others", "last"], ["other_token"]),
    ]
    shape = [1, labels.shape[1]]
    outputs = [
        helper.make_tensor_value_info("label_logits", TensorProto.FLOAT, shape),
        helper.make_tensor_value_info("other_logit", TensorProto.FLOAT, [1]),
        helper.make_tensor_value_info("other_token", TensorProto.INT64, [1]),
    ]
    tables = {"labels": labels, "other_logits": other_logits, "others": others}
    return _graph(nodes, outputs, {**tables, "end": np.asarray(-1)})


def label_decoder(labels: NDArray[np.float32]) -> bytes:
    """A graph that has no tokens but labels and takes no mask; by the last token, as above."""
    nodes = [
        helper.make_node("Gather", ["input_ids", "end"], ["last"], axis=1),
        helper.make_node("Gather", ["labels", "last"], ["label_logits"]),
    ]
    output = helper.make_tensor_value_info("label_logits", TensorProto.FLOAT, [1, labels.shape[1]])
    return _graph(nodes, [output], {"labels": labels, "end": np.asarray(-1)}, INPUTS[:1])


def _graph(
    nodes: list[onnx.NodeProto],
    outputs: list[onnx.ValueInfoProto],
    tables: dict[str, NDArray[np.generic]],
    inputs: list[onnx.ValueInfoProto] = INPUTS,
) -> bytes:
    weights = [numpy_helper.from_array(table, name) for name, table in tables.items()]
    graph = helper.make_graph(nodes, "tiny", inputs, outputs, weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model)
    return model.SerializeToString()
