"""The upstream's rpcs: an envelope in, the provider's answer out, one log line a call."""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing, asynccontextmanager
from typing import Any

import grpc

from pointsman.errors import InvalidRequest, PointsmanError
from pointsman.upstream.v1 import upstream_pb2 as pb
from pointsman.upstream.v1 import upstream_pb2_grpc
from services.upstream.body import address_to
from services.upstream.client import ProviderClient
from services.upstream.metrics import UpstreamMetrics, outcome_label
from services.upstream.models import Catalogue

logger = logging.getLogger(__name__)

Context = grpc.aio.ServicerContext[Any, Any]


class UpstreamServicer(upstream_pb2_grpc.UpstreamServiceServicer):
    """Answers Complete, StreamComplete and ListModels."""

    def __init__(
        self,
        catalogue: Catalogue,
        client: ProviderClient,
        metrics: UpstreamMetrics,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self._clock = clock
        self._catalogue = catalogue
        self._client = client
        self._metrics = metrics

    async def Complete(self, request: pb.CompleteRequest, context: Context) -> pb.CompleteResponse:
        """Asks a model for a whole answer."""
        envelope = request.envelope
        async with self._counted(envelope) as call:
            endpoint = self._catalogue[envelope.model]
            _expect_stream(envelope, False)
            body, _ = address_to(envelope.body, endpoint.provider_model, want_usage=False)
            call.attempt = pb.Attempt(model=endpoint.model, provider=endpoint.provider)
            answer = await self._client.complete(endpoint, body)
            call.attempt, call.usage = answer.attempt, answer.usage
            return pb.CompleteResponse(
                status=answer.status,
                body=answer.body,
                headers=answer.headers,
                model=endpoint.model,
                usage=answer.usage,
                attempts=[answer.attempt],
            )

    async def StreamComplete(
        self, request: pb.StreamCompleteRequest, context: Context
    ) -> AsyncIterator[pb.StreamCompleteResponse]:
        """Asks a model for a streamed answer."""
        envelope = request.envelope
        async with self._counted(envelope) as call:
            endpoint = self._catalogue[envelope.model]
            _expect_stream(envelope, True)
            body, hide_usage = address_to(
                envelope.body,
                endpoint.provider_model,
                want_usage=endpoint.settings.include_usage,
            )
            parts = self._client.stream(endpoint, body, hide_usage=hide_usage)
            async with aclosing(parts):
                async for part in parts:
                    if part.HasField("head"):
                        call.attempt = part.head.attempts[-1]
                    elif part.HasField("tail"):
                        call.attempt = part.tail.attempts[-1]
                        call.usage = part.tail.usage if part.tail.HasField("usage") else None
                    yield part

    async def ListModels(
        self, request: pb.ListModelsRequest, context: Context
    ) -> pb.ListModelsResponse:
        """Lists the configured models."""
        models = [
            pb.Model(
                name=endpoint.model,
                provider=endpoint.provider,
                input_price_per_million=endpoint.prices.input_price_per_million,
                output_price_per_million=endpoint.prices.output_price_per_million,
                context_window_tokens=endpoint.prices.context_window_tokens,
            )
            for endpoint in self._catalogue.endpoints()
        ]
        return pb.ListModelsResponse(models=models, source=self._catalogue.source)

    @asynccontextmanager
    async def _counted(self, envelope: pb.Envelope) -> AsyncIterator["_Call"]:
        call = _Call()
        outcome = "internal"
        started_at = self._clock()
        self._metrics.in_flight.inc()
        try:
            yield call
            outcome = outcome_label(call.attempt.outcome)
        except PointsmanError as error:
            outcome = error.kind
            raise
        except (asyncio.CancelledError, GeneratorExit):
            outcome = "cancelled"
            raise
        finally:
            seconds = self._clock() - started_at
            model = self._catalogue.label(envelope.model)
            self._metrics.requests.labels(model, outcome).inc()
            if call.attempt.model:
                self._metrics.observe(call.attempt, call.usage, outcome, seconds)
            _log(envelope, model, outcome, seconds, call)
            self._metrics.in_flight.dec()  # last: what is no longer in flight has been counted


class _Call:
    """What became of an rpc, for the metrics and the log."""

    def __init__(self) -> None:
        self.attempt = pb.Attempt()
        self.usage: pb.Usage | None = None


def _log(envelope: pb.Envelope, model: str, outcome: str, seconds: float, call: _Call) -> None:
    logger.info(
        "provider call",
        extra={
            "request_id": envelope.request_id,
            "model": model,
            "provider": call.attempt.provider,
            "stream": envelope.stream,
            "outcome": outcome,
            "status": call.attempt.status,
            "seconds": round(seconds, 6),
            "input_tokens": call.usage.input_tokens if call.usage else None,
            "output_tokens": call.usage.output_tokens if call.usage else None,
        },
    )


def _expect_stream(envelope: pb.Envelope, stream: bool) -> None:
    if envelope.stream is not stream:
        raise InvalidRequest(f"envelope.stream is {envelope.stream} in the wrong rpc")
