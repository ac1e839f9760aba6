"""Matrix factorisation: RouteLLM's bilinear form on a local embedding, served as one vector.

``win rate = sigmoid(delta(strong) - delta(weak))`` with
``delta(M) = c · (normalise(P[M]) ⊙ (T x))`` (Ong et al. 2024, arXiv:2406.18665, as in RouteLLM's
code, which has no bias). For a fixed pair this is linear in x, so the pair's
``v = T' ((p_strong - p_weak) ⊙ c)`` gives the same number from one dot product.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from pointsman.errors import ConfigError
from pointsman.routers.base import EmbeddingRouter
from pointsman.routers.embedding import TextEmbedder
from pointsman.routers.log_odds import sigmoid
from pointsman.routing import ModelPair


@dataclass(frozen=True, kw_only=True, eq=False)
class BilinearWeights:
    """The trained form, as RouteLLM stores it, with m models, rank k and dimension d."""

    model_names: tuple[str, ...]
    """m canonical model names; row i of ``model_vectors`` belongs to name i."""

    model_vectors: NDArray[np.float32]
    """P, float32[m, k]; rows need not be normalised."""

    projection: NDArray[np.float32]
    """T, float32[k, d]."""

    classifier: NDArray[np.float32]
    """c, float32[k]."""

    scale: float = 1.0
    """Platt slope on ``delta(strong) - delta(weak)``; 1 leaves RouteLLM's form as it is."""

    bias: float = 0.0
    """Platt intercept, in log-odds; 0 leaves RouteLLM's form as it is."""

    @property
    def dimension(self) -> int:
        """Return d, the length of the embeddings it was fitted to."""
        return int(self.projection.shape[1])

    def delta(self, model: str, embeddings: NDArray[np.float32]) -> NDArray[np.float64]:
        """Return float64[n]: the formula itself, for each of float32[n, d] embeddings."""
        vector = self._unit_vector(model)  # (k,)
        projected = embeddings.astype(np.float64) @ self.projection.astype(np.float64).T  # (n, k)
        delta: NDArray[np.float64] = (projected * vector) @ self.classifier.astype(np.float64)
        return delta

    def collapse(self, pair: ModelPair) -> tuple[NDArray[np.float64], float]:
        """Return (v float64[d], bias) with ``win rate = sigmoid(v · x + bias)`` for this pair."""
        difference = self._unit_vector(pair.strong) - self._unit_vector(pair.weak)  # (k,)
        combined = difference * self.classifier.astype(np.float64)  # (k,)
        return self.scale * (combined @ self.projection.astype(np.float64)), self.bias  # (d,)

    def _unit_vector(self, model: str) -> NDArray[np.float64]:
        try:
            row = self.model_vectors[self.model_names.index(model)].astype(np.float64)
        except ValueError:
            known = ", ".join(self.model_names)
            raise ConfigError(f"no vector for model {model!r}; trained models: {known}") from None
        unit: NDArray[np.float64] = row / np.linalg.norm(row)
        return unit

    def to_bytes(self) -> bytes:
        """Return the weights as an .npz archive, the same bytes for the same weights."""
        buffer = io.BytesIO()
        np.savez(
            buffer,
            model_names=np.asarray(self.model_names),
            model_vectors=self.model_vectors,
            projection=self.projection,
            classifier=self.classifier,
            platt=np.asarray([self.scale, self.bias], dtype=np.float64),
        )
        return buffer.getvalue()

    @classmethod
    def from_bytes(cls, data: bytes) -> BilinearWeights:
        """Read what `to_bytes` wrote.

        Raises:
            ConfigError: the archive is not one of ours.
        """
        try:
            with np.load(io.BytesIO(data), allow_pickle=False) as archive:
                scale, bias = (float(number) for number in archive["platt"])
                return cls(
                    model_names=tuple(str(name) for name in archive["model_names"]),
                    model_vectors=archive["model_vectors"],
                    projection=archive["projection"],
                    classifier=archive["classifier"],
                    scale=scale,
                    bias=bias,
                )
        except (OSError, ValueError, KeyError, EOFError, BadZipFile) as error:
            raise ConfigError(f"the bundle's mf weights cannot be read: {error}") from error


class MatrixFactorizationRouter(EmbeddingRouter):
    """The collapsed form for one model pair: an embedding and one dot product per prompt."""

    def __init__(self, embedder: TextEmbedder, weights: BilinearWeights, pair: ModelPair) -> None:
        """Collapse the weights for the pair.

        Raises:
            ConfigError: a model of the pair has no vector, or the weights were trained on
                embeddings of another dimension.
        """
        super().__init__(embedder, "mf", weights.projection.shape[1])
        self._vector, self._bias = weights.collapse(pair)

    def win_rates_of(self, embeddings: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return float32[n] in [0, 1] for float32[n, d] that are embedded already."""
        # A row at a time: a matrix product's summation order depends on n, and a prompt's win
        # rate must not depend on its neighbours.
        log_odds = np.asarray([row.astype(np.float64) @ self._vector for row in embeddings])
        return sigmoid(log_odds + self._bias).astype(np.float32)
