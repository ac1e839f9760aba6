"""A causal language model that rates the weak model's answer: 1 to 5, as a token of its own each.

``win rate = p(1) + ... + p(score_threshold - 1)`` over the label tokens ``[[1]]`` to ``[[5]]`` at
the first position where the model would write one (Ong et al. 2024, arXiv:2406.18665, as in
RouteLLM's code); 1.0, the strong model, where it never does. The graph answers for the next
position: the labels' logits, and the best token that is no label. A model that was trained to
write a label first therefore costs one forward pass. Where the labels are all its vocabulary, the
graph answers with their logits alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import msgspec
import numpy as np
from numpy.typing import NDArray

from pointsman.errors import ConfigError
from pointsman.routers.base import Router
from pointsman.routers.embedding import (
    CHARACTERS_PER_TOKEN,
    clean_text,
    open_session,
    open_tokenizer,
)
from pointsman.routers.log_odds import Platt, sigmoid

_LABELS = "label_logits"
_OTHERS = ("other_logit", "other_token")
"""Outputs of a graph whose vocabulary has more than labels."""

_Count = Annotated[int, msgspec.Meta(ge=1)]


class PromptFormat(
    msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True
):
    """How a prompt is put to the model, and how its answer is read."""

    before: str
    """Text before the prompt: instructions, and marks of a chat format as the tokenizer reads
    them."""

    after: str
    """Text after the prompt; never cut."""

    max_tokens: _Count
    """Most tokens the model is given, those it wrote itself included: at most its context. Of a
    longer prompt the end is left out."""

    add_special_tokens: bool
    """Whether the tokenizer adds what it adds to any text, such as a first token."""

    score_threshold: _Count = 4
    """Lowest rating of the weak model's answer that is good enough; ratings begin at 1."""

    max_new_tokens: _Count = 6
    """Tokens the model may write until a label must have come."""

    label_count: Annotated[int, msgspec.Meta(ge=2)] = 5
    """How many labels there are, worst rating first."""

    stop_tokens: tuple[int, ...] = ()
    """Tokens after which the model is asked no more."""

    platt: tuple[float, float] = (1.0, 0.0)
    """Scale and bias of Platt's line on the win rate's log-odds."""

    def __post_init__(self) -> None:
        """Refuse numbers that contradict each other."""
        if not 2 <= self.score_threshold <= self.label_count:
            raise ValueError(
                f"score_threshold {self.score_threshold} is not between 2 and label_count "
                f"{self.label_count}"
            )

    @property
    def prompt_tokens(self) -> int:
        """Most tokens of the prompt with its format: the rest is for what the model writes."""
        return self.max_tokens - self.max_new_tokens + 1

    def to_bytes(self) -> bytes:
        """Return the format as JSON, the same bytes for the same format."""
        return msgspec.json.encode(self)

    @classmethod
    def from_bytes(cls, data: bytes) -> PromptFormat:
        """Read what `to_bytes` wrote.

        Raises:
            ConfigError: this is no format of ours; names the field.
        """
        try:
            return msgspec.json.decode(data, type=cls)
        except msgspec.DecodeError as error:
            raise ConfigError(f"the bundle's prompt format cannot be read: {error}") from error


class PromptTokens:
    """Prompts → token ids within the limit; serves all threads."""

    def __init__(self, tokenizer: bytes, prompt_format: PromptFormat) -> None:
        """Open the tokenizer.

        Args:
            tokenizer: the text of a ``tokenizer.json``.
            prompt_format: what stands round a prompt, and the limit.

        Raises:
            ConfigError: the tokenizer cannot be read, or the format alone is beyond the limit.
        """
        self._format = prompt_format
        self._tokenizer = open_tokenizer(tokenizer)
        shortest, limit = len(self._read("")[0]), prompt_format.prompt_tokens
        if shortest > limit:
            raise ConfigError(
                f"the prompt format alone has {shortest} tokens and the bundle allows {limit} "
                f"(max_tokens {prompt_format.max_tokens}, of which max_new_tokens are the model's "
                "own); make the bundle again with a larger max_tokens"
            )

    def ids(self, prompt: str) -> list[int]:
        """Return at most ``prompt_tokens`` ids, all of ``after`` among them.

        The whole text is tokenised in one go, as the model was trained on it, and what is too
        much is taken from the end of the prompt's own tokens.
        """
        limit = self._format.prompt_tokens
        text = clean_text(prompt, limit * CHARACTERS_PER_TOKEN)
        ids, start, end = self._read(text)
        excess = len(ids) - limit
        if excess <= 0:
            return ids
        kept = max(start, end - excess)
        if len(ids) - (end - kept) <= limit:
            return ids[:kept] + ids[end:]
        return self._read("")[0]  # what no token tells apart from its surroundings: no prompt left

    def _read(self, prompt: str) -> tuple[list[int], int, int]:
        """Return all ids, and the half-open range of those that are the prompt's alone."""
        before, after = self._format.before, self._format.after
        encoding = self._tokenizer.encode(
            before + prompt + after, add_special_tokens=self._format.add_special_tokens
        )
        first, last = len(before), len(before) + len(prompt)
        inside = [
            index
            for index, ((begin, stop), added) in enumerate(
                zip(encoding.offsets, encoding.special_tokens_mask, strict=True)
            )
            if first <= begin < stop <= last and not added
        ]
        if not inside:
            return encoding.ids, 0, 0
        return encoding.ids, inside[0], inside[-1] + 1


class CausalRouter(Router):
    """The model and its labels; one instance serves all threads."""

    def __init__(
        self, decoder: bytes | Path, tokenizer: bytes, prompt_format: PromptFormat
    ) -> None:
        """Open the session and the tokenizer.

        Args:
            decoder: an ONNX model with int64 inputs ``input_ids`` and, if it likes,
                ``attention_mask`` [1, t]; for the position after the last, outputs
                ``label_logits`` float32[1, labels] and, of the likeliest token that is no label,
                ``other_logit`` float32[1] and ``other_token`` int64[1], both or, where there is no
                such token, neither. A file, if its weights lie beside it.
            tokenizer: the text of a ``tokenizer.json``.
            prompt_format: how prompts are put and answers read.

        Raises:
            ConfigError: a file cannot be read, or they do not fit together.
        """
        self._format = prompt_format
        self._platt = Platt(scale=prompt_format.platt[0], bias=prompt_format.platt[1])
        self._tokens = PromptTokens(tokenizer, prompt_format)
        self._session = open_session(decoder)
        self._takes_mask = "attention_mask" in {one.name for one in self._session.get_inputs()}
        found = {output.name: output.shape for output in self._session.get_outputs()}
        only_labels = found.keys().isdisjoint(_OTHERS)
        self._outputs = (_LABELS,) if only_labels else (_LABELS, *_OTHERS)
        if missing := set(self._outputs) - set(found):
            raise ConfigError(
                f"the bundle's decoder has no output {', '.join(sorted(missing))}; it has "
                f"{', '.join(found)}; make the bundle again with `pointsman train` or `pointsman "
                "import`"
            )
        labels = found[_LABELS][-1]
        if isinstance(labels, int) and labels != prompt_format.label_count:
            raise ConfigError(
                f"the bundle's decoder has {labels} labels and its prompt format "
                f"{prompt_format.label_count}; make the bundle again"
            )

    def strong_win_rates(self, prompts: Sequence[str]) -> NDArray[np.float32]:
        """Return float32[n] in [0, 1], same order."""
        rates = [self._win_rate(self._tokens.ids(prompt)) for prompt in prompts]
        return np.asarray(rates, dtype=np.float32)

    def _win_rate(self, ids: list[int]) -> float:
        """Return the win rate at the first label that the model writes after ``ids``."""
        for _ in range(self._format.max_new_tokens):
            (labels,), *others = self._session.run(self._outputs, self._feeds(ids))
            if not others or labels.max() >= others[0][0]:
                return self._below_threshold(labels.astype(np.float64))
            token = int(others[1][0])
            if token in self._format.stop_tokens:
                break
            ids = [*ids, token]
        return 1.0  # it never rated the weak model's answer: nothing speaks for the weak model

    def _feeds(self, ids: list[int]) -> dict[str, NDArray[np.int64]]:
        """Return the graph's inputs for one text."""
        inputs = np.asarray([ids], dtype=np.int64)  # (1, t)
        mask = {"attention_mask": np.ones_like(inputs)} if self._takes_mask else {}
        return {"input_ids": inputs, **mask}

    def _below_threshold(self, label_logits: NDArray[np.float64]) -> float:
        """Return how likely a rating below the threshold is among float64[labels]."""
        good = self._format.score_threshold - 1
        odds = np.logaddexp.reduce(label_logits[:good]) - np.logaddexp.reduce(label_logits[good:])
        return float(sigmoid(self._platt.apply(np.asarray(odds))))
