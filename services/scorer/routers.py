"""The configured routers: loaded, checked against their golden win rates, warmed up, listed."""

import asyncio
import logging
import math
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from pointsman.errors import (
    ConfigError,
    DeadlineExceeded,
    PointsmanError,
    RouterNotReady,
    ScorerUnavailable,
    UnknownRouter,
)
from pointsman.routers.registry import LoadedRouter, load_router
from pointsman.routers.settings import RouterSettings
from pointsman.routing import quote
from pointsman.scorer.v1 import scorer_pb2 as pb
from services.scorer.embedders import BlockingEmbedder, Embedders
from services.scorer.embeddings import EmbeddingsClient
from services.scorer.endpoint import EndpointFailed
from services.scorer.metrics import ScorerMetrics

logger = logging.getLogger(__name__)
_WARM_UP = "Which of these two answers is better, and why?"
_FIRST_WAIT_SECONDS = 1.0
_LONGEST_WAIT_SECONDS = 30.0


@dataclass(frozen=True, slots=True)
class _NotReady:
    reason: str
    may_come: bool = False
    """Whether loading it once more may help: its endpoint did not answer."""


class RouterTable:
    """Name → router, in the order of the configuration; empty until `load` is done.

    Args:
        settings: Name → what to load.
        metrics: Where readiness is shown.
        embedders: The clients of those whose prompts an endpoint embeds.
        sleep: Waits for seconds.
    """

    def __init__(
        self,
        settings: Mapping[str, RouterSettings],
        metrics: ScorerMetrics,
        embedders: Embedders | None = None,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._settings = settings
        self._metrics = metrics
        self._embedders = embedders or Embedders({})
        self._sleep = sleep
        self._routers: dict[str, LoadedRouter | _NotReady] | None = None

    async def load(self) -> None:
        """Loads every router, off the event loop.

        One that is missing, broken or far from its golden win rates is listed as not ready and the
        others serve.

        Raises:
            ConfigError: Not one router can score, and none will by waiting for an endpoint.
        """
        loop = asyncio.get_running_loop()
        routers: dict[str, LoadedRouter | _NotReady] = {}
        for name in self._settings:
            routers[name] = await asyncio.to_thread(self._load, name, loop)
            self._show(name, routers[name])
        lost = [one for one in routers.values() if isinstance(one, _NotReady) and not one.may_come]
        if len(lost) == len(routers):
            reasons = "; ".join(one.reason for one in lost)
            raise ConfigError(f"no router can score: {reasons or 'none is configured'}")
        self._routers = routers

    async def ask_again(self, on_ready: Callable[[], Awaitable[None]]) -> None:
        """Loads those whose endpoint did not answer again, until each is ready or lost.

        Args:
            on_ready: Awaited whenever one has become ready.
        """
        loop = asyncio.get_running_loop()
        routers = self._routers or {}
        wait_seconds = _FIRST_WAIT_SECONDS
        while waiting := [
            (name, one.reason)
            for name, one in routers.items()
            if isinstance(one, _NotReady) and one.may_come
        ]:
            await self._sleep(wait_seconds)
            wait_seconds = min(2 * wait_seconds, _LONGEST_WAIT_SECONDS)
            for name, reason in waiting:
                routers[name] = found = await asyncio.to_thread(self._load, name, loop)
                if isinstance(found, _NotReady) and found.reason == reason:
                    continue  # said already
                self._show(name, found)
                if isinstance(found, LoadedRouter):
                    await on_ready()

    @property
    def can_score(self) -> bool:
        """Whether at least one router is ready."""
        return any(isinstance(found, LoadedRouter) for found in (self._routers or {}).values())

    def __getitem__(self, name: str) -> LoadedRouter:
        """Returns a router that can score.

        Raises:
            ScorerUnavailable: The routers are still loading.
            UnknownRouter: No such router; lists those there are.
            RouterNotReady: It cannot score; says why.
        """
        if self._routers is None:
            raise ScorerUnavailable("the routers are still loading")
        found = self._routers.get(name)
        if found is None:
            known = ", ".join(self._routers)
            raise UnknownRouter(f"no router is called {quote(name)}; there are: {known}")
        if isinstance(found, _NotReady):
            raise RouterNotReady(f"router {name} is not ready: {found.reason}")
        return found

    def embedder(self, name: str) -> EmbeddingsClient | None:
        """Returns what embeds the prompts of a router that can score; None: it does so itself."""
        return self._embedders[name]

    def label(self, name: str) -> str:
        """Returns the name as a metric label: only configured names, everything else is `other`."""
        return name if name in self._settings else "other"

    def listing(self) -> list[pb.Router]:
        """Returns every configured router as the wire shows it."""
        if self._routers is None:
            reason = "still loading"
            return [pb.Router(name=name, not_ready_reason=reason) for name in self._settings]
        return [_message(name, found) for name, found in self._routers.items()]

    def _load(self, name: str, loop: asyncio.AbstractEventLoop) -> LoadedRouter | _NotReady:
        """Returns the router, warm; blocks, for its endpoint too, which is asked on `loop`."""
        settings = self._settings[name]
        try:
            client = self._embedders[name]
            loaded = load_router(
                name,
                bundle=Path(settings.bundle) if settings.bundle else None,
                factory=settings.factory,
                options=settings.options,
                embedder=BlockingEmbedder(client, loop) if client is not None else None,
            )
            loaded.router.strong_win_rates([_WARM_UP])
        except PointsmanError as error:
            may_come = isinstance(error, EndpointFailed | DeadlineExceeded)
            return _NotReady(error.message, may_come)
        except Exception as error:  # somebody else's code: its fault is not the others'
            return _NotReady(repr(error))
        return loaded

    def _show(self, name: str, found: LoadedRouter | _NotReady) -> None:
        """Tells log and metrics what has become of a router."""
        if isinstance(found, _NotReady):
            logger.error("router not ready", extra={"router": name, "reason": found.reason})
            self._metrics.router_ready.labels(name).set(0)
            return
        if found.golden is not None:
            self._metrics.golden_difference.labels(name).set(found.golden.max_difference)
            within = found.golden.verdict == "ok"
            self._metrics.golden_within_tolerance.labels(name).set(within)
        if warning := _warning(found):
            logger.warning("router differs", extra={"router": name, "reason": warning})
        self._metrics.router_ready.labels(name).set(1)
        logger.info("router ready", extra={"router": name, "revision": found.revision})


def percentile(router: LoadedRouter, strong_win_rate: float) -> float:
    """Returns the percentile among the calibration prompts, 0 where there are none."""
    value = router.percentile(strong_win_rate)
    return 0.0 if math.isnan(value) else value


def _warning(router: LoadedRouter) -> str:
    golden = router.golden
    return golden.message if golden is not None and golden.verdict != "ok" else ""


def _message(name: str, found: LoadedRouter | _NotReady) -> pb.Router:
    if isinstance(found, _NotReady):
        return pb.Router(name=name, not_ready_reason=found.reason)
    pair = found.training_pair
    count = len(found.quantiles)
    step = (count - 1) // 100
    return pb.Router(
        name=name,
        revision=found.revision,
        training_pair=pb.ModelPair(strong=pair.strong, weak=pair.weak) if pair else None,
        ready=True,
        warning=_warning(found),
        win_rate_percentiles=found.quantiles[::step].tolist() if count else (),
        calibration_prompts=found.calibration_prompts,
    )
