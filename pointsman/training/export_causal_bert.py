"""A BERT with a causal mask and label tokens → the ONNX graph that `causal_llm` serves.

It rates and never writes, so the graph is cut to what a rating needs: of the output table the
labels' rows, of the last layer the last position. The label logits are those of the whole model.
Any other causal language model keeps its vocabulary: `pointsman.training.export_causal`.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import BertLMHeadModel
from transformers.models.bert.modeling_bert import BertAttention

from pointsman.training.export_causal import check_labels
from pointsman.training.tracing import trace

_UNSEEN = -40.0
"""Highest score of a token to come, counted from a position's score of itself. e^-40 of what it
pays itself is beyond float32's digits, for all of a text together too. The usual -inf instead makes
ONNX Runtime compute exponentials below float32's normal range: seven times a softmax's time."""

_ANY = 1e9
"""Highest score of a token that may be seen: none is as high."""


class CausalBert(nn.Module):  # type: ignore[misc]  # torch is untyped here
    """A decoder whose vocabulary is its labels."""

    def __init__(self, model: BertLMHeadModel, label_ids: Sequence[int]) -> None:
        """Take the model's weights, as float32.

        Raises:
            ValueError: a label is no token of the vocabulary, or all of it are labels.
        """
        super().__init__()
        check_labels(model, label_ids)
        output = model.float().get_output_embeddings()
        self.bert = model.bert
        self.transform = model.cls.predictions.transform
        self.label_rows = nn.Parameter(output.weight.detach()[list(label_ids)])
        self.label_biases = nn.Parameter(output.bias.detach()[list(label_ids)])
        self.eval()  # the exporter restores this mode, and dropout must never be on

    def forward(self, input_ids: Tensor) -> Tensor:
        """Return the labels' logits after the last token, float32[1, labels], for int64[1, t]."""
        hidden = self.bert.embeddings(input_ids)  # (1, t, h)
        length = hidden.shape[1]
        seen = torch.ones(length, length).tril() > 0  # (t, t)
        highest = torch.where(seen, _ANY, _UNSEEN)  # (t, t)
        *lower, last = self.bert.encoder.layer
        for layer in lower:
            hidden = layer.feed_forward_chunk(_attend(layer.attention, hidden, hidden, highest))
        # What the last layer makes of other positions, nothing looks at.
        end = _attend(last.attention, hidden[:, -1:], hidden, None)  # (1, 1, h)
        final = self.transform(last.feed_forward_chunk(end)[:, 0])  # (1, h)
        return functional.linear(final, self.label_rows, self.label_biases)


def export_causal_bert(model: BertLMHeadModel, label_ids: Sequence[int]) -> bytes:
    """Return the decoder as a float32 ONNX graph, one forward pass a prompt.

    The graph takes int64 ``input_ids`` [1, t] and returns ``label_logits`` float32[1, labels].

    Args:
        model: what `pointsman.training.decoder.load_decoder` makes of an encoder.
        label_ids: the token of each label, worst rating first.

    Raises:
        ValueError: a label is no token of the model, or the weights are too large for one file.
    """
    return trace(CausalBert(model, label_ids), ["label_logits"], ["input_ids"])


def _attend(
    attention: BertAttention, asking: Tensor, hidden: Tensor, highest: Tensor | None
) -> Tensor:
    """Return what the attention block makes of the positions that ask, float32[1, q, h].

    Args:
        attention: of a layer.
        asking: float32[1, q, h], whose queries are answered.
        hidden: float32[1, t, h], all positions.
        highest: float32[t, t], what each query's scores, counted from its score of itself, are
            cut to; None where the last position asks, which may look everywhere.
    """
    own = attention.self

    def heads(projected: Tensor) -> Tensor:
        return projected.unflatten(-1, (own.num_attention_heads, -1)).transpose(1, 2)

    queries = heads(own.query(asking)) * own.scaling  # (1, heads, q, h / heads)
    keys, values = heads(own.key(hidden)), heads(own.value(hidden))  # (1, heads, t, h / heads)
    scores = queries @ keys.transpose(2, 3)  # (1, heads, q, t)
    if highest is not None:
        of_itself = (queries * keys).sum(dim=-1, keepdim=True)  # (1, heads, t, 1)
        scores = torch.minimum(scores - of_itself, highest)
    mixed = scores.softmax(dim=-1) @ values  # (1, heads, q, h / heads)
    return attention.output(mixed.transpose(1, 2).flatten(start_dim=2), asking)
