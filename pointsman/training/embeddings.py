"""Texts → embeddings for training: the served embedder on all cores, with a cache on disk.

Training sees what serving computes, int8 rounding included; embedding is most of a training's
time, so each text is embedded once per encoder. The cache keeps half precision, and so does a run
without one, lest the two differ: its rounding (0.05 %) is far below that of int8 (about 1 %).
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from pointsman.routers.embedding import Embedder


class CachedEmbedder:
    """Embeds many texts in parallel and remembers them in one file per encoder."""

    def __init__(self, embedder: Embedder, encoder_sha256: str, folder: Path | None) -> None:
        """Read what an earlier run left.

        Args:
            embedder: the very embedder that will be served.
            encoder_sha256: names the cache, so another encoder never reads it.
            folder: where the cache lies; None keeps it in memory only.
        """
        self._embedder = embedder
        limit = embedder.settings.max_tokens
        self._path = folder and folder / f"{encoder_sha256[:16]}-{limit}.npz"
        self._known: dict[bytes, NDArray[np.float16]] = {}
        if self._path and self._path.exists():
            with np.load(self._path, allow_pickle=False) as stored:
                keys, rows = stored["keys"], stored["rows"]
            self._known = {key.tobytes(): row for key, row in zip(keys, rows, strict=True)}

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Return float32[n, d], row i for text i, exact to half precision."""
        keys = [_key(text) for text in texts]
        missing = {
            key: text for key, text in zip(keys, texts, strict=True) if key not in self._known
        }
        if missing:
            with ThreadPoolExecutor(os.cpu_count()) as pool:
                rows = pool.map(self._embed_one, missing.values())
                progress = tqdm(
                    rows, total=len(missing), desc="embedding", unit="text", disable=None
                )
                self._known.update(zip(missing, progress, strict=True))
            self._store()
        if not keys:
            return np.empty((0, self._embedder.settings.dimension), dtype=np.float32)
        return np.stack([self._known[key] for key in keys]).astype(np.float32)

    def _embed_one(self, text: str) -> NDArray[np.float16]:
        half: NDArray[np.float16] = self._embedder.embed([text])[0].astype(np.float16)
        return half

    def _store(self) -> None:
        if not self._path:
            return
        self._path.parent.mkdir(parents=True, exist_ok=True)
        temporary = self._path.with_suffix(f".{os.getpid()}.tmp")
        with temporary.open("wb") as stream:
            np.savez(
                stream,
                keys=np.frombuffer(b"".join(self._known), dtype=np.uint8).reshape(-1, 32),
                rows=np.stack(list(self._known.values())),
            )
        temporary.replace(self._path)


def _key(text: str) -> bytes:
    return sha256(text.encode("utf-8", "surrogatepass")).digest()
