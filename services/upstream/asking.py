"""One model is asked: which endpoint, how often, after what wait.

choose ──► wait for a place ──► call ──► answer
▲                               │
└── wait (jitter, Retry-After) ◄┴─ failure that may be tried again, while the budget lasts
"""

import itertools
import random
from collections.abc import Awaitable, Callable, Collection, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

from pointsman.reliability import Reliability
from pointsman.upstream.v1 import upstream_pb2 as pb
from services.upstream.call import Reply
from services.upstream.endpoints import EndpointAtWork, NotReady, QueueFull, Turn, less_loaded
from services.upstream.failures import Failure
from services.upstream.hedging import Hedging
from services.upstream.metrics import UpstreamMetrics
from services.upstream.models import Endpoint, Model
from services.upstream.refusals import given_up, queue_full, refusal
from services.upstream.retries import Backoff, RetryBudget

Ask = Callable[[Endpoint], Awaitable[Reply]]
Sleep = Callable[[float], Awaitable[None]]


@dataclass(slots=True)
class Request:
    """One request on its way through endpoints and models."""

    ask: Ask
    """Makes one call."""
    seconds_left: Callable[[], float]
    """Until the caller's deadline."""
    attempts: list[pb.Attempt] = field(default_factory=list)
    """Every call that has ended, or whose stream has begun."""
    losers: list[Reply | None] = field(default_factory=list)
    """Calls that another was faster than, None for one that was cut short: paid for all the same.
    They are the model's that answers."""


@dataclass(frozen=True, slots=True)
class Asked:
    """What a call came to, and the place it holds as long as its stream runs."""

    reply: Reply
    turn: Turn | None = None

    async def aclose(self) -> None:
        """Hangs up if the answer still runs, and gives the place to the next."""
        stream, turn = self.reply.stream, self.turn
        if stream is None or turn is None:
            return
        await stream.aclose()
        if stream.error:
            turn.broke_off()
        elif self.reply.attempt.outcome == pb.ATTEMPT_OUTCOME_OK:
            turn.finished()
        turn.end()


class ModelAtWork:
    """Asks one model, at whichever of its endpoints is best.

    Args:
        model: Which.
        reliability: How often, and when not.
        metrics: Counts.
        clock: Monotonic seconds.
        sleep: Waits.
        chance: Where all randomness comes from.
    """

    def __init__(
        self,
        model: Model,
        reliability: Reliability,
        metrics: UpstreamMetrics,
        *,
        clock: Callable[[], float],
        sleep: Sleep,
        chance: random.Random,
    ) -> None:
        self.model = model
        self.endpoints = [
            EndpointAtWork(one, reliability.breaker, clock) for one in model.endpoints
        ]
        self._retries = reliability.retries
        self._budget = RetryBudget(self._retries.budget_share, self._retries.budget_reserve)
        self._backoff = Backoff(self._retries, chance.uniform)
        self._hedging: Hedging[Asked] = Hedging(
            reliability.hedging, sleep, is_good=lambda asked: asked.reply.failure is None
        )
        self._metrics = metrics
        self._sleep = sleep
        self._sample = chance.sample

    async def ask(self, request: Request, *, is_last: bool) -> Asked:
        """Returns an answer, a stream that has begun, or the failure that ended the trying.

        Args:
            request: What is asked.
            is_last: Whether nobody else can be asked: then waits may be long.
        """
        self._budget.request()
        longest = self._retries.max_wait_seconds if is_last else self._retries.patience_seconds
        failed: set[EndpointAtWork] = set()
        slow: set[EndpointAtWork] = set()  # and whoever else is not to be asked again
        asked: Asked | None = None
        for retries in itertools.count():
            called = await self._called(failed, slow, longest, request)
            if called is None:
                return asked or Asked(refusal(self.model, self.endpoints))
            if asked is not None:
                self._metrics.retries.labels(self.model.name).inc()
            endpoint, asked = called
            failure = asked.reply.failure
            if failure is None or retries == self._retries.max_retries:
                return asked
            failed.add(endpoint)
            if not failure.again:
                slow.add(endpoint)
            others = failure.elsewhere and self._ready(failed)
            if not (others or failure.again) or not self._budget.take():
                return asked
            wait = 0.0 if others else self._pause(failure, retries)
            if not await self._waited(wait, longest, request):
                return asked
        raise AssertionError("unreachable")

    async def _called(
        self,
        failed: Collection[EndpointAtWork],
        slow: Collection[EndpointAtWork],
        longest: float,
        request: Request,
    ) -> tuple[EndpointAtWork, Asked] | None:
        """Returns who was asked and what came of it; None if nobody will be ready."""
        while (endpoint := await self._next(failed, slow, longest, request)) is not None:
            with suppress(NotReady):  # then it changed while this request waited for a place
                return endpoint, await self._ask_at(endpoint, request)
        return None

    async def _next(
        self,
        failed: Collection[EndpointAtWork],
        slow: Collection[EndpointAtWork],
        longest: float,
        request: Request,
    ) -> EndpointAtWork | None:
        """Returns whom to ask, if possible one that has not failed; None if nobody will be ready.

        Waits for an endpoint that wants to be left alone for a moment.
        """
        while not (ready := self._ready(slow)):
            resting = [
                one.rest_seconds()
                for one in self.endpoints
                if one not in slow and not one.seconds_until_breaker_lets_through()
            ]
            if not resting or not await self._waited(min(resting), longest, request):
                return None
        fresh = [one for one in ready if one not in failed]
        return self._choose(fresh or ready)

    def _ready(self, but: Collection[EndpointAtWork]) -> list[EndpointAtWork]:
        return [one for one in self.endpoints if one not in but and one.seconds_until_ready() <= 0]

    def _choose(self, endpoints: Sequence[EndpointAtWork]) -> EndpointAtWork:
        roomy = [one for one in endpoints if not one.is_full]
        return less_loaded(roomy or endpoints, self._sample)

    def _pause(self, failure: Failure, retries: int) -> float:
        if failure.retry_after_seconds is not None:
            return failure.retry_after_seconds
        return self._backoff.seconds(retries)

    async def _waited(self, seconds: float, longest: float, request: Request) -> bool:
        """Waits and returns True, or returns False if that would take too long."""
        if seconds > longest or seconds >= request.seconds_left():
            return False
        if seconds > 0:
            await self._sleep(seconds)
        return True

    async def _ask_at(self, endpoint: EndpointAtWork, request: Request) -> Asked:
        others = self._hedging.is_on and self._ready([endpoint])
        if not others:
            return await self._call(endpoint, request)
        already_lost = len(request.losers)
        asked = await self._hedging.race(
            lambda: self._call(endpoint, request),
            lambda: self._call_besides(others, request),
            endpoint.slow_seconds(self._hedging.min_calls),
            lambda loser: self._lost(loser, request),
        )
        self._metrics.hedges.labels(self.model.name).inc(len(request.losers) - already_lost)
        return asked

    async def _call_besides(self, others: Sequence[EndpointAtWork], request: Request) -> Asked:
        try:
            return await self._call(self._choose(others), request)
        except NotReady:  # the first call goes on without it
            return Asked(refusal(self.model, self.endpoints))

    async def _lost(self, loser: Asked | None, request: Request) -> None:
        """Hangs up on the loser of a race, and notes that it is paid for, if it was sent."""
        if loser is not None:
            await loser.aclose()
            was_sent = bool(loser.reply.attempt.model)
        else:
            cut_short = [one.outcome for one in request.attempts].count(
                pb.ATTEMPT_OUTCOME_CANCELLED
            )
            was_sent = cut_short > request.losers.count(None)
        if was_sent:
            request.losers.append(loser.reply if loser else None)

    async def _call(self, endpoint: EndpointAtWork, request: Request) -> Asked:
        try:
            turn = await endpoint.begin()
        except QueueFull as full:
            return Asked(queue_full(endpoint.endpoint, full.retry_after_seconds))
        try:
            reply = await request.ask(endpoint.endpoint)
        except BaseException:
            request.attempts.append(given_up(endpoint.endpoint))
            turn.end()
            raise
        request.attempts.append(reply.attempt)
        turn.heard(reply)
        self._count(reply)
        if reply.stream is not None:
            return Asked(reply, turn)
        turn.end()
        return Asked(reply)

    def _count(self, reply: Reply) -> None:
        if reply.budget:
            self._metrics.timeouts.labels(self.model.name, reply.budget).inc()
        if reply.first_token_seconds:
            seconds = self._metrics.first_token_seconds.labels(self.model.name)
            seconds.observe(reply.first_token_seconds)
