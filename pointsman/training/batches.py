"""Tokenised examples with their labels → padded batches, the same ones for the same seed.

Padding is what a batch of mixed lengths mostly consists of, so a bucket of many batches is drawn
at a time, sorted by length and cut into batches, which then come in random order.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pointsman.routers.embedding import CHARACTERS_PER_TOKEN, clean_text, open_tokenizer

BATCHES_PER_BUCKET = 16
"""Batches sorted together: padding falls to a few per cent, and what a batch holds stays random."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Batch:
    """b examples, padded to the longest."""

    input_ids: Tensor
    """int64[b, t]."""

    attention_mask: Tensor
    """int64[b, t]: 1 for tokens, 0 for padding, which comes last."""

    labels: Mapping[str, Tensor]
    """What the corpus has under each name, these examples' rows of it."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Corpus:
    """n tokenised examples and what is to be learnt of them."""

    token_ids: Sequence[NDArray[np.int32]]
    """n rows of int32[t_i], cut to the model's length already."""

    weights: NDArray[np.float64]
    """float64[n], positive: how often an example is drawn, and what it counts when held out."""

    labels: Mapping[str, NDArray[np.generic]]
    """Name → array[n, ...]: whatever the model's loss reads."""

    def __len__(self) -> int:
        return len(self.token_ids)

    def subset(self, rows: NDArray[np.bool_]) -> Corpus:
        """Return the examples that ``rows`` (bool[n]) marks."""
        kept = np.flatnonzero(rows)
        return Corpus(
            token_ids=[self.token_ids[int(row)] for row in kept],
            weights=self.weights[kept],
            labels={name: values[kept] for name, values in self.labels.items()},
        )

    def sample(self, count: int, seed: int) -> Corpus:
        """Return at most so many examples, all of them equally likely to be among them."""
        chosen = np.random.default_rng(seed).permutation(len(self))[:count]
        return self.subset(np.isin(np.arange(len(self)), chosen))

    def batch(self, rows: NDArray[np.int64], device: torch.device) -> Batch:
        """Return these rows, padded to their longest, on the device."""
        lengths = np.asarray([len(self.token_ids[row]) for row in rows])
        ids = np.zeros((len(rows), lengths.max()), dtype=np.int64)  # (b, t)
        for place, row in enumerate(rows):
            ids[place, : lengths[place]] = self.token_ids[row]
        mask = (np.arange(ids.shape[1]) < lengths[:, None]).astype(np.int64)  # (b, t)
        return Batch(
            input_ids=torch.from_numpy(ids).to(device),
            attention_mask=torch.from_numpy(mask).to(device),
            labels={
                name: torch.from_numpy(values[rows]).to(device)
                for name, values in self.labels.items()
            },
        )

    def rows_of_step(self, step: int, batch_size: int, seed: int) -> NDArray[np.int64]:
        """Return the rows of a training step, a function of its arguments: so runs can resume.

        Within a bucket no example comes twice; which ones come follows the weights.
        """
        drawn = min(BATCHES_PER_BUCKET * batch_size, len(self))
        batches = -(-drawn // batch_size)
        bucket, place = divmod(step, batches)
        generator = np.random.default_rng([seed, bucket])
        # The first k of independent exponential clocks are k draws in proportion to their rates.
        rows = np.argsort(generator.exponential(size=len(self)) / self.weights)[:drawn]
        lengths = np.asarray([len(self.token_ids[row]) for row in rows])
        parts = np.array_split(rows[np.argsort(lengths, kind="stable")], batches)
        chosen: NDArray[np.int64] = parts[generator.permutation(batches)[place]]
        return chosen

    def rows_by_length(self, batch_size: int) -> Iterator[NDArray[np.int64]]:
        """Yield every row once, in batches of like length: for what is only measured."""
        order = np.argsort([len(ids) for ids in self.token_ids], kind="stable")
        for start in range(0, len(order), batch_size):
            yield order[start : start + batch_size]

    def digest(self) -> str:
        """Return 64 hexadecimal digits over texts, weights and labels."""
        found = sha256(self.weights.tobytes())
        for ids in self.token_ids:
            found.update(np.int64(len(ids)).tobytes() + ids.tobytes())
        for name in sorted(self.labels):
            found.update(name.encode() + np.ascontiguousarray(self.labels[name]).tobytes())
        return found.hexdigest()


def tokenize(tokenizer: bytes, texts: Sequence[str], max_tokens: int) -> list[NDArray[np.int32]]:
    """Return the token ids of each text, cut as serving cuts them.

    Args:
        tokenizer: the text of a ``tokenizer.json``.
        texts: n texts.
        max_tokens: tokens kept from the start, special ones included.
    """
    opened = open_tokenizer(tokenizer)
    opened.enable_truncation(max_length=max_tokens)
    starts = [clean_text(text, max_tokens * CHARACTERS_PER_TOKEN) for text in texts]
    return [np.asarray(found.ids, dtype=np.int32) for found in opened.encode_batch(starts)]
