"""The scorer's rpcs: messages in, the pool's work, messages out."""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext
from functools import partial
from typing import Any

import grpc
import numpy as np

from pointsman.chassis.grpc_server import request_id
from pointsman.errors import InvalidRequest, PointsmanError
from pointsman.routers.base import EmbeddingRouter
from pointsman.routers.registry import LoadedRouter
from pointsman.scorer.v1 import scorer_pb2 as pb
from pointsman.scorer.v1 import scorer_pb2_grpc
from services.scorer.cache import WinRateCache
from services.scorer.metrics import ScorerMetrics
from services.scorer.routers import RouterTable, percentile
from services.scorer.workers import InferencePool, Timed

logger = logging.getLogger(__name__)

MAX_BATCH = 4096
Context = grpc.aio.ServicerContext[Any, Any]
_NO_LIMIT: AbstractAsyncContextManager[None] = nullcontext()


class ScorerServicer(scorer_pb2_grpc.ScorerServiceServicer):
    """Answers Score, ScoreBatch and ListRouters."""

    def __init__(
        self,
        routers: RouterTable,
        pool: InferencePool,
        cache: WinRateCache,
        metrics: ScorerMetrics,
    ) -> None:
        self._routers = routers
        self._pool = pool
        self._cache = cache
        self._metrics = metrics

    async def Score(self, request: pb.ScoreRequest, context: Context) -> pb.ScoreResponse:
        """Scores one prompt."""
        async with self._counted(request.router, context):
            router = self._routers[request.router]
            timed, cached = await self._win_rate(router, request.prompt, context)
            return pb.ScoreResponse(
                strong_win_rate=timed.value,
                router=router.name,
                revision=router.revision,
                percentile=percentile(router, timed.value),
                queue_seconds=timed.queue_seconds,
                inference_seconds=timed.inference_seconds,
                cached=cached,
            )

    async def ScoreBatch(
        self, request: pb.ScoreBatchRequest, context: Context
    ) -> pb.ScoreBatchResponse:
        """Scores many prompts; a batch keeps every worker busy and no more of the queue."""
        async with self._counted(request.router, context):
            router = self._routers[request.router]
            prompts = request.prompts
            if len(prompts) > MAX_BATCH:
                raise InvalidRequest(
                    f"{len(prompts)} prompts in a batch; send at most {MAX_BATCH} at a time"
                )
            results: list[pb.PromptWinRate] = [pb.PromptWinRate() for _ in prompts]
            await self._fill(results, enumerate(prompts), router, context)
            return pb.ScoreBatchResponse(
                router=router.name, revision=router.revision, win_rates=results
            )

    async def ListRouters(
        self, request: pb.ListRoutersRequest, context: Context
    ) -> pb.ListRoutersResponse:
        """Lists the configured routers."""
        return pb.ListRoutersResponse(routers=self._routers.listing())

    async def _fill(
        self,
        results: list[pb.PromptWinRate],
        numbered: Iterator[tuple[int, str]],
        router: LoadedRouter,
        context: Context,
    ) -> None:
        client = self._routers.embedder(router.name)
        inferring = asyncio.Semaphore(self._pool.workers)
        # An endpoint's requests want to be filled; the workers' queue still sees `workers` at most.
        lane_count = client.settings.max_batch if client is not None else self._pool.workers

        async def lane() -> None:
            for index, prompt in numbered:  # shared: each lane takes the next prompt
                timed, cached = await self._win_rate(router, prompt, context, inferring)
                results[index] = pb.PromptWinRate(
                    strong_win_rate=timed.value,
                    percentile=percentile(router, timed.value),
                    queue_seconds=timed.queue_seconds,
                    inference_seconds=timed.inference_seconds,
                    cached=cached,
                )

        try:
            async with asyncio.TaskGroup() as lanes:
                for _ in range(lane_count):
                    lanes.create_task(lane())
        except* PointsmanError as errors:
            raise errors.exceptions[0] from None

    async def _win_rate(
        self,
        router: LoadedRouter,
        prompt: str,
        context: Context,
        inferring: AbstractAsyncContextManager[object] = _NO_LIMIT,
    ) -> tuple[Timed[float], bool]:
        """Returns a prompt's win rate, and whether it came from the cache."""

        async def predict() -> Timed[float]:
            return await self._predicted(router, prompt, context, inferring)

        if router.cacheable:
            timed, cached = await self._cache.win_rate(
                router.name, router.revision, prompt, predict
            )
        else:
            timed, cached = await predict(), False
        self._metrics.strong_win_rate.labels(router.name).observe(timed.value)
        return timed, cached

    async def _predicted(
        self,
        router: LoadedRouter,
        prompt: str,
        context: Context,
        inferring: AbstractAsyncContextManager[object],
    ) -> Timed[float]:
        infer = partial(router.router.strong_win_rates, [prompt])
        client = self._routers.embedder(router.name)
        if client is not None and isinstance(router.router, EmbeddingRouter):
            row = await client.embed(prompt, context.time_remaining())
            infer = partial(router.router.win_rates_of, row[np.newaxis])
        async with inferring:
            timed = await self._pool.run(lambda: float(infer()[0]))
        if not 0.0 <= timed.value <= 1.0:  # another team's router; NaN fails here too
            raise ValueError(f"router {router.name} returned {timed.value}, not a rate in [0, 1]")
        return timed

    @asynccontextmanager
    async def _counted(self, router: str, context: Context) -> AsyncIterator[None]:
        outcome = "internal"
        started_at = time.perf_counter()
        label = self._routers.label(router)
        self._metrics.in_flight.inc()
        try:
            yield
            outcome = "ok"
        except PointsmanError as error:
            outcome = error.kind
            raise
        except asyncio.CancelledError:
            outcome = "cancelled"
            raise
        finally:
            self._metrics.requests.labels(label, outcome).inc()
            logger.log(
                logging.INFO if outcome in {"ok", "cancelled"} else logging.WARNING,
                "scoring",
                extra={
                    "request_id": request_id(context),
                    "router": label,
                    "outcome": outcome,
                    "seconds": round(time.perf_counter() - started_at, 6),
                },
            )
            self._metrics.in_flight.dec()  # last: what is no longer in flight has been counted
