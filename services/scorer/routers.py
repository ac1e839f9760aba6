"""The configured routers: loaded, checked against their golden win rates, warmed up, listed."""

import logging
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from pointsman.errors import (
    ConfigError,
    PointsmanError,
    RouterNotReady,
    ScorerUnavailable,
    UnknownRouter,
)
from pointsman.routers.registry import LoadedRouter, load_router
from pointsman.routers.settings import RouterSettings
from pointsman.routing import quote
from pointsman.scorer.v1 import scorer_pb2 as pb
from services.scorer.metrics import ScorerMetrics

logger = logging.getLogger(__name__)
_WARM_UP = "Which of these two answers is better, and why?"


@dataclass(frozen=True, slots=True)
class _NotReady:
    reason: str


class RouterTable:
    """Name → router, in the order of the configuration; empty until `load` is done."""

    def __init__(self, settings: Mapping[str, RouterSettings], metrics: ScorerMetrics) -> None:
        self._settings = settings
        self._metrics = metrics
        self._routers: dict[str, LoadedRouter | _NotReady] | None = None

    def load(self) -> None:
        """Loads every router; slow, so off the event loop.

        One that is missing, broken or far from its golden win rates is listed as not ready and the
        others serve.

        Raises:
            ConfigError: Not one router can score.
        """
        routers = {name: self._load(name, one) for name, one in self._settings.items()}
        reasons = [found.reason for found in routers.values() if isinstance(found, _NotReady)]
        if len(reasons) == len(routers):
            raise ConfigError(f"no router can score: {'; '.join(reasons) or 'none is configured'}")
        self._routers = routers

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

    def label(self, name: str) -> str:
        """Returns the name as a metric label: only configured names, everything else is `other`."""
        return name if name in self._settings else "other"

    def listing(self) -> list[pb.Router]:
        """Returns every configured router as the wire shows it."""
        if self._routers is None:
            reason = "still loading"
            return [pb.Router(name=name, not_ready_reason=reason) for name in self._settings]
        return [_message(name, found) for name, found in self._routers.items()]

    def _load(self, name: str, settings: RouterSettings) -> LoadedRouter | _NotReady:
        try:
            loaded = load_router(
                name,
                bundle=Path(settings.bundle) if settings.bundle else None,
                factory=settings.factory,
                options=settings.options,
            )
            loaded.router.strong_win_rates([_WARM_UP])
        except PointsmanError as error:
            return self._not_ready(name, error.message)
        except Exception as error:  # somebody else's code: its fault is not the others'
            return self._not_ready(name, repr(error))
        if loaded.golden is not None:
            self._metrics.golden_difference.labels(name).set(loaded.golden.max_difference)
            within = loaded.golden.verdict == "ok"
            self._metrics.golden_within_tolerance.labels(name).set(within)
        if warning := _warning(loaded):
            logger.warning("router differs", extra={"router": name, "reason": warning})
        self._metrics.router_ready.labels(name).set(1)
        logger.info("router ready", extra={"router": name, "revision": loaded.revision})
        return loaded

    def _not_ready(self, name: str, reason: str) -> _NotReady:
        logger.error("router not ready", extra={"router": name, "reason": reason})
        self._metrics.router_ready.labels(name).set(0)
        return _NotReady(reason)


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
