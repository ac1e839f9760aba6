"""Embeddings from an endpoint, one text a caller: gathered into requests, shared, and kept.

    caller → kept already? asked for already? → the queue → a request with others → the caller

Runs on the event loop and on no worker: what the worker threads get is the embedding.
"""

import asyncio
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from hashlib import sha256

from pointsman.errors import DeadlineExceeded, Overloaded, ScorerUnavailable
from pointsman.routers.embedding import EmbedderSettings
from pointsman.routers.embeddings_body import text_to_send
from pointsman.routers.endpoint_settings import EmbeddingsSettings
from services.scorer.endpoint import EmbeddingsEndpoint, Row
from services.scorer.metrics import ScorerMetrics


@dataclass(eq=False, slots=True)
class _Wanted:
    """A text that at least one caller waits for, until its embedding is there."""

    key: bytes
    """The text's SHA-256."""
    text: str
    deadline: float
    """When the last of its callers gives up."""
    row: asyncio.Future[Row]
    callers: int = 0
    request: "_Request | None" = None
    """The request that it travels in; None while it is in the queue."""


@dataclass(eq=False, slots=True)
class _Request:
    wanted: list[_Wanted]
    task: asyncio.Task[None] | None = None

    @property
    def deadline(self) -> float:
        return max(one.deadline for one in self.wanted)

    @property
    def is_wanted(self) -> bool:
        return any(one.callers for one in self.wanted)


class _Kept:
    """The embeddings used last, by their text's SHA-256: prompts stay nowhere."""

    def __init__(self, entries: int) -> None:
        self._entries = entries
        self._rows: OrderedDict[bytes, Row] = OrderedDict()

    def get(self, key: bytes) -> Row | None:
        row = self._rows.get(key)
        if row is not None:
            self._rows.move_to_end(key)
        return row

    def keep(self, key: bytes, row: Row) -> None:
        self._rows[key] = row
        if len(self._rows) > self._entries:
            self._rows.popitem(last=False)


class EmbeddingsClient:
    """Embeds texts at one endpoint, as long as `send` runs.

    Attributes:
        encoder: The dimension, and how much of a text is read.
        settings: Where the endpoint is, and the limits.
    """

    def __init__(
        self,
        endpoint: EmbeddingsEndpoint,
        encoder: EmbedderSettings,
        settings: EmbeddingsSettings,
        metrics: ScorerMetrics,
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self.encoder = encoder
        self.settings = settings
        self._endpoint = endpoint
        self._metrics = metrics
        self._clock = clock
        self._sleep = sleep
        self._kept = _Kept(settings.cache_entries)
        self._wanted: dict[bytes, _Wanted] = {}
        self._queue: asyncio.Queue[_Wanted] = asyncio.Queue(settings.queue_limit)
        self._in_flight = asyncio.Semaphore(settings.max_in_flight)

    async def embed(self, text: str, timeout_seconds: float | None = None) -> Row:
        """Returns float32[d], read-only.

        Args:
            text: Any text; read as far as the model reads it.
            timeout_seconds: What is left of the caller's time, if that is limited.

        Raises:
            RouterNotReady: The endpoint gives no embedding; says why.
            DeadlineExceeded: The caller's time, or the setting's, is over.
            Overloaded: Too many texts wait.
        """
        started_at = self._clock()
        limit_seconds = self.settings.timeout_seconds
        if timeout_seconds is not None:
            limit_seconds = min(limit_seconds, timeout_seconds)
        sent = text_to_send(text, self.encoder)
        key = sha256(sent.encode()).digest()
        if (row := self._kept.get(key)) is not None:
            self._metrics.embedding_lookups.labels("kept").inc()
            return row
        wanted = self._asked_for(key, sent, started_at + limit_seconds)
        wanted.callers += 1
        try:
            async with asyncio.timeout(limit_seconds):
                return await asyncio.shield(wanted.row)
        except TimeoutError:
            raise DeadlineExceeded(
                f"no embedding came from {self.settings.url} within {limit_seconds:.3g} s"
            ) from None
        finally:
            wanted.callers -= 1
            self._left(wanted)
            self._metrics.stage_seconds.labels("embed").observe(self._clock() - started_at)

    def _asked_for(self, key: bytes, text: str, deadline: float) -> _Wanted:
        """Returns what stands for the text in the queue or in a request, or queues it."""
        wanted = self._wanted.get(key)
        if wanted is not None:
            wanted.deadline = max(wanted.deadline, deadline)
            self._metrics.embedding_lookups.labels("shared").inc()
            return wanted
        wanted = _Wanted(key, text, deadline, asyncio.get_running_loop().create_future())
        try:
            self._queue.put_nowait(wanted)
        except asyncio.QueueFull:
            raise Overloaded(
                f"the queue is full: {self.settings.queue_limit} prompts wait to be embedded at "
                f"{self.settings.url}"
            ) from None
        self._wanted[key] = wanted
        self._metrics.embedding_lookups.labels("asked").inc()
        return wanted

    async def send(self) -> None:
        """Sends what is queued, for ever; cancelled, it fails whoever still waits."""
        try:
            async with asyncio.TaskGroup() as requests:
                while True:
                    await self._in_flight.acquire()
                    request = _Request(await self._gathered())
                    for wanted in request.wanted:
                        wanted.request = request
                    request.task = requests.create_task(self._ask(request))
                    # Not in `_ask`: a task that is cancelled before it begins runs none of it.
                    request.task.add_done_callback(lambda _: self._in_flight.release())
        finally:
            for wanted in list(self._wanted.values()):
                self._settle(wanted, ScorerUnavailable("the scorer is stopping"))

    async def _gathered(self) -> list[_Wanted]:
        """Returns the next request's texts, those that a caller still waits for."""
        gathered: list[_Wanted] = []
        while not gathered:
            gathered = [await self._queue.get()]
            if self._queue.qsize() + 1 < self.settings.max_batch:
                await self._sleep(self.settings.max_wait_seconds)
            while self._queue.qsize() and len(gathered) < self.settings.max_batch:
                gathered.append(self._queue.get_nowait())
            gathered = [wanted for wanted in gathered if not wanted.row.done()]
        return gathered

    async def _ask(self, request: _Request) -> None:
        texts = [wanted.text for wanted in request.wanted]
        try:
            rows = await self._endpoint.rows(texts, until=lambda: request.deadline)
        except Exception as error:  # a fault of ours is for the callers' logs, and not for `send`
            for wanted in request.wanted:
                self._settle(wanted, error)
            return
        for wanted, row in zip(request.wanted, rows, strict=True):
            self._settle(wanted, row)

    def _settle(self, wanted: _Wanted, row: Row | Exception) -> None:
        """Hands a text's callers its embedding, or what went wrong."""
        self._forget(wanted)
        if not isinstance(row, Exception):
            alone = row.copy()  # a view would hold the whole answer
            alone.setflags(write=False)
            self._kept.keep(wanted.key, alone)
            wanted.row.set_result(alone)
        elif wanted.callers:
            wanted.row.set_exception(row)
        else:  # nobody would read it, and asyncio would complain
            wanted.row.cancel()

    def _left(self, wanted: _Wanted) -> None:
        """Drops a text that nobody waits for any more, and its request with the last of them."""
        if wanted.callers or wanted.row.done():
            return
        if wanted.request is None:
            dropped = [wanted]
        elif wanted.request.is_wanted:
            return
        else:
            dropped = wanted.request.wanted
            if wanted.request.task is not None:
                wanted.request.task.cancel()
        for one in dropped:
            self._forget(one)  # at once: whoever comes next asks anew
            one.row.cancel()
            self._metrics.dropped.inc()

    def _forget(self, wanted: _Wanted) -> None:
        if self._wanted.get(wanted.key) is wanted:
            del self._wanted[wanted.key]
