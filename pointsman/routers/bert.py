"""BERT: a three-way classifier, fine-tuned end to end; the win rate is what "strong wins" gets.

``win rate = softmax(W x + b)[0]`` over the labels 0 strong wins, 1 tie, 2 weak wins (Ong et al.
2024, arXiv:2406.18665; RouteLLM's code has ``1 - (p1 + p2)``, which is the same). The graph yields
x, the features that the last layer reads; the last layer is small and stays outside, in float32.
"""

from __future__ import annotations

import io
from dataclasses import dataclass, field
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from pointsman.errors import ConfigError
from pointsman.routers.base import EmbeddingRouter
from pointsman.routers.embedding import TextEmbedder
from pointsman.routers.log_odds import Platt, sigmoid

LABELS = 3
"""Strong wins, tie, weak wins."""


@dataclass(frozen=True, kw_only=True, eq=False)
class ClassifierHead:
    """The classifier's last layer, over features of dimension d."""

    weights: NDArray[np.float32]
    """W, float32[3, d]; row 0 is "strong wins"."""

    bias: NDArray[np.float32]
    """b, float32[3]."""

    platt: Platt = field(default_factory=Platt)
    """Line on the log-odds of the win rate; the identity leaves the softmax as it is."""

    def __post_init__(self) -> None:
        """Refuse what is no layer over three labels."""
        if self.weights.ndim != 2 or len(self.weights) != LABELS or self.bias.shape != (LABELS,):
            raise ConfigError(
                f"a bert head has weights [{LABELS}, d] and a bias [{LABELS}], and not "
                f"{list(self.weights.shape)} and {list(self.bias.shape)}; its labels are strong "
                "wins, tie, weak wins"
            )

    def to_bytes(self) -> bytes:
        """Return the head as an .npz archive, the same bytes for the same head."""
        buffer = io.BytesIO()
        np.savez(buffer, weights=self.weights, bias=self.bias, platt=self.platt.to_array())
        return buffer.getvalue()

    @classmethod
    def from_bytes(cls, data: bytes) -> ClassifierHead:
        """Read what `to_bytes` wrote.

        Raises:
            ConfigError: the archive is not one of ours.
        """
        try:
            with np.load(io.BytesIO(data), allow_pickle=False) as archive:
                return cls(
                    weights=archive["weights"],
                    bias=archive["bias"],
                    platt=Platt.from_array(archive["platt"]),
                )
        except (OSError, ValueError, KeyError, EOFError, BadZipFile) as error:
            raise ConfigError(f"the bundle's bert head cannot be read: {error}") from error

    def log_odds(self, features: NDArray[np.float32]) -> NDArray[np.float64]:
        """Return float64[n]: log(p0 / (p1 + p2)) for float32[n, d], before Platt's line."""
        weights = self.weights.astype(np.float64)
        # A row at a time: a matrix product's summation order depends on n, and a prompt's win
        # rate must not depend on its neighbours.
        logits = [weights @ row.astype(np.float64) + self.bias for row in features]
        strong, tie, weak = np.asarray(logits).reshape(-1, LABELS).T  # (n,) each
        result: NDArray[np.float64] = strong - np.logaddexp(tie, weak)
        return result


class BertRouter(EmbeddingRouter):
    """The classifier: one pass through the graph and three dot products per prompt."""

    def __init__(self, embedder: TextEmbedder, head: ClassifierHead) -> None:
        """Put the head on the graph.

        Raises:
            ConfigError: the graph's features have another dimension than the head's weights.
        """
        super().__init__(embedder, "bert", head.weights.shape[1])
        self._head = head

    def win_rates_of(self, embeddings: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return float32[n] in [0, 1] for float32[n, d] features."""
        return sigmoid(self._head.platt.apply(self._head.log_odds(embeddings))).astype(np.float32)
