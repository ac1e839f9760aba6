"""An endpoint at work: how loaded and how fast it is, and whether it may be asked now."""

import asyncio
import logging
import math
from collections import deque
from collections.abc import Callable, Sequence

from pointsman.reliability import BreakerSettings
from pointsman.upstream.v1 import upstream_pb2 as pb
from services.upstream.breaker import BreakerState, CircuitBreaker
from services.upstream.call import Reply
from services.upstream.models import Endpoint

logger = logging.getLogger(__name__)

_SMOOTHING = 0.2
"""Weight of the newest call in the average time to the first token."""
_FASTEST_SECONDS = 0.001
"""Endpoints that are faster, or not yet known, count as equals: the number of calls decides."""
_FAILED_SECONDS = 1.0
"""What a failure counts at least as: one that fails at once must not look like a fast one."""
_LAST_CALLS = 100
_LONGEST_REST_SECONDS = 60.0
"""A Retry-After of hours is believed for so long, and then asked about again."""


class QueueFull(Exception):
    """An endpoint has as many calls as it may have, and as many waiting.

    Attributes:
        retry_after_seconds: When there is likely to be a place, as the calls have gone so far.
    """

    def __init__(self, retry_after_seconds: float) -> None:
        self.retry_after_seconds = retry_after_seconds


class NotReady(Exception):
    """An endpoint has failed, or wants to be left alone, since a request began to wait for it."""


class EndpointAtWork:
    """What is known of an endpoint while it is being used.

    Args:
        endpoint: Which.
        breaker: When it is left alone for failing.
        clock: Monotonic seconds.
    """

    def __init__(
        self, endpoint: Endpoint, breaker: BreakerSettings, clock: Callable[[], float]
    ) -> None:
        self.endpoint = endpoint
        self._clock = clock
        self._breaker = CircuitBreaker(breaker, clock)
        self._places = asyncio.Semaphore(endpoint.settings.max_in_flight)
        self._is_out = False
        self._rests_until = -math.inf
        self._average_seconds: float | None = None
        self._last_seconds: deque[float] = deque(maxlen=_LAST_CALLS)
        self.refuses_the_key = False
        """Whether the last call was answered with 401 or 403."""
        self.in_flight = 0
        """Calls that are being answered, streams too."""
        self.queued = 0
        """Requests that wait for their call to begin."""

    @property
    def breaker_state(self) -> BreakerState:
        """Returns where the breaker stands."""
        return self._breaker.state

    @property
    def is_full(self) -> bool:
        """Returns whether the next request would have to wait."""
        return self._places.locked()

    @property
    def load(self) -> float:
        """Returns how long a request would take here, more or less: what the balancer compares."""
        waiting = self.in_flight + self.queued + 1
        return waiting * max(self._average_seconds or 0.0, _FASTEST_SECONDS) / self.endpoint.weight

    def rest_seconds(self) -> float:
        """Returns for how much longer the provider wants to be left alone."""
        return max(0.0, self._rests_until - self._clock())

    def seconds_until_breaker_lets_through(self) -> float:
        """Returns 0 if the breaker lets a call through now, else how long to wait for that."""
        return self._breaker.seconds_until_callable()

    def seconds_until_ready(self) -> float:
        """Returns 0 if it may be asked now, else how long to wait for that."""
        return max(self.rest_seconds(), self._breaker.seconds_until_callable())

    def slow_seconds(self, min_calls: int) -> float | None:
        """Returns what 95 % of the last calls were faster than; None where too few are known."""
        if len(self._last_seconds) < min_calls:
            return None
        ordered = sorted(self._last_seconds)
        return ordered[math.ceil(0.95 * len(ordered)) - 1]

    async def begin(self) -> "Turn":
        """Returns the right to make one call, once there is a place; to be ended by the caller.

        Raises:
            QueueFull: Too many wait already.
            NotReady: It was to be left alone by the time there was a place.
        """
        if self.is_full and self.queued >= self.endpoint.settings.max_queued:
            raise QueueFull(self._seconds_to_a_place())
        self.queued += 1
        try:
            await self._places.acquire()
        finally:
            self.queued -= 1
        if self.seconds_until_ready() > 0:  # or all who wait would run into what one has run into
            self._places.release()
            raise NotReady
        self.in_flight += 1
        return Turn(self, self._breaker, self._places)

    def broke_off(self) -> None:
        """Learns that a stream did not end well."""
        self._breaker.failed()
        self._log_breaker()

    def finished(self) -> None:
        """Learns that a stream ended well."""
        self._breaker.succeeded()

    def heard(self, reply: Reply) -> None:
        """Learns from what a call came to.

        A stream that has begun may still break off, so it counts as a success once it has ended. A
        probe's counts at once, or the endpoint would be left alone for as long as it runs.
        """
        failure, attempt = reply.failure, reply.attempt
        is_refused = attempt.outcome == pb.ATTEMPT_OUTCOME_UNAUTHORIZED
        is_open = self._breaker.state is BreakerState.OPEN  # then this call began before it opened
        self.refuses_the_key = is_refused or (is_open and self.refuses_the_key)
        if is_refused:
            self._breaker.refused_the_key()
        elif failure is None or not failure.blame:
            if reply.stream is None or self._is_out:
                self._breaker.succeeded()
            if failure is None:
                self._took(attempt.seconds)
                self._last_seconds.append(attempt.seconds)
        else:
            self._took(max(attempt.seconds, 2 * (self._average_seconds or 0.0), _FAILED_SECONDS))
            self._breaker.failed()
        if failure is not None and failure.retry_after_seconds:
            rest = min(failure.retry_after_seconds, _LONGEST_REST_SECONDS)
            self._rests_until = max(self._rests_until, self._clock() + rest)
        self._log_breaker()

    def _log_breaker(self) -> None:
        """Tells the operator when the endpoint leaves the rotation, and when it comes back."""
        is_out = self._breaker.state is not BreakerState.CLOSED
        if is_out == self._is_out:
            return
        self._is_out = is_out
        where = {"model": self.endpoint.model, "provider": self.endpoint.label}
        if is_out:
            seconds = round(self._breaker.seconds_until_callable(), 3)
            logger.error("endpoint is left alone", extra={**where, "seconds": seconds})
        else:
            logger.info("endpoint answers again", extra=where)

    def _took(self, seconds: float) -> None:
        average = seconds if self._average_seconds is None else self._average_seconds
        self._average_seconds = average + _SMOOTHING * (seconds - average)

    def _seconds_to_a_place(self) -> float:
        turns = (self.queued + 1) / self.endpoint.settings.max_in_flight
        return max(1.0, turns * (self._average_seconds or 0.0))


class Turn:
    """The right to make one call, until it is ended."""

    def __init__(
        self, at: EndpointAtWork, breaker: CircuitBreaker, places: asyncio.Semaphore
    ) -> None:
        self._at = at
        self._breaker = breaker
        self._places = places
        self._is_probe = breaker.begin()
        self._heard = False
        self._over = False

    def heard(self, reply: Reply) -> None:
        """Tells the endpoint what the call came to."""
        self._heard = True
        self._at.heard(reply)

    def broke_off(self) -> None:
        """Tells the endpoint that a stream did not end well."""
        self._at.broke_off()

    def finished(self) -> None:
        """Tells the endpoint that a stream ended well."""
        self._at.finished()

    def end(self) -> None:
        """Gives the place to the next; a call of which nothing was heard says nothing."""
        if self._over:
            return
        self._over = True
        if self._is_probe and not self._heard:
            self._breaker.abandoned()
        self._at.in_flight -= 1
        self._places.release()


def less_loaded(
    endpoints: Sequence[EndpointAtWork],
    sample: Callable[[Sequence[EndpointAtWork], int], list[EndpointAtWork]],
) -> EndpointAtWork:
    """Returns the less loaded of two that are drawn at random; at least one must be given.

    After M. Mitzenmacher, The Power of Two Choices in Randomized Load Balancing (2001): nearly as
    even as asking all, and no herd runs to the one that just became free.
    """
    return min(sample(endpoints, min(2, len(endpoints))), key=lambda one: one.load)
