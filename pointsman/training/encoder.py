"""The encoder as training needs it: one graph to serve and one to compare with.

A folder in Hugging Face's layout, whether somebody else's or one that `pointsman train bert` tuned
and `save_encoder` wrote. The same folder gives the same bytes, whichever router is trained on it.
"""

from __future__ import annotations

import functools
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np
from numpy.typing import NDArray
from transformers import AutoConfig, PretrainedConfig, PreTrainedModel

from pointsman.errors import ConfigError
from pointsman.files import write_whole
from pointsman.routers.bert import ClassifierHead
from pointsman.routers.bundle import file_entry
from pointsman.routers.embedding import Embedder, EmbedderSettings
from pointsman.training.embeddings import CachedEmbedder
from pointsman.training.export import (
    Pooling,
    export_onnx,
    installed_encoder,
    load_encoder,
    quantize,
)

POOLING_NAME = "pooling.json"
"""In a tuned encoder's folder: the pooling it was tuned with, and the only one it is good for."""

TOKENIZER_NAME = "tokenizer.json"

HEAD_NAME = "head.npz"
"""In a tuned encoder's folder: the head it was tuned with, another opinion of each prompt."""

SENTENCE_TOKENS = 256
"""Tokens read to tell whether two prompts are near-duplicates."""


@dataclass(frozen=True, kw_only=True)
class Encoder:
    """The encoder in the forms that training needs, its tokenizer, and its limits."""

    served: bytes
    """int8, the graph that goes into the bundle."""

    float32: bytes
    """The served graph before quantisation."""

    tokenizer: bytes
    settings: EmbedderSettings

    def embedder(self) -> Embedder:
        """Return what embeds as the bundle will."""
        return Embedder(self.served, self.tokenizer, self.settings)

    def unquantized(self) -> Embedder:
        """Return what embeds by the float32 graph: what quantisation costs is measured by it."""
        return Embedder(self.float32, self.tokenizer, self.settings)

    def cached(self, cache: Path | None) -> CachedEmbedder:
        """Return the same for many texts, remembered in the folder ``cache``."""
        return CachedEmbedder(self.embedder(), file_entry(self.served, "").sha256, cache)


def make_encoder(folder: Path, pooling: Pooling, max_tokens: int) -> Encoder:
    """Export and quantise the encoder in ``folder``.

    Raises:
        ConfigError: the folder holds no encoder, or no tokenizer.
    """
    model = load_encoder(folder)
    float32 = export_onnx(model, pooling)
    return Encoder(
        served=quantize(float32),
        float32=float32,
        tokenizer=read_tokenizer(folder),
        settings=EmbedderSettings(
            max_tokens=max_tokens, dimension=pooling.dimension(int(model.config.hidden_size))
        ),
    )


def sentence_embeddings(texts: Sequence[str], cache: Path | None) -> NDArray[np.float32]:
    """Return float32[n, h], whose cosine finds near-duplicates: MiniLM's own sentence embeddings.

    Whatever encoder is trained: one that was tuned to tell hard from easy finds unlike prompts
    near one another.
    """
    return _sentence_embedder(cache).embed(texts)


@functools.cache
def _sentence_embedder(cache: Path | None) -> CachedEmbedder:
    folder = installed_encoder()
    last = Pooling(mean_layers=(layer_count(folder),), deviation_layers=())
    return make_encoder(folder, last, SENTENCE_TOKENS).cached(cache)


def pooling_of(folder: Path) -> Pooling:
    """Return the pooling that the encoder in ``folder`` was tuned with, else `of_pretrained`.

    Raises:
        ConfigError: the folder holds no encoder, or its pooling cannot be read.
    """
    path = folder / POOLING_NAME
    if not path.exists():
        return Pooling.of_pretrained(layer_count(folder))
    try:
        return msgspec.json.decode(path.read_bytes(), type=Pooling)
    except (OSError, msgspec.DecodeError) as error:
        raise ConfigError(
            f"{path} cannot be read: {error}; save the encoder again with `pointsman train bert "
            "--save-encoder`"
        ) from error


def layer_count(folder: Path) -> int:
    """Return how many layers the encoder in ``folder`` has.

    Raises:
        ConfigError: the folder holds no encoder.
    """
    return int(_config(folder).num_hidden_layers)


def token_limit(folder: Path) -> int:
    """Return how many tokens the encoder in ``folder`` has positions for.

    Raises:
        ConfigError: the folder holds no encoder.
    """
    config = _config(folder)
    # RoBERTa's kind counts positions from the padding token's on.
    spent = int(config.pad_token_id) + 1 if "roberta" in config.model_type else 0
    return int(config.max_position_embeddings) - spent


def _config(folder: Path) -> PretrainedConfig:
    try:
        return AutoConfig.from_pretrained(folder, local_files_only=True)
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"{folder} holds no encoder: {error}; name a folder in Hugging Face's layout with "
            "--encoder"
        ) from error


def read_tokenizer(folder: Path) -> bytes:
    """Return the text of the ``tokenizer.json`` in ``folder``.

    Raises:
        ConfigError: there is none.
    """
    try:
        return (folder / TOKENIZER_NAME).read_bytes()
    except OSError as error:
        raise ConfigError(
            f"{folder} has no {TOKENIZER_NAME}: {error}; save it with the fast tokenizer of "
            "transformers"
        ) from error


def check_is_free(folder: Path) -> None:
    """Refuse a folder that `save_encoder` would have to empty: better before than after training.

    Raises:
        ConfigError: the folder exists and holds something else than a tuned encoder.
    """
    if folder.exists() and not (folder / POOLING_NAME).exists():
        raise ConfigError(
            f"{folder} exists and was not written by --save-encoder; name a folder that does not "
            "exist yet"
        )


def tuned_head(folder: Path) -> ClassifierHead | None:
    """Return the head that the encoder in ``folder`` was tuned with, None where there is none.

    Raises:
        ConfigError: the head cannot be read.
    """
    path = folder / HEAD_NAME
    try:
        return ClassifierHead.from_bytes(path.read_bytes())
    except FileNotFoundError:
        return None
    except (OSError, ConfigError) as error:
        raise ConfigError(
            f"{path} cannot be read: {error}; save the encoder again with `pointsman train bert "
            "--save-encoder`"
        ) from error


def save_encoder(
    model: PreTrainedModel,
    tokenizer: bytes,
    pooling: Pooling,
    head: ClassifierHead,
    folder: Path,
) -> None:
    """Write a tuned encoder for `make_encoder`, replacing what an earlier run left there.

    Raises:
        ConfigError: the folder cannot be written, or is not free (`check_is_free`).
    """
    check_is_free(folder)
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=".writing-", dir=folder.parent))
        try:
            model.save_pretrained(temporary)
            write_whole(temporary / TOKENIZER_NAME, tokenizer)
            write_whole(temporary / POOLING_NAME, msgspec.json.encode(pooling))
            write_whole(temporary / HEAD_NAME, head.to_bytes())
            if folder.exists():
                shutil.rmtree(folder)
            temporary.replace(folder)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
    except OSError as error:
        raise ConfigError(f"the encoder cannot be saved to {folder}: {error}") from error
