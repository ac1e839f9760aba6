"""Providers that answer by a script, in a time that passes only when somebody waits.

The failover's own interface: `ask` makes a call, `sleep` waits, `clock` tells the time.
"""

import asyncio
import math
import random
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from prometheus_client import CollectorRegistry

from pointsman.chassis.config import convert
from pointsman.errors import ProviderError
from pointsman.models_file import ModelsFile
from pointsman.upstream.v1 import upstream_pb2 as pb
from services.upstream import provider_errors
from services.upstream.asking import Asked, ModelAtWork, Request
from services.upstream.call import Reply
from services.upstream.failover import Answer, Failover
from services.upstream.failures import failure_by_error, failure_by_status
from services.upstream.metrics import UpstreamMetrics
from services.upstream.models import Catalogue, Endpoint
from services.upstream.sse import WholeAnswer

Outcome = Callable[[Endpoint], Reply]


class SteppedTime:
    """A clock that a sleep moves on."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.slept: list[float] = []

    def __call__(self) -> float:
        """Returns monotonic seconds."""
        return self.now

    async def sleep(self, seconds: float) -> None:
        """Waits without waiting."""
        self.slept.append(seconds)
        self.now += seconds
        await asyncio.sleep(0)


def answered(*, seconds: float = 0.5, usage: pb.Usage | None = None) -> Outcome:
    """Returns a whole answer."""

    def reply(endpoint: Endpoint) -> Reply:
        return Reply(
            attempt=_attempt(endpoint, pb.ATTEMPT_OUTCOME_OK, 200, seconds),
            status=200,
            body=b'{"choices": []}',
            read=WholeAnswer(usage or pb.Usage(input_tokens=3, output_tokens=5), 20, False),
        )

    return reply


def refused(
    status: int,
    *,
    retry_after: float | None = None,
    body: bytes = b'{"error": {"message": "no"}}',
    seconds: float = 0.0,
) -> Outcome:
    """Returns a status of 400 or more."""

    def reply(endpoint: Endpoint) -> Reply:
        headers = {} if retry_after is None else {"retry-after": f"{retry_after:g}"}
        told, headers, text = provider_errors.refusal(status, headers, body, endpoint)
        return Reply(
            attempt=_attempt(endpoint, provider_errors.outcome_of(status), status, seconds),
            status=told,
            body=text,
            headers=headers,
            failure=failure_by_status(status, {}, body, retry_after),
        )

    return reply


def broken(error: ProviderError, *, repeatable: bool = True) -> Outcome:
    """Returns a call that came to nothing."""

    def reply(endpoint: Endpoint) -> Reply:
        told, outcome = provider_errors.STATUS_BY_KIND[error.kind]
        return Reply(
            attempt=_attempt(endpoint, outcome, 0, 0.0),
            status=told,
            body=provider_errors.body_for(error),
            failure=failure_by_error(error, repeatable=repeatable),
            budget=error.budget,
        )

    return reply


def _attempt(
    endpoint: Endpoint, outcome: pb.AttemptOutcome.ValueType, status: int, seconds: float
) -> pb.Attempt:
    return pb.Attempt(
        model=endpoint.model,
        provider=endpoint.provider,
        provider_model=endpoint.provider_model,
        outcome=outcome,
        status=status,
        seconds=seconds,
    )


class Script:
    """Providers in one process: what each answers in turn, and then again and again.

    Args:
        time: Moves on with every call, by the seconds that the call takes.
        outcomes: By provider; one that is not named answers well.
    """

    def __init__(self, time: SteppedTime, outcomes: Mapping[str, Sequence[Outcome]]) -> None:
        self._time = time
        self._outcomes = {name: list(some) for name, some in outcomes.items()}
        self.asked: list[str] = []

    def set(self, provider: str, *outcomes: Outcome) -> None:
        """Has a provider answer so from now on."""
        self._outcomes[provider] = list(outcomes)

    async def __call__(self, endpoint: Endpoint) -> Reply:
        """Makes one call."""
        self.asked.append(endpoint.provider)
        outcomes = self._outcomes.get(endpoint.provider, [answered()])
        outcome = outcomes[0] if len(outcomes) == 1 else outcomes.pop(0)
        reply = outcome(endpoint)
        self._time.now += reply.attempt.seconds
        return reply


class Upstream:
    """The upstream's failover over scripted providers.

    Args:
        models: As in a models file; the providers are those that they name.
        reliability: As in a models file.
        settings: Of every provider, as in a models file.
        outcomes: What the providers answer.
    """

    def __init__(
        self,
        models: Mapping[str, Mapping[str, Any]],
        *,
        reliability: Mapping[str, Any] | None = None,
        settings: Mapping[str, Any] | None = None,
        **outcomes: Sequence[Outcome],
    ) -> None:
        self.time = SteppedTime()
        self.script = Script(self.time, outcomes)
        self.registry = CollectorRegistry()
        self.metrics = UpstreamMetrics(self.registry)
        self.catalogue = catalogue(models, reliability, settings)
        self.failover = Failover(
            self.catalogue,
            self.metrics,
            clock=self.time,
            sleep=self.time.sleep,
            chance=random.Random(0),
        )
        self.requests: list[Request] = []

    @property
    def asked(self) -> list[str]:
        """The providers that were called, in order."""
        return self.script.asked

    def model(self, name: str = "strong") -> ModelAtWork:
        """Returns a model at work."""
        return self.failover.models[name]

    def request(self, *, seconds: float = math.inf) -> Request:
        """Returns a request with so many seconds to its deadline."""
        deadline = self.time.now + seconds
        request = Request(self.script, lambda: deadline - self.time.now)
        self.requests.append(request)
        return request

    async def ask_model(self, *, is_last: bool = True, seconds: float = math.inf) -> Asked:
        """Asks the model `strong` alone."""
        return await self.model().ask(self.request(seconds=seconds), is_last=is_last)

    async def ask(self, name: str = "strong", *, seconds: float = math.inf) -> Answer:
        """Asks a model and its fallbacks."""
        async with self.failover.answer(
            self.catalogue[name], self.request(seconds=seconds)
        ) as answer:
            return answer

    def counted(self, metric: str, **labels: str) -> float:
        """Returns a counter's value."""
        return self.registry.get_sample_value(f"pointsman_upstream_{metric}_total", labels) or 0.0


def catalogue(
    models: Mapping[str, Mapping[str, Any]],
    reliability: Mapping[str, Any] | None = None,
    settings: Mapping[str, Any] | None = None,
) -> Catalogue:
    """Returns the models of a file that says this; the providers are those that they name."""
    used = [place for model in models.values() for place in model.get("endpoints", [model])]
    file = {
        "providers": {
            place["provider"]: {"base_url": "http://127.0.0.1:1/v1", **(settings or {})}
            for place in used
        },
        "models": models,
        "reliability": reliability or {},
    }
    return Catalogue(convert(file, ModelsFile, source="models.yaml"), "models.yaml", {})
