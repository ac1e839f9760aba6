"""A decoder with label tokens → one ONNX graph that answers with the labels' logits.

The graph runs the decoder once and its head at the last position only: the label's logits where
the first new token is a label, and otherwise that token, so that a router can append it and ask
again. Any causal language model of transformers will do: Llama, or a BERT with a causal mask, of
which `pointsman.training.export_causal_bert` makes a cheaper graph.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from pointsman.training.tracing import trace, trace_to

LABEL_TOKENS = tuple(f"[[{rating}]]" for rating in range(1, 6))
"""What RouteLLM's models write as a rating, worst answer first."""

CAUSAL_OUTPUTS = ("label_logits", "other_logit", "other_token")
"""What the graph returns: float32[1, labels], float32[1] and int64[1]."""


class LabelDecoder(nn.Module):  # type: ignore[misc]  # torch is untyped here
    """A causal language model that says how likely each label is to come next."""

    def __init__(self, model: PreTrainedModel, label_ids: Sequence[int]) -> None:
        """Wrap the model, in evaluation mode, float32, with attention that can be traced.

        Raises:
            ValueError: a label is no token of the vocabulary, or all of it are labels.
        """
        super().__init__()
        check_labels(model, label_ids)
        # "eager" attention is plain matrix products: exportable, and quantised like the rest.
        model.set_attn_implementation("eager")
        self.model = model.float()
        self.register_buffer("labels", torch.tensor(list(label_ids)), persistent=False)
        self.eval()  # the exporter restores this mode, and dropout must never be on

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return the label logits, the best other token's logit, and that token.

        Args:
            input_ids: int64[1, t].
            attention_mask: int64[1, t], 0 for tokens that nothing may look at.
        """
        logits = self.model(
            input_ids=input_ids,
            attention_mask=_causal_mask(attention_mask),
            position_ids=attention_mask.cumsum(dim=1) - 1,
            use_cache=False,
            logits_to_keep=1,
        ).logits[:, -1]  # (1, vocabulary)
        labels = logits[:, self.labels]  # (1, labels)
        others = logits.index_fill(1, self.labels, -torch.inf)
        other_logit, other_token = others.max(dim=1)
        return labels, other_logit, other_token


def check_labels(model: PreTrainedModel, label_ids: Sequence[int]) -> None:
    """Refuse labels that are no tokens of the model.

    Raises:
        ValueError: a label is no token of the vocabulary, or all of it are labels.
    """
    vocabulary = model.get_output_embeddings().weight.shape[0]
    if any(not 0 <= label < vocabulary for label in label_ids):
        raise ValueError(f"label tokens {list(label_ids)} in a vocabulary of {vocabulary}")
    if len(set(label_ids)) >= vocabulary:
        raise ValueError(f"a vocabulary of {vocabulary} has nothing but labels")


def export_causal(model: PreTrainedModel, label_ids: Sequence[int]) -> bytes:
    """Return the decoder as a float32 ONNX graph, one forward pass a prompt.

    The graph takes int64 ``input_ids`` and ``attention_mask`` [1, t] and returns
    ``label_logits`` float32[1, labels], ``other_logit`` float32[1] and ``other_token`` int64[1],
    all of the position after the last token.

    Args:
        model: a causal language model; its weights become float32.
        label_ids: the token of each label, worst rating first.

    Raises:
        ValueError: a label is no token of the model, or the weights are too large for one file.
    """
    return trace(LabelDecoder(model, label_ids), CAUSAL_OUTPUTS)


def export_causal_to(model: PreTrainedModel, label_ids: Sequence[int], path: Path) -> None:
    """Write the graph of `export_causal` to a file, of any size: large weights lie beside it."""
    trace_to(LabelDecoder(model, label_ids), CAUSAL_OUTPUTS, path)


def _causal_mask(attention_mask: Tensor) -> Tensor:
    """Return float32[1, 1, t, t] to be added to attention: 0 where a token may look.

    Made here because transformers' own masks cannot be traced for every length; a mask of four
    dimensions is taken as it is.
    """
    length = attention_mask.shape[1]
    earlier = torch.ones(length, length, dtype=torch.float32).tril()  # (t, t)
    seen = earlier * attention_mask[:, None, None, :].to(torch.float32)  # (1, 1, t, t)
    return (1.0 - seen) * torch.finfo(torch.float32).min
