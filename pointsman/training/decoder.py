"""The network that `causal_llm` fine-tunes: a decoder that rates the weak model's answer unseen.

The rating is one of five tokens, ``[[1]]`` to ``[[5]]``, that the vocabulary gains. Only their rows
of the output table are trained: the table is the input's too, and most of its rows never come up.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from tokenizers import AddedToken
from torch import Tensor, nn
from torch.nn import functional
from transformers import AutoConfig, AutoModelForCausalLM, BertLMHeadModel, PreTrainedModel

from pointsman.errors import ConfigError
from pointsman.routers.embedding import open_tokenizer
from pointsman.training.batches import Batch, Corpus
from pointsman.training.export import silence_transformers
from pointsman.training.export_causal import LABEL_TOKENS
from pointsman.training.finetune import Tunable
from pointsman.training.labels import PromptLabels


class RatingDecoder(Tunable):
    """Logits of the five ratings at the position after the prompt, and of all other tokens."""

    def __init__(
        self,
        model: PreTrainedModel,
        label_ids: Sequence[int],
        *,
        source_count: int,
        first_token_weight: float,
        tune_embeddings: bool = False,
    ) -> None:
        """Give a decoder rows for the labels, which say nothing yet.

        Args:
            model: a causal language model whose vocabulary holds the labels already.
            label_ids: their tokens, worst rating first.
            source_count: how many sources there are: each has intercepts, which are not served.
            first_token_weight: weight of the loss for which the next token is a rating at all.
            tune_embeddings: train the table of token embeddings too.
        """
        super().__init__()
        output = model.get_output_embeddings()
        self.label_rows = nn.Parameter(torch.zeros(len(label_ids), output.weight.shape[1]))
        self.intercepts = nn.Parameter(torch.zeros(source_count, len(label_ids)))
        self.label_ids = list(label_ids)
        self.first_token_weight = first_token_weight
        model.get_input_embeddings().requires_grad_(tune_embeddings)
        output.requires_grad_(tune_embeddings)
        self._hook = output.register_forward_hook(self._with_label_rows)
        self.body = model

    def losses(self, batch: Batch) -> Tensor:
        """Return float[b]: cross-entropy of the rating, and of there being one."""
        input_ids, mask = left_padded(batch)
        logits = self.body(
            input_ids=input_ids,
            attention_mask=mask,
            position_ids=(mask.cumsum(dim=1) - 1).clamp(min=0),
            use_cache=False,
            logits_to_keep=1,
        ).logits[:, -1]  # (b, vocabulary)
        logits = logits.float()
        ratings = logits[:, self.label_ids]  # (b, 5)
        apart = self.intercepts - self.intercepts.mean(dim=0)  # what all share is served
        rated = functional.cross_entropy(
            ratings + apart[batch.labels["source"]], batch.labels["ratings"], reduction="none"
        )
        is_rating = logits.logsumexp(dim=1) - ratings.logsumexp(dim=1)  # -log P(a rating)
        return rated + self.first_token_weight * is_rating

    def tuned_model(self) -> PreTrainedModel:
        """Return the decoder with the trained rows in its own output table."""
        self._hook.remove()
        with torch.no_grad():
            self.body.get_output_embeddings().weight[self.label_ids] = self.label_rows
        return self.body

    def _with_label_rows(self, _: nn.Module, inputs: tuple[Tensor, ...], logits: Tensor) -> Tensor:
        """Return the output layer's logits, the labels' computed from the trained rows."""
        rated = functional.linear(inputs[0], self.label_rows).to(logits.dtype)
        return logits.index_copy(-1, torch.tensor(self.label_ids, device=logits.device), rated)


def rating_corpus(token_ids: Sequence[NDArray[np.int32]], labels: PromptLabels) -> Corpus:
    """Return n examples for `RatingDecoder`.

    Args:
        token_ids: p prompts in their format, tokenised.
        labels: n labels of them.
    """
    return Corpus(
        token_ids=[token_ids[prompt] for prompt in labels.prompt_index],
        weights=labels.weights,
        labels={"source": labels.source_index, "ratings": labels.ratings},
    )


def left_padded(batch: Batch) -> tuple[Tensor, Tensor]:
    """Return ids and mask, int64[b, t], with the padding in front: the last column is the end."""
    length = batch.input_ids.shape[1]
    shift = length - batch.attention_mask.sum(dim=1, keepdim=True)  # (b, 1)
    places = (torch.arange(length, device=shift.device) - shift) % length  # (b, t)
    return batch.input_ids.gather(1, places), batch.attention_mask.gather(1, places)


def load_decoder(folder: Path) -> PreTrainedModel:
    """Return the causal language model in ``folder``, float32, never from the network.

    An encoder of BERT's kind becomes one: with a causal mask, and the table of its input
    embeddings as output. The layer between, which an encoder lacks, lets everything through.

    Raises:
        ConfigError: the folder holds no such model.
    """
    silence_transformers()
    try:
        config = AutoConfig.from_pretrained(folder, local_files_only=True)
        kind = BertLMHeadModel if config.model_type == "bert" else AutoModelForCausalLM
        if kind is BertLMHeadModel:
            config.is_decoder = True
            config.hidden_dropout_prob = config.attention_probs_dropout_prob = 0.0
        model, found = kind.from_pretrained(
            folder,
            config=config,
            local_files_only=True,
            attn_implementation="eager",
            dtype=torch.float32,
            output_loading_info=True,
        )
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"{folder} holds no language model that can be read: {error}; name a folder in "
            "Hugging Face's layout with --base-model"
        ) from error
    if any("transform.dense" in name for name in found["missing_keys"]):
        dense = model.cls.predictions.transform.dense
        nn.init.eye_(dense.weight)
        nn.init.zeros_(dense.bias)
    return model.eval()


def add_labels(model: PreTrainedModel, tokenizer: bytes) -> tuple[bytes, list[int]]:
    """Give the model's vocabulary the label tokens; return the new tokenizer and their ids.

    Labels that the tokenizer has already keep their ids.
    """
    opened = open_tokenizer(tokenizer)
    opened.add_special_tokens([AddedToken(label, normalized=False) for label in LABEL_TOKENS])
    vocabulary = opened.get_vocab()
    ids = [vocabulary[label] for label in LABEL_TOKENS]
    if max(ids) >= model.get_input_embeddings().weight.shape[0]:
        model.resize_token_embeddings(max(ids) + 1, mean_resizing=False)
    return opened.to_str().encode("utf-8"), ids
