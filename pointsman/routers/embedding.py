"""Prompt texts → embeddings: the first half of every embedding-based router.

The encoder here runs on this machine; an endpoint's client, elsewhere, keeps `TextEmbedder` too.
The graph pools inside (several layers' token means and the token deviation from one forward
pass), so Python sees one vector per text. Texts go through one at a time: dynamic int8 picks its
activation scale per tensor, so a neighbour in the batch would change a prompt's embedding, and on
a CPU a batch is no faster.
"""

from __future__ import annotations

import platform
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import msgspec
import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray
from tokenizers import Tokenizer

from pointsman.errors import ConfigError

CHARACTERS_PER_TOKEN = 16
"""Characters kept per token allowed. English runs at 4 to 5 characters a token and code at 3, so
only text that averages more than 16 (runs of spaces, hashes of over 100 letters) is cut short of
its last permitted token. The tokenizer itself truncates only after it has read everything: a
prompt of a million characters would cost it about a second."""


class EmbedderSettings(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """How texts become vectors; part of a bundle's manifest and of its revision."""

    max_tokens: int
    """Tokens read from the start of a text, [CLS] and [SEP] included. Higher reads more of long
    prompts and costs about 0.06 ms each; at most the encoder's position embeddings (512)."""

    dimension: int
    """Length d of one embedding."""

    model: str = ""
    """Name of the embedding model behind an OpenAI-compatible endpoint; empty for the encoder in
    the bundle."""

    @property
    def max_characters(self) -> int:
        """Characters read from the start of a text, before tokenising."""
        return self.max_tokens * CHARACTERS_PER_TOKEN


def clean_text(text: str, max_characters: int) -> str:
    """Return the start of ``text`` as valid Unicode, at most ``max_characters`` long.

    JSON may carry lone surrogates, which no UTF-8 encoder accepts: pairs are joined, lone ones
    become U+FFFD.
    """
    start = text[:max_characters]
    try:
        start.encode("utf-8")
    except UnicodeEncodeError:
        return start.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    return start


class TextEmbedder(Protocol):
    """What turns texts into embeddings, on this machine or elsewhere."""

    @property
    def settings(self) -> EmbedderSettings:
        """Limits, and the length of an embedding."""

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Return float32[n, d], row i for text i, whatever the other texts are."""


class Embedder:
    """Texts → float32[n, d] through one ONNX graph; one instance serves all threads."""

    def __init__(self, graph: bytes | Path, tokenizer: bytes, settings: EmbedderSettings) -> None:
        """Open the session and the tokenizer.

        Args:
            graph: an ONNX model with int64 inputs ``input_ids`` and ``attention_mask`` [1, t]
                and one output float32[1, d], already pooled; its file, if weights lie beside it.
            tokenizer: the text of a ``tokenizer.json``.
            settings: limits and the expected dimension.

        Raises:
            ConfigError: the graph or the tokenizer cannot be read, or the graph's dimension is
                not the one the settings name.
        """
        self.settings = settings
        self._tokenizer = open_tokenizer(tokenizer)
        self._tokenizer.enable_truncation(max_length=settings.max_tokens)
        self._session = open_session(graph)
        outputs = self._session.get_outputs()
        found = outputs[0].shape[-1]
        if found != settings.dimension:
            raise ConfigError(
                f"the encoder's embeddings have {found} numbers and the bundle names "
                f"{settings.dimension}; make the bundle again with `pointsman train`"
            )
        self._output = outputs[0].name

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Return float32[n, d], row i for text i, whatever the other texts are."""
        rows = np.empty((len(texts), self.settings.dimension), dtype=np.float32)
        for index, text in enumerate(texts):
            rows[index] = self._embed_one(text)
        return rows

    def token_count(self, text: str) -> int:
        """Return how many tokens of ``text`` are read, between 2 and ``max_tokens``."""
        return len(self._tokenizer.encode(clean_text(text, self.settings.max_characters)).ids)

    def _embed_one(self, text: str) -> NDArray[np.float32]:
        encoding = self._tokenizer.encode(clean_text(text, self.settings.max_characters))
        ids = np.asarray([encoding.ids], dtype=np.int64)  # (1, t)
        feeds = {"input_ids": ids, "attention_mask": np.ones_like(ids)}
        (pooled,) = self._session.run([self._output], feeds)
        vector: NDArray[np.float32] = pooled[0]  # (d,)
        return vector


def _int8_is_exact() -> bool:
    """Return whether this CPU multiplies int8 without saturating at 16 bits.

    x86 without VNNI does not. ONNX Runtime's precise mode is right everywhere; it is asked for
    only there, because it doubles the time where VNNI exists (22 against 9 ms at 128 tokens).
    """
    if platform.machine().lower() not in {"x86_64", "amd64"}:
        return True
    try:
        return "vnni" in Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:  # not Linux: slower, but right
        return False


def open_tokenizer(text: bytes) -> Tokenizer:
    """Return the tokenizer of a ``tokenizer.json``, without padding or truncation of its own.

    Raises:
        ConfigError: it cannot be read.
    """
    try:
        tokenizer = Tokenizer.from_str(text.decode("utf-8"))
    except Exception as error:  # the Rust library raises bare Exception
        raise ConfigError(f"the bundle's tokenizer cannot be read: {error}") from error
    tokenizer.no_padding()
    tokenizer.no_truncation()
    return tokenizer


def open_session(graph: bytes | Path) -> ort.InferenceSession:
    """Return a session on one thread of the CPU.

    Args:
        graph: an ONNX model, or the file of one whose weights lie in files beside it.

    Raises:
        ConfigError: onnxruntime refuses the graph.
    """
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    if not _int8_is_exact():
        options.add_session_config_entry("session.x64quantprecision", "1")
    try:
        return ort.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's exception classes have no public base
        raise ConfigError(f"the bundle's ONNX graph cannot be opened: {error}") from error
