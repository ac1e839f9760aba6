"""The encoder as training needs it: one graph to serve, one to learn from, one to compare with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from msgspec.structs import replace as replace_struct
from numpy.typing import NDArray

from pointsman.routers.bundle import file_entry
from pointsman.routers.embedding import Embedder, EmbedderSettings
from pointsman.training.embeddings import CachedEmbedder
from pointsman.training.export import Pooling, export_onnx, load_encoder, quantize


@dataclass(frozen=True, kw_only=True)
class Encoder:
    """The encoder in the forms that training needs, its tokenizer, and its limits."""

    served: bytes
    """int8, the graph that goes into the bundle."""

    wide: bytes
    """int8, the same forward pass with the last layer's token mean in front of the embedding:
    the sentence embedding, whose cosine finds near-duplicates."""

    float32: bytes
    """The served graph before quantisation."""

    tokenizer: bytes
    settings: EmbedderSettings
    sentence_width: int
    """How many numbers the wide graph puts in front."""


class TrainingTexts:
    """Embeds training texts once, by the wide graph, and hands out either part."""

    def __init__(self, encoder: Encoder, cache: Path | None) -> None:
        self._width = encoder.sentence_width
        settings = replace_struct(
            encoder.settings, dimension=encoder.settings.dimension + self._width
        )
        embedder = Embedder(encoder.wide, encoder.tokenizer, settings)
        self._cached = CachedEmbedder(embedder, file_entry(encoder.wide, "").sha256, cache)

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Return float32[n, d] as served."""
        return np.ascontiguousarray(self._cached.embed(texts)[:, self._width :])

    def sentences(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Return float32[n, h]: sentence embeddings."""
        return self._cached.embed(texts)[:, : self._width]


def make_encoder(folder: Path, pooling: Pooling, max_tokens: int) -> Encoder:
    """Export and quantise the BERT encoder in ``folder``.

    Raises:
        OSError: the folder holds no encoder.
    """
    model = load_encoder(folder)
    float32 = export_onnx(model, pooling)
    last = int(model.config.num_hidden_layers)
    wide = replace(pooling, mean_layers=(last, *pooling.mean_layers))
    width = int(model.config.hidden_size)
    parts = len(pooling.mean_layers) + len(pooling.deviation_layers)
    return Encoder(
        served=quantize(float32),
        wide=quantize(export_onnx(model, wide)),
        float32=float32,
        tokenizer=(folder / "tokenizer.json").read_bytes(),
        settings=EmbedderSettings(max_tokens=max_tokens, dimension=width * parts),
        sentence_width=width,
    )
