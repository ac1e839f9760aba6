"""A model that does not answer is left for its fallbacks, in the order of the models file."""

import random
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass

from pointsman.upstream.v1 import upstream_pb2 as pb
from services.upstream.asking import Asked, ModelAtWork, Request, Sleep
from services.upstream.call import Reply
from services.upstream.metrics import EndpointGauges, UpstreamMetrics, reason_label
from services.upstream.models import Catalogue, Model

_ASKED = pb.FALLBACK_REASON_UNSPECIFIED


@dataclass(frozen=True, slots=True)
class Answer:
    """What a request came to, after all that was tried."""

    model: Model
    """Who answers; of a failure, who was asked for."""
    reply: Reply
    fallback: pb.FallbackReason.ValueType = _ASKED
    """Why it is not the model that was asked for; unspecified if it is."""


class Failover:
    """Asks models and their fallbacks.

    Args:
        catalogue: The models.
        metrics: Counts.
        clock: Monotonic seconds.
        sleep: Waits.
        chance: Where all randomness comes from.
    """

    def __init__(
        self,
        catalogue: Catalogue,
        metrics: UpstreamMetrics,
        *,
        clock: Callable[[], float],
        sleep: Sleep,
        chance: random.Random,
    ) -> None:
        self._metrics = metrics
        self.models: Mapping[str, ModelAtWork] = {
            model.name: ModelAtWork(
                model, catalogue.reliability, metrics, clock=clock, sleep=sleep, chance=chance
            )
            for model in catalogue.models()
        }

    def gauges(self) -> EndpointGauges:
        """Yields how every endpoint stands."""
        for name, model in self.models.items():
            for one in model.endpoints:
                yield name, one.endpoint.label, one.breaker_state, one.in_flight, one.queued

    @asynccontextmanager
    async def answer(self, model: Model, request: Request) -> AsyncIterator[Answer]:
        """Yields the model's answer, a fallback's, or the failure of the model itself.

        On the way out a stream that still runs is hung up.
        """
        asked, answer = await self._ask(model, request)
        try:
            yield answer
        finally:
            await asked.aclose()

    async def _ask(self, model: Model, request: Request) -> tuple[Asked, Answer]:
        first = await self.models[model.name].ask(request, is_last=not model.fallbacks)
        failure = first.reply.failure
        if failure is None or failure.reason == _ASKED:
            return first, Answer(model, first.reply)
        others = self._fallbacks(model, failure.reason)
        for other in others:
            asked = await other.ask(request, is_last=other is others[-1])
            if asked.reply.failure is None:
                reason = reason_label(failure.reason)
                self._metrics.fallbacks.labels(model.name, other.model.name, reason).inc()
                return asked, Answer(other.model, asked.reply, failure.reason)
        if len(request.attempts) > 1:
            first.reply.headers["x-should-retry"] = "false"  # it has been, here
        return first, Answer(model, first.reply)

    def _fallbacks(self, model: Model, reason: pb.FallbackReason.ValueType) -> list[ModelAtWork]:
        """Returns whom to ask instead: for a prompt that is too long, who can take more."""
        others = [self.models[name] for name in model.fallbacks]
        if reason != pb.FALLBACK_REASON_CONTEXT_LENGTH:
            return others
        window = model.settings.context_window_tokens
        return [one for one in others if one.model.settings.context_window_tokens > window]
