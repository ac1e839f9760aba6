"""The one contract every router keeps: prompt texts → strong win rates.

Where it stands in the flow: the scorer calls a router from several worker threads, one prompt a
call; calibration and evaluation call the same object with whole data sets.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from threading import Lock
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import NDArray

from pointsman.errors import ConfigError

if TYPE_CHECKING:  # a router of one's own need not have onnxruntime
    from pointsman.routers.embedding import TextEmbedder


class Router(ABC):
    """Maps prompts to P(the strong model's answer is preferred).

    A subclass of your own becomes a router by naming it in the scorer's configuration as
    ``package.module:Class``; it may carry a ``revision`` attribute, a short text that changes
    whenever its win rates change.
    """

    @abstractmethod
    def strong_win_rates(self, prompts: Sequence[str]) -> NDArray[np.float32]:
        """Return one strong win rate per prompt, in the same order.

        Args:
            prompts: n texts of any length and content, the empty string included.

        Returns:
            float32[n] in [0, 1]. A prompt's win rate does not depend on its neighbours.

        Must be safe to call from several threads at once.
        """


class EmbeddingRouter(Router):
    """A router that reads a prompt's embedding and nothing else of it.

    The two steps are apart so that embeddings may come from elsewhere: an endpoint that is asked
    without holding a worker thread, or a file of prompts that are embedded already.
    """

    def __init__(self, embedder: TextEmbedder, kind: str, dimension: int) -> None:
        """Keep the embedder.

        Args:
            embedder: gives the embeddings.
            kind: the router's, for messages.
            dimension: length of the embeddings that the router was trained on.

        Raises:
            ConfigError: the embedder's have another length; names both.
        """
        given = embedder.settings.dimension
        if given != dimension:
            raise ConfigError(
                f"{kind} was trained on embeddings of {dimension} numbers and the embedder gives "
                f"{given}; train it again with this embedder"
            )
        self._embedder = embedder

    @property
    def embeds_elsewhere(self) -> bool:
        """Whether an endpoint embeds the prompts: a thread that scores one mostly waits."""
        return bool(self._embedder.settings.model)

    def strong_win_rates(self, prompts: Sequence[str]) -> NDArray[np.float32]:
        """Return float32[n] in [0, 1], same order."""
        return self.win_rates_of(self._embedder.embed(prompts))

    @abstractmethod
    def win_rates_of(self, embeddings: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return float32[n] in [0, 1] for float32[n, d] that are embedded already.

        A row's win rate does not depend on the other rows, to the last bit.
        """


class RouteLLMRouter(Protocol):
    """What RouteLLM's ``Router`` subclasses have."""

    def calculate_strong_win_rate(self, prompt: str) -> float:
        """Return the strong win rate of one prompt, in [0, 1]."""


class OnePromptAtATime(Router):
    """A router written for RouteLLM, unchanged: called for one prompt, then for the next.

    RouteLLM itself never calls a router from two threads, so those written for it may not stand it;
    a tokenizer of Hugging Face's does not.
    """

    def __init__(self, router: RouteLLMRouter) -> None:
        self._router = router
        self._calling = Lock()

    def strong_win_rates(self, prompts: Sequence[str]) -> NDArray[np.float32]:
        """Return float32[n], one call of ``calculate_strong_win_rate`` a prompt."""
        with self._calling:
            rates = [self._router.calculate_strong_win_rate(prompt) for prompt in prompts]
        return np.asarray(rates, dtype=np.float32)
