"""An endpoint that embeds as it is told: OpenAI's `/v1/embeddings` over real HTTP.

A text's embedding is drawn with the text as the seed, so that tests know what must come back.
"""

import asyncio
import base64
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any, Self

import numpy as np
from aiohttp import web
from numpy.typing import NDArray

from pointsman.routers.bundle import file_entry, save_bundle
from pointsman.routers.embedding import EmbedderSettings
from pointsman.routers.manifest import Manifest, TrainingPair, revision_of
from pointsman.routers.mf import BilinearWeights

Reply = Callable[[Sequence[str]], web.Response]


def vector_of(text: str, dimension: int) -> NDArray[np.float32]:
    """Returns float32[dimension], the same for the same text."""
    seed = int.from_bytes(sha256(text.encode()).digest()[:8], "big")
    return np.random.default_rng(seed).standard_normal(dimension).astype(np.float32)


@dataclass(frozen=True)
class Asked:
    """One request as it arrived."""

    texts: list[str]
    headers: Mapping[str, str]
    body: dict[str, Any]


@dataclass
class FakeEmbeddings:
    """Serves on a port of the kernel's choice while its context is open.

    Attributes:
        dimension: Length of its embeddings.
        port: Where to listen: 0 for any, or the port it had before.
        base64: Whether it knows base64; otherwise it answers in lists, asked or not.
        longest: Most characters of a text; a longer one is refused, and so is an empty one.
        replies: What it answers the next requests instead, first come first served.
        asked: The requests so far.
        arrived: Set by every request.
        open: While it is not set, requests wait.
        hung_up: Set when a caller goes away before its answer.
    """

    dimension: int = 4
    port: int = 0
    base64: bool = True
    longest: int = 10_000
    replies: list[Reply] = field(default_factory=list)
    asked: list[Asked] = field(default_factory=list)
    arrived: asyncio.Event = field(default_factory=asyncio.Event)
    open: asyncio.Event = field(default_factory=asyncio.Event)
    hung_up: asyncio.Event = field(default_factory=asyncio.Event)

    async def __aenter__(self) -> Self:
        self.open.set()
        app = web.Application(client_max_size=100 * 1024 * 1024)
        app.router.add_post("/v1/embeddings", self._embeddings)
        self._runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", self.port).start()
        self.port = self._runner.addresses[0][1]
        return self

    async def __aexit__(self, *_: object) -> None:
        self.open.set()
        await self._runner.cleanup()

    @property
    def url(self) -> str:
        """The base URL."""
        return f"http://127.0.0.1:{self.port}/v1"

    @property
    def batches(self) -> list[list[str]]:
        """The texts of each request so far."""
        return [one.texts for one in self.asked]

    async def _embeddings(self, request: web.Request) -> web.Response:
        body = await request.json()
        texts = body["input"]
        reply = self.replies.pop(0) if self.replies else None
        self.asked.append(Asked(texts, dict(request.headers), body))
        self.arrived.set()
        try:
            await self.open.wait()
        except asyncio.CancelledError:
            self.hung_up.set()
            raise
        if reply is not None:
            return reply(texts)
        if any(not 0 < len(text) <= self.longest for text in texts):
            return web.json_response({"error": {"message": f"bad: {texts[0]}"}}, status=400)
        return web.json_response(
            answer(texts, self.dimension, base64=self.base64 and _wants_base64(body))
        )


def _wants_base64(body: Mapping[str, Any]) -> bool:
    return body.get("encoding_format") == "base64"


def answer(texts: Sequence[str], dimension: int, *, base64: bool = False) -> dict[str, Any]:
    """Returns OpenAI's answer to these texts, in an order of its own."""
    items = []
    for index, text in reversed(list(enumerate(texts))):
        vector = vector_of(text, dimension)
        embedding: Any = as_base64(vector) if base64 else vector.tolist()
        items.append({"object": "embedding", "index": index, "embedding": embedding})
    usage = {"prompt_tokens": 1, "total_tokens": 1}
    return {"object": "list", "data": items, "model": "text-embedding-3-small", "usage": usage}


def as_base64(vector: NDArray[np.float32]) -> str:
    """Returns little-endian float32 in base64."""
    return base64.b64encode(vector.astype("<f4").tobytes()).decode()


def refuse(status: int, headers: Mapping[str, str] | None = None) -> Reply:
    """Answers with a status, and quotes what nobody should repeat."""
    return lambda texts: web.json_response(
        {"error": {"message": f"key sk-secret, text {texts[0]}"}}, status=status, headers=headers
    )


def say(body: bytes) -> Reply:
    """Answers 200 with these bytes."""
    return lambda _: web.Response(body=body, content_type="application/json")


def say_json(values: object) -> Reply:
    """Answers 200 with these values, NaN and all."""
    return say(json.dumps(values).encode())


def remote_bundle(folder: Path, *, dimension: int = 4) -> tuple[Path, BilinearWeights]:
    """Returns an `mf` bundle as an imported checkpoint is one, and its weights, drawn at random.

    It has no encoder of its own: its prompts are embedded by text-embedding-3-small, here of
    another dimension.
    """
    random = np.random.default_rng(7)
    weights = BilinearWeights(
        model_names=("big", "small"),
        model_vectors=random.standard_normal((2, 3)).astype(np.float32),
        projection=random.standard_normal((3, dimension)).astype(np.float32),
        classifier=random.standard_normal(3).astype(np.float32),
    )
    contents = {"weights": weights.to_bytes()}
    files = {role: file_entry(data, ".npz") for role, data in contents.items()}
    pair = TrainingPair(strong="big", weak="small")
    encoder = EmbedderSettings(max_tokens=8191, dimension=dimension, model="text-embedding-3-small")
    manifest = Manifest(
        format_version=1,
        name="imported",
        kind="mf",
        revision=revision_of("mf", pair, encoder, files),
        training_pair=pair,
        embedder=encoder,
        data=(),
        seed=0,
        figures={},
        calibration=None,
        golden=None,
        files=files,
    )
    return save_bundle(manifest, contents, folder), weights


def rate_of(weights: BilinearWeights, text: str) -> float:
    """Returns the win rate by RouteLLM's formula, from the fake's embedding of a text."""
    row = vector_of(text, weights.projection.shape[1])[np.newaxis]
    difference = weights.delta("big", row) - weights.delta("small", row)
    return float(1.0 / (1.0 + np.exp(-difference[0])))
