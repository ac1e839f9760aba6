"""Where a router's prompts are embedded when its bundle has no encoder of its own.

A bundle that was trained on an endpoint's embeddings (RouteLLM's `mf` and `sw_ranking`, on OpenAI's
text-embedding-3-small) names the model; the configuration says at which endpoint it is found.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import msgspec

from pointsman.chassis.config import Count, PositiveCount, PositiveSeconds, Seconds, Settings
from pointsman.errors import ConfigError
from pointsman.routers.bundle import read_manifest
from pointsman.routers.embedding import EmbedderSettings
from pointsman.routing import quote

OPENAI_URL = "https://api.openai.com/v1"
OPENAI_KEY = "OPENAI_API_KEY"
MOST_TEXTS = 2048
"""What OpenAI takes in one request."""


class EmbeddingsSettings(Settings, frozen=True, kw_only=True):
    """An OpenAI-compatible endpoint that embeds a router's prompts; `{}` is OpenAI's own."""

    base_url: str = OPENAI_URL
    """What `/embeddings` is appended to."""
    model: str | None = None
    """What the endpoint calls the model; by default what the bundle calls it."""
    api_key_env: str | None = None
    """Name of the environment variable that holds the key; by default OPENAI_API_KEY at OpenAI's
    address, and no key is sent anywhere else."""
    timeout_seconds: PositiveSeconds = 5.0
    """For one prompt, waits and retries included; a caller's own deadline comes first, and the
    gateway's is `scorer.timeout_seconds`, 1 by default. Tools take it for each try."""
    retries: Count = 2
    """Further tries after no connection, 408, 429 and 5xx, as far as time allows."""
    max_batch: Annotated[int, msgspec.Meta(ge=1, le=MOST_TEXTS)] = 64
    """Most prompts of one request. High: fewer requests, and one late answer makes more wait."""
    max_wait_seconds: Seconds = 0.002
    """How long a prompt waits for others to share its request with; 0 takes those that came in the
    same turn of the event loop."""
    max_in_flight: PositiveCount = 8
    """Most requests at a time; what comes meanwhile is gathered into the next one."""
    queue_limit: PositiveCount = 1024
    """Prompts that may wait for a request; one more is refused at once."""
    cache_entries: Count = 10_000
    """Embeddings kept, the least recently used go first; each has 4 bytes a number (1,536 numbers:
    60 MB in all). Equal prompts are then asked for once. 0 keeps none."""

    def __post_init__(self) -> None:
        """Checks what types cannot."""
        if not self.base_url.startswith(("http://", "https://")):
            raise ValueError(f"base_url {quote(self.base_url)} does not begin with http(s)://")

    @property
    def url(self) -> str:
        """Where requests go."""
        return self.base_url.rstrip("/") + "/embeddings"

    @property
    def key_variable(self) -> str | None:
        """The variable that holds the key; None where no key is sent."""
        if self.api_key_env or self.base_url.rstrip("/") != OPENAI_URL:
            return self.api_key_env
        return OPENAI_KEY

    def key(self, name: str, value: str | None) -> str | None:
        """Returns the key for the endpoint of a router, None where none is sent.

        Args:
            name: The router's.
            value: What the environment has under `key_variable`.

        Raises:
            ConfigError: The variable is not set; names it.
        """
        if self.key_variable is None:
            return None
        if value and value.strip():
            return value.strip()
        raise ConfigError(
            f"router {name} has its prompts embedded at {self.base_url} and the key is read from "
            f"{self.key_variable}, which is not set; export {self.key_variable}=..., or name "
            f"another variable or place at `$.routers.{name}.embeddings`"
        )


def encoder_of(name: str, bundle: str | None) -> EmbedderSettings:
    """Returns what the bundle of a router with `embeddings` expects of the endpoint.

    Raises:
        ConfigError: The router has no bundle, or one with an encoder of its own.
    """
    if bundle is None:
        raise ConfigError(
            f"router {name} has embeddings and no bundle; name the folder of a bundle that was "
            f"trained on them at `$.routers.{name}.bundle`, or remove embeddings"
        )
    encoder = read_manifest(Path(bundle)).embedder
    if not encoder.model:
        raise ConfigError(
            f"router {name}: the bundle at {bundle} has an encoder of its own; remove embeddings"
        )
    return encoder
