"""Embeddings from an endpoint for the tools and the SDK: a thread's own calls, through `openai`."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from pointsman.errors import ConfigError, PointsmanError, RouterNotReady
from pointsman.extras import needed_from
from pointsman.routers.embedding import EmbedderSettings
from pointsman.routers.embeddings_body import read_embeddings, text_to_send
from pointsman.routers.endpoint_settings import OPENAI_KEY, EmbeddingsSettings, encoder_of
from pointsman.routers.settings import RouterSettings

if TYPE_CHECKING:
    from openai import OpenAI

_NO_KEY = "none"
"""The client insists on a key; endpoints that ask for none do not look at it."""
_ABOUT_THE_TEXT = frozenset({400, 413, 422})
"""Statuses by which endpoints refuse a text that is too long, or that they do not like."""


class EndpointEmbedder:
    """Texts → float32[n, d] by an OpenAI-compatible endpoint; may be shared by threads.

    Args:
        settings: The endpoint, its time limit and retries.
        encoder: The dimension, and how much of a text is read.
        key: Sent to the endpoint; None where it asks for none.

    Raises:
        ConfigError: `openai` is not installed.
    """

    def __init__(
        self, settings: EmbeddingsSettings, encoder: EmbedderSettings, key: str | None
    ) -> None:
        self.settings = encoder
        self._endpoint = settings
        self._model = settings.model or encoder.model
        self._client = _client(settings, key)

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Returns float32[n, d], row i for text i.

        Raises:
            RouterNotReady: The endpoint gives no embeddings; says why.
            ConfigError: They have another dimension; names both.
        """
        sent = [text_to_send(text, self.settings) for text in texts]
        step = self._endpoint.max_batch
        batches = [self._asked(sent[start : start + step]) for start in range(0, len(sent), step)]
        none = np.empty((0, self.settings.dimension), dtype=np.float32)
        return np.concatenate([none, *batches])

    def close(self) -> None:
        """Closes the connections."""
        self._client.close()

    def _asked(self, texts: list[str]) -> NDArray[np.float32]:
        """Returns float32[n, d]; cuts a text that is refused, as the scorer does."""
        import openai

        try:
            answer = self._client.embeddings.with_raw_response.create(
                model=self._model, input=texts, encoding_format="base64"
            )
            return read_embeddings(answer.content, len(texts), self.settings)
        except openai.APIStatusError as error:
            if error.status_code not in _ABOUT_THE_TEXT:
                raise self._failed(f"it answers with status {error.status_code}") from error
            if len(texts) > 1:
                return np.concatenate([self._asked([text]) for text in texts])
            if len(texts[0]) > self.settings.max_tokens // 4:  # of at most four bytes each
                return self._asked([texts[0][: len(texts[0]) // 2]])
            raise self._failed(f"it answers with status {error.status_code}") from error
        except openai.OpenAIError as error:
            raise self._failed(f"{error}") from error
        except ConfigError:
            raise
        except PointsmanError as error:
            raise self._failed(error.message) from error

    def _failed(self, reason: str) -> RouterNotReady:
        return RouterNotReady(
            f"there are no embeddings of {self._model} at {self._endpoint.url}: {reason}"
        )


def endpoint_embedder(
    name: str, settings: RouterSettings, environ: Mapping[str, str] = os.environ
) -> EndpointEmbedder | None:
    """Returns what embeds a router's prompts, or None where the router does so itself.

    Args:
        name: The router's.
        settings: What the configuration says of it.
        environ: Where the endpoint's key is looked up.

    Raises:
        ConfigError: The router's bundle does not go with its embeddings, the key is not set, or
            `openai` is not installed.
    """
    if settings.embeddings is None:
        return None
    encoder = encoder_of(name, settings.bundle)
    variable = settings.embeddings.key_variable
    key = settings.embeddings.key(name, environ.get(variable) if variable else None)
    return EndpointEmbedder(settings.embeddings, encoder, key)


def _client(settings: EmbeddingsSettings, key: str | None) -> OpenAI:
    with needed_from("sdk", "embedding prompts at an endpoint"):
        import openai
    client = openai.OpenAI(
        base_url=settings.base_url,
        api_key=key or _NO_KEY,
        timeout=settings.timeout_seconds,
        max_retries=settings.retries,
    )
    if settings.key_variable != OPENAI_KEY:  # nobody else's business
        client.organization = client.project = None
    return client
