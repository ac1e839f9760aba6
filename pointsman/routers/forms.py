"""A router for each form of prompt, mixed by how much a prompt looks like each.

What tells a hard prompt from an easy one differs between an exam question with its options, a
word problem to be worked out, and everything else that people write. A long exam question is a
hard one; a long chat message is not, and a feature that helps on the one makes the other worse
than random (docs/training-log.md). So each form has weights of its own, a vector or a kernel, and
a linear gate on the same embedding weighs their log-odds: one forward pass and a little arithmetic.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from pointsman.errors import ConfigError
from pointsman.routers.base import EmbeddingRouter
from pointsman.routers.embedding import TextEmbedder
from pointsman.routers.kernel import KernelWeights
from pointsman.routers.log_odds import sigmoid
from pointsman.routers.mf import BilinearWeights
from pointsman.routing import ModelPair

FORMS = ("open", "exam", "problem")
"""What people write; exam questions with options; word problems to be worked out step by step."""

FormWeights = BilinearWeights | KernelWeights
"""What a form may be ranked by."""


@dataclass(frozen=True, kw_only=True, eq=False)
class FormGate:
    """How much a prompt looks like each form: a softmax on its embedding."""

    weights: NDArray[np.float32]
    """float32[f, d], a row for each of `FORMS`."""

    bias: NDArray[np.float32]
    """float32[f]."""

    def shares(self, embedding: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return float64[f], positive and adding up to 1, for float64[d]."""
        logits = self.weights.astype(np.float64) @ embedding + self.bias
        exponents = np.exp(logits - logits.max())
        shares: NDArray[np.float64] = exponents / exponents.sum()
        return shares

    def to_bytes(self) -> bytes:
        """Return the gate as an .npz archive, the same bytes for the same gate."""
        buffer = io.BytesIO()
        np.savez(buffer, weights=self.weights, bias=self.bias)
        return buffer.getvalue()

    @classmethod
    def from_bytes(cls, data: bytes) -> FormGate:
        """Read what `to_bytes` wrote.

        Raises:
            ConfigError: the archive is not one of ours.
        """
        try:
            with np.load(io.BytesIO(data), allow_pickle=False) as archive:
                gate = cls(weights=archive["weights"], bias=archive["bias"])
        except (OSError, ValueError, KeyError, EOFError, BadZipFile) as error:
            raise ConfigError(f"the bundle's gate cannot be read: {error}") from error
        if gate.weights.ndim != 2 or gate.bias.shape != (len(gate.weights),):
            raise ConfigError(
                f"the bundle's gate has weights of shape {gate.weights.shape} and a bias of shape "
                f"{gate.bias.shape}; make the bundle again with `pointsman train`"
            )
        return gate


class FormRouter(EmbeddingRouter):
    """Matrix factorisation by form, for one model pair."""

    def __init__(
        self,
        embedder: TextEmbedder,
        gate: FormGate,
        weights: Sequence[FormWeights],
        pair: ModelPair,
    ) -> None:
        """Collapse the weights of each form for the pair.

        Args:
            embedder: gives the embeddings.
            gate: f forms.
            weights: f trained forms, in the gate's order.
            pair: whose win rates are given.

        Raises:
            ConfigError: a model of the pair has no vector, or the weights were trained on
                embeddings of another dimension or are not one for each form.
        """
        super().__init__(embedder, "mf", gate.weights.shape[1])
        if len(weights) != len(gate.weights):
            raise ConfigError(f"the gate has {len(gate.weights)} forms and mf has {len(weights)}")
        self._gate = gate
        self._forms = [_log_odds_by(one, pair, gate.weights.shape[1]) for one in weights]

    def win_rates_of(self, embeddings: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return float32[n] in [0, 1] for float32[n, d] that are embedded already."""
        # A row at a time, as in `MatrixFactorizationRouter`.
        return sigmoid(
            np.asarray([self._log_odds_of(row.astype(np.float64)) for row in embeddings])
        ).astype(np.float32)

    def _log_odds_of(self, row: NDArray[np.float64]) -> float:
        by_form = np.asarray([log_odds(row) for log_odds in self._forms])  # (f,)
        return float(self._gate.shares(row) @ by_form)


def _log_odds_by(
    weights: FormWeights, pair: ModelPair, dimension: int
) -> Callable[[NDArray[np.float64]], float]:
    """Return what gives the log-odds of one embedding, float64[d]."""
    if weights.dimension != dimension:
        raise ConfigError(
            f"a form of mf was trained on embeddings of {weights.dimension} numbers and its gate "
            f"on {dimension}; make the bundle again with `pointsman train`"
        )
    if isinstance(weights, KernelWeights):
        return weights.log_odds
    vector, bias = weights.collapse(pair)
    return lambda row: float(vector @ row + bias)
