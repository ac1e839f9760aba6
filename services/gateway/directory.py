"""What the cluster offers: the upstream's models and the scorer's routers, asked for now and again.

The gateway starts without it and is ready once the upstream has every model that it is to ask.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence

from pointsman.errors import PointsmanError, RouterNotReady, UnknownModel, UnknownRouter
from pointsman.routing import quote
from pointsman.scorer.v1 import scorer_pb2
from pointsman.upstream.v1 import upstream_pb2
from services.gateway.callers import ANYBODY, Caller

logger = logging.getLogger(__name__)

_RETRY_SECONDS = 0.25
"""Between two tries while the upstream or the scorer has not answered yet."""

ListModels = Callable[[], Awaitable[upstream_pb2.ListModelsResponse]]
ListRouters = Callable[[], Awaitable[scorer_pb2.ListRoutersResponse]]


class Directory:
    """The models and routers there are, as last heard.

    Args:
        wanted: Key path → model that must exist.
        source: Where they are configured, for the error message.
        list_models: Asks the upstream.
        list_routers: Asks the scorer.
        sleep: Waits between two rounds.
    """

    def __init__(
        self,
        wanted: Mapping[str, str],
        source: str,
        list_models: ListModels,
        list_routers: ListRouters,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._wanted = wanted
        self._source = source
        self._list_models = list_models
        self._list_routers = list_routers
        self._sleep = sleep
        self._not_ready_reason = "the upstream has not been reached yet"
        self._scorer_answered = False
        self.models: Sequence[upstream_pb2.Model] = ()
        """The upstream's models; empty until it was first reached."""
        self.routers: Sequence[scorer_pb2.Router] = ()
        """The scorer's routers, ready or not; empty until it was first reached."""

    @property
    def not_ready_reason(self) -> str:
        """Why no request can be answered yet; empty once it can.

        An upstream that goes away later does not change it: that is answered with 503, not with a
        closed door.
        """
        return self._not_ready_reason

    def require_model(self, name: str, caller: Caller = ANYBODY) -> None:
        """Raises UnknownModel if the upstream is known not to have the model.

        The message names only models that the caller may use.
        """
        names = [model.name for model in self.models]
        if names and name not in names:
            known = ", ".join(filter(caller.may_use_model, names)) or "no others for this API key"
            raise UnknownModel(
                f"The model {quote(name)} does not exist. There are {known}, and routers as "
                "router-<name>-<threshold>; GET /v1/models lists them."
            )

    def require_router(self, name: str, caller: Caller = ANYBODY) -> None:
        """Raises UnknownRouter if the scorer is known not to have the router.

        The message names only routers that the caller may use.
        """
        names = [router.name for router in self.routers]
        if names and name not in names:
            known = ", ".join(filter(caller.may_use_router, names)) or "no others for this API key"
            raise UnknownRouter(
                f"The router {quote(name)} does not exist. There are {known}; GET /v1/models "
                "lists them."
            )

    def percentiles(self, name: str) -> Sequence[float]:
        """Returns a router's win rates at percentiles 0, 1, ..., 100 of its calibration prompts.

        Empty for a router that has none.

        Raises:
            RouterNotReady: It is not ready, or the scorer was never reached.
        """
        for router in self.routers:
            if router.name == name and router.ready:
                return router.win_rate_percentiles
        raise RouterNotReady(f"The router {quote(name)} is not ready.")

    def router_label(self, name: str) -> str:
        """Returns the name as a metric label: only existing routers, everything else is `other`."""
        return name if any(router.name == name for router in self.routers) else "other"

    async def refresh(self) -> None:
        """Asks both services once; one that does not answer leaves what was last heard."""
        try:
            listing = await self._list_models()
            self.models = listing.models
            self._not_ready_reason = self._missing(listing)
        except PointsmanError as error:
            logger.warning("upstream not reached", extra={"reason": error.message})
            if not self.models:
                self._not_ready_reason = f"the upstream cannot be reached: {error.message}"
        try:
            self.routers = (await self._list_routers()).routers
            self._scorer_answered = True
        except PointsmanError as error:
            self._scorer_answered = False
            logger.warning("scorer not reached", extra={"reason": error.message})

    async def keep_fresh(self, refresh_seconds: float) -> None:
        """Refreshes for ever: quickly until both services have answered, then now and again."""
        while True:
            complete = self._scorer_answered and not self._not_ready_reason
            await self._sleep(refresh_seconds if complete else _RETRY_SECONDS)
            try:
                await self.refresh()
            except Exception:  # whatever it was, the next round may go better
                logger.exception("models and routers could not be listed")

    def _missing(self, listing: upstream_pb2.ListModelsResponse) -> str:
        names = [model.name for model in listing.models]
        missing = [
            f"{key_path} is {quote(name)}"
            for key_path, name in self._wanted.items()
            if name not in names
        ]
        if not missing:
            return ""
        return (
            f"{' and '.join(missing)} in {self._source}, but {listing.source} only has "
            f"{', '.join(names)}; give both the same names, or set POINTSMAN_STRONG_MODEL "
            "and POINTSMAN_WEAK_MODEL"
        )
