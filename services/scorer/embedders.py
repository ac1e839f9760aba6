"""Routers whose prompts an endpoint embeds: each with its client, opened and closed together."""

import asyncio
import random
import time
from collections.abc import AsyncIterator, Coroutine, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import aiohttp
import numpy as np
from numpy.typing import NDArray

from pointsman import __version__
from pointsman.chassis.config import Secret
from pointsman.chassis.proxies import proxy_for
from pointsman.errors import PointsmanError
from pointsman.routers.embedding import EmbedderSettings
from pointsman.routers.endpoint_settings import EmbeddingsSettings, encoder_of
from pointsman.routers.settings import RouterSettings
from services.scorer.embeddings import EmbeddingsClient
from services.scorer.endpoint import Address, EmbeddingsEndpoint
from services.scorer.metrics import ScorerMetrics


class Embedders:
    """Router → the client of its endpoint, for those that have one.

    Args:
        clients: Router → its client, or why it can have none.
    """

    def __init__(self, clients: Mapping[str, EmbeddingsClient | PointsmanError]) -> None:
        self._clients = clients

    def __getitem__(self, router: str) -> EmbeddingsClient | None:
        """Returns the router's client, or None where the router embeds by itself.

        Raises:
            PointsmanError: Its settings, its key or its bundle are at fault.
        """
        client = self._clients.get(router)
        if isinstance(client, PointsmanError):
            raise client
        return client


class BlockingEmbedder:
    """The client for code without an event loop: blocks its thread, which must not be the loop's.

    Golden win rates and the warm-up go this way, and no request.
    """

    def __init__(self, client: EmbeddingsClient, loop: asyncio.AbstractEventLoop) -> None:
        self.settings = client.encoder
        self._client = client
        self._loop = loop

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Returns float32[n, d], row i for text i.

        Raises:
            PointsmanError: As `EmbeddingsClient.embed`.
        """
        return asyncio.run_coroutine_threadsafe(self._rows(texts), self._loop).result()

    async def _rows(self, texts: Sequence[str]) -> NDArray[np.float32]:
        rows = await asyncio.gather(*(self._client.embed(text) for text in texts))
        return np.asarray(rows, dtype=np.float32).reshape(len(texts), self.settings.dimension)


@asynccontextmanager
async def open_embedders(
    routers: Mapping[str, RouterSettings], environ: Mapping[str, str], metrics: ScorerMetrics
) -> AsyncIterator[Embedders]:
    """Yields the clients; routers with the same settings and model share one, and what it keeps.

    Args:
        routers: Name → settings.
        environ: Where keys and proxies are looked up.
        metrics: Where requests are counted.
    """
    clients: dict[str, EmbeddingsClient | PointsmanError] = {}
    shared: dict[tuple[EmbeddingsSettings, EmbedderSettings], EmbeddingsClient] = {}
    async with AsyncExitStack() as stack:
        session: aiohttp.ClientSession | None = None
        for name, router in routers.items():
            if (settings := router.embeddings) is None:
                continue
            try:
                encoder = encoder_of(name, router.bundle)
                address = _address(name, settings, encoder, environ)
            except PointsmanError as error:
                clients[name] = error
                continue
            if session is None:
                session = await stack.enter_async_context(_session())
            if (settings, encoder) not in shared:
                client = _client(session, address, encoder, settings, metrics)
                await stack.enter_async_context(beside(client.send()))
                shared[settings, encoder] = client
            clients[name] = shared[settings, encoder]
        yield Embedders(clients)


@asynccontextmanager
async def beside(work: Coroutine[Any, Any, None]) -> AsyncIterator[None]:
    """Runs `work` beside the block, and ends it with the block."""
    task = asyncio.ensure_future(work)
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait([task])


def _client(
    session: aiohttp.ClientSession,
    address: Address,
    encoder: EmbedderSettings,
    settings: EmbeddingsSettings,
    metrics: ScorerMetrics,
) -> EmbeddingsClient:
    endpoint = EmbeddingsEndpoint(
        session,
        address,
        encoder,
        settings,
        metrics,
        clock=time.monotonic,
        sleep=asyncio.sleep,
        random=random.random,
    )
    return EmbeddingsClient(endpoint, encoder, settings, metrics)


def _address(
    name: str, settings: EmbeddingsSettings, encoder: EmbedderSettings, environ: Mapping[str, str]
) -> Address:
    variable = settings.key_variable
    key = settings.key(name, environ.get(variable) if variable else None)
    return Address(
        url=settings.url,
        model=settings.model or encoder.model,
        key=Secret(key) if key else None,
        proxy=proxy_for(settings.url, environ),
    )


def _session() -> aiohttp.ClientSession:
    return aiohttp.ClientSession(
        # A connection pool is no place to queue: each client limits how many requests there are.
        connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=60),
        cookie_jar=aiohttp.DummyCookieJar(),
        headers={"user-agent": f"pointsman/{__version__}"},
    )
