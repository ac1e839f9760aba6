"""The network that `bert` fine-tunes: encoder, pooling, and linear heads on one embedding."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional
from transformers import PreTrainedModel

from pointsman.training.batches import Batch, Corpus
from pointsman.training.export import PooledEncoder, Pooling
from pointsman.training.finetune import Tunable
from pointsman.training.labels import PromptLabels, Task

CLASSES = 3
"""0 strong needed, 1 tie, 2 weak better: RouteLLM's order."""


class PromptClassifier(Tunable):
    """float32[b, 3] class logits, and a logit for each task beside them.

    Sources differ in how hard they are as a whole, which says nothing about prompts: each has an
    intercept of its own, which is not served.
    """

    def __init__(
        self,
        encoder: PreTrainedModel,
        pooling: Pooling,
        tasks: Sequence[Task],
        *,
        source_count: int,
        dropout: float,
        tune_embeddings: bool = False,
    ) -> None:
        """Put heads that say nothing yet on an encoder.

        Args:
            encoder: the pretrained body, tuned in place.
            pooling: which layers the heads see.
            tasks: what is learnt beside the classes, in the order of the corpus' labels.
            source_count: how many sources there are.
            dropout: part of the embedding that the heads do not see in a training step, in [0, 1).
            tune_embeddings: train the table of token embeddings too. It is half of MiniLM, few of
                its rows come up in a batch, and the optimiser pays for all of them.
        """
        super().__init__()
        self.body = PooledEncoder(encoder, pooling)
        encoder.get_input_embeddings().requires_grad_(tune_embeddings)
        dimension = self.body.dimension
        self.dropout = nn.Dropout(dropout)
        self.classes = _silent(dimension, CLASSES)
        self.tasks = _silent(dimension, len(tasks))
        self.class_intercepts = nn.Parameter(torch.zeros(source_count, CLASSES))
        self.task_intercepts = nn.Parameter(torch.zeros(source_count, len(tasks)))
        self.task_weights = [task.weight for task in tasks]

    def losses(self, batch: Batch) -> Tensor:
        """Return float[b]: cross-entropy of the classes, and the tasks' by their weights."""
        embedding = self.body(batch.input_ids, batch.attention_mask)
        embedding = self.dropout(embedding)  # (b, d)
        source = batch.labels["source"]
        logits = self.classes(embedding).float() + self.class_intercepts[source]  # (b, 3)
        losses = functional.cross_entropy(logits, batch.labels["classes"], reduction="none")
        if not self.task_weights:
            return losses
        targets = batch.labels["tasks"]  # (b, k)
        known = ~targets.isnan()
        logits = self.tasks(embedding).float() + self.task_intercepts[source]  # (b, k)
        apart = functional.binary_cross_entropy_with_logits(
            logits, targets.nan_to_num(0.5), reduction="none"
        )
        weights = torch.tensor(self.task_weights, device=logits.device)
        return losses + (apart * known) @ weights

    def head(self) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Return the served head: weights float32[3, d] and bias float32[3].

        The bias includes the sources' mean intercept.
        """
        bias = self.classes.bias + self.class_intercepts.mean(dim=0)
        return self.classes.weight.detach().numpy(), bias.detach().numpy()


def classifier_corpus(
    token_ids: Sequence[NDArray[np.int32]], labels: PromptLabels, tasks: Sequence[Task]
) -> Corpus:
    """Return n examples for `PromptClassifier`.

    Args:
        token_ids: p prompts, tokenised.
        labels: n labels of them.
        tasks: with n targets each.
    """
    return Corpus(
        token_ids=[token_ids[prompt] for prompt in labels.prompt_index],
        weights=labels.weights,
        labels={
            "source": labels.source_index,
            "classes": labels.classes,
            "tasks": np.stack([task.targets for task in tasks], axis=1)
            if tasks
            else np.empty((len(labels.weights), 0), dtype=np.float32),
        },
    )


def _silent(inputs: int, outputs: int) -> nn.Linear:
    layer = nn.Linear(inputs, outputs)
    nn.init.zeros_(layer.weight)
    nn.init.zeros_(layer.bias)
    return layer
