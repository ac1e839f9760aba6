"""Whether one more request is taken, before its body is read.

Too much work shows as delay: a request waits on its way through the cluster, to its provider and
back. So the limit on unanswered requests falls while that takes too long, and rises again later.
How long providers take has no part in it: a thousand slow answers, streams or idle connections
delay nobody.
"""

import logging
import math
import time
from collections.abc import Callable
from types import TracebackType
from typing import Self

from pointsman.errors import Overloaded
from services.gateway.config import AdmissionSettings
from services.gateway.metrics import GatewayMetrics

logger = logging.getLogger(__name__)

_MEMORY_SECONDS = 0.5
"""Delays are averaged over so long: a pause for garbage is over by then, an overload is not."""
_SPEED = 1.0
"""How fast the limit moves: in one second by the factor e to this. Higher: it would swing."""
_SILENCE_SECONDS = 5.0
"""So long without an answer, and the limit rises by itself."""
_LONGEST_SECONDS = 0.25
"""One delay that is too long lowers the limit as if it stood for at most so much time."""
_WARNING_SECONDS = 10.0
"""A line for each refusal would cost as much as the refusal: one for all of so many seconds."""


class Place:
    """One unanswered request; a context manager that ends with it, or at `answering`."""

    __slots__ = ("_admission", "_open")

    def __init__(self, admission: "Admission") -> None:
        self._admission = admission
        self._open = True

    def answering(self) -> None:
        """Says that the answer has begun: from here on the request counts no more."""
        if self._open:
            self._open = False
            self._admission.leave()

    def __enter__(self) -> Self:
        """Returns itself."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Frees the place."""
        self.answering()


class Admission:
    """Admits requests, or refuses them at once.

    Args:
        settings: The limits.
        metrics: Where refusals are counted.
        clock: Monotonic seconds.
    """

    def __init__(
        self,
        settings: AdmissionSettings,
        metrics: GatewayMetrics,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._settings = settings
        self._metrics = metrics
        self._clock = clock
        self._unanswered = 0
        self._limit = float(settings.max_unanswered)
        self._delay_seconds = 0.0
        self._late = False
        self._observed_at = clock()
        self._unreported = 0
        self._reported_at = -math.inf
        metrics.unanswered.set_function(lambda: self._unanswered)
        metrics.unanswered_limit.set_function(self.limit)

    def limit(self) -> int:
        """Returns how many unanswered requests there may be now."""
        return int(self._limit_after_silence())

    def admit(self) -> Place:
        """Returns the request's place among the unanswered ones.

        Raises:
            Overloaded: There is none; it has been counted.
        """
        if self._unanswered >= (limit := self.limit()):
            self._count_refusal(limit)
            raise Overloaded(
                f"The gateway has {self._unanswered} requests to answer, which is all that it can "
                "do now; try again in a second."
            )
        self._unanswered += 1
        return Place(self)

    def _count_refusal(self, limit: int) -> None:
        reason = "unanswered" if limit == self._settings.max_unanswered else "delay"
        self._metrics.refused.labels(reason).inc()
        self._metrics.requests.labels("none", Overloaded.kind).inc()
        self._unreported += 1
        if self._clock() - self._reported_at >= _WARNING_SECONDS:
            extra = {"reason": reason, "limit": limit, "refused": self._unreported}
            logger.warning("requests are refused", extra=extra)
            self._unreported, self._reported_at = 0, self._clock()

    def leave(self) -> None:
        """Frees a place; for `Place`."""
        self._unanswered -= 1

    def observe(self, delay_seconds: float) -> None:
        """Moves the limit by what a request has waited in the cluster."""
        now = self._clock()
        seconds = now - self._observed_at
        self._limit, self._observed_at = self._limit_after_silence(), now
        forgotten = math.exp(-seconds / _MEMORY_SECONDS)
        self._delay_seconds += (1 - forgotten) * (delay_seconds - self._delay_seconds)
        excess = min(1.0, self._delay_seconds / self._settings.max_delay_seconds - 1)
        if excess > 0 and not self._late:  # a limit that nobody has come near means nothing
            self._limit = min(self._limit, float(self._unanswered))
        self._late = excess > 0
        moved = math.exp(-excess * _SPEED * min(seconds, _LONGEST_SECONDS))
        self._limit = self._within(self._limit * moved)

    def _limit_after_silence(self) -> float:
        """Returns the limit, raised: those that were let in may all wait for one provider."""
        silence = max(0.0, self._clock() - self._observed_at - _SILENCE_SECONDS)
        return self._within(self._limit * math.exp(min(_SPEED * silence, 100.0)))

    def _within(self, limit: float) -> float:
        return max(self._settings.calm_unanswered, min(limit, self._settings.max_unanswered))
