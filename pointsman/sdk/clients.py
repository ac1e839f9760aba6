"""The `openai` clients of one model: made when needed, one for each event loop, and closed."""

from __future__ import annotations

import asyncio
import os
from threading import Lock
from typing import TYPE_CHECKING, Any

from pointsman.errors import ConfigError
from pointsman.extras import needed_from
from pointsman.providers import address_of
from pointsman.routing import quote

if TYPE_CHECKING:
    from openai import AsyncOpenAI, OpenAI

_PLACEHOLDER_KEY = "none"
"""The client insists on a key; local endpoints do not look at it."""
_OPENAI_KEY = "OPENAI_API_KEY"


class ModelClients:
    """Clients that call one model, for threads and event loops.

    Args:
        name: The model as the user writes it, with LiteLLM's prefix or without.
        base_url: Where it is, if not where its prefix or the environment says.
        api_key: Its key, if not the one in the environment.
    """

    def __init__(self, name: str, *, base_url: str | None, api_key: str | None) -> None:
        self.name = name
        self.model = address_of(name, base_url=base_url, environ={}).model
        """What the provider calls it."""
        self._base_url = base_url
        self._api_key = api_key
        self._lock = Lock()
        self._client: OpenAI | None = None
        self._of_loops: dict[asyncio.AbstractEventLoop, AsyncOpenAI] = {}

    def client(self) -> OpenAI:
        """Returns the client for threads.

        Raises:
            ConfigError: `openai` is not installed, there is no key, or the base URL is none.
        """
        with self._lock:
            if self._client is None:
                self._client = self._made("OpenAI")
            return self._client

    def client_of(self, loop: asyncio.AbstractEventLoop) -> AsyncOpenAI:
        """Returns the client for one event loop, since connections belong to a loop.

        May take a second (the import, certificates): call it from a thread.

        Raises:
            ConfigError: As `client`.
        """
        with self._lock:
            for other in [other for other in self._of_loops if other.is_closed()]:
                del self._of_loops[other]
            if loop not in self._of_loops:
                self._of_loops[loop] = self._made("AsyncOpenAI")
            return self._of_loops[loop]

    def close(self) -> None:
        """Closes the connections of `client`."""
        with self._lock:
            client, self._client = self._client, None
        if client is not None:
            client.close()

    async def aclose(self) -> None:
        """Closes the connections of `client` and of this event loop."""
        with self._lock:
            client = self._of_loops.pop(asyncio.get_running_loop(), None)
        if client is not None:
            await client.close()
        self.close()

    def _made(self, kind: str) -> Any:
        address = address_of(self.name, base_url=self._base_url, environ=os.environ)
        if not address.base_url.startswith(("http://", "https://")):
            raise ConfigError(
                f"the base URL of {self.name} does not begin with http(s)://: "
                f"{quote(address.base_url)}"
            )
        key = self._api_key or os.environ.get(address.api_key_env)
        if not key and not address.is_local:
            raise ConfigError(
                f"there is no key for {self.name} at {address.base_url}: set {address.api_key_env} "
                "or pass api_key, strong_api_key or weak_api_key (any text if it asks for none)"
            )
        with needed_from("sdk", "calling models"):
            import openai
        client = getattr(openai, kind)(base_url=address.base_url, api_key=key or _PLACEHOLDER_KEY)
        if address.api_key_env != _OPENAI_KEY:  # nobody else's business
            client.organization = client.project = None
        return client
