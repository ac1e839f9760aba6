"""The upstream's rpcs: an envelope in, a provider's answer out, one log line a call."""

import asyncio
import math
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing, asynccontextmanager
from typing import Any

import grpc

from pointsman.errors import InvalidRequest, PointsmanError
from pointsman.upstream.v1 import upstream_pb2 as pb
from pointsman.upstream.v1 import upstream_pb2_grpc
from services.upstream.account import Account, Bill
from services.upstream.asking import Request
from services.upstream.body import ClientBody
from services.upstream.call import Reply
from services.upstream.client import ProviderClient
from services.upstream.failover import Answer, Failover
from services.upstream.metrics import UpstreamMetrics
from services.upstream.models import Catalogue, Endpoint, Model

Context = grpc.aio.ServicerContext[Any, Any]


class UpstreamServicer(upstream_pb2_grpc.UpstreamServiceServicer):
    """Answers Complete, StreamComplete and ListModels."""

    def __init__(
        self,
        catalogue: Catalogue,
        client: ProviderClient,
        failover: Failover,
        metrics: UpstreamMetrics,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self._clock = clock
        self._catalogue = catalogue
        self._client = client
        self._failover = failover
        self._metrics = metrics
        self._hold_back = catalogue.reliability.on_stream_failure == "restart"

    async def Complete(self, request: pb.CompleteRequest, context: Context) -> pb.CompleteResponse:
        """Asks a model for a whole answer."""
        async with self._asked(request.envelope, context, stream=False) as (answer, account):
            reply = answer.reply
            bill = account.bill()
            return pb.CompleteResponse(
                status=reply.status,
                body=reply.body,
                headers=reply.headers,
                model=answer.model.name,
                usage=bill.usage,
                attempts=account.attempts,
                fallback=answer.fallback,
                cost_dollars=bill.dollars,
            )

    async def StreamComplete(
        self, request: pb.StreamCompleteRequest, context: Context
    ) -> AsyncIterator[pb.StreamCompleteResponse]:
        """Asks a model for a streamed answer."""
        async with self._asked(request.envelope, context, stream=True) as (answer, account):
            yield _head(answer, account)
            stream = answer.reply.stream
            if stream is None:
                return
            async with aclosing(stream.frames()) as parts:
                async for frames in parts:
                    yield pb.StreamCompleteResponse(frames=frames)
            yield _tail(stream.error, account, account.bill())

    async def ListModels(
        self, request: pb.ListModelsRequest, context: Context
    ) -> pb.ListModelsResponse:
        """Lists the configured models."""
        models = [_listed(model) for model in self._catalogue.models()]
        return pb.ListModelsResponse(models=models, source=self._catalogue.source)

    @asynccontextmanager
    async def _asked(
        self, envelope: pb.Envelope, context: Context, *, stream: bool
    ) -> AsyncIterator[tuple[Answer, Account]]:
        """Yields what a request came to; counts and logs it, however it ends."""
        account = Account(envelope, self._catalogue, self._metrics)
        started_at = self._clock()
        self._metrics.in_flight.inc()
        try:
            model = self._catalogue[envelope.model]
            if envelope.stream is not stream:
                raise InvalidRequest(f"envelope.stream is {envelope.stream} in the wrong rpc")
            body = ClientBody(envelope.body)
            request = Request(
                self._streamed(body) if stream else self._whole(body), _seconds_left(context)
            )
            account.request, account.body = request, body
            async with self._failover.answer(model, request) as answer:
                account.answer = answer
                yield answer, account
            account.outcome = account.outcome_of_answer()
        except PointsmanError as error:
            account.outcome = error.kind
            raise
        except (asyncio.CancelledError, GeneratorExit):
            account.outcome = "cancelled"
            raise
        finally:
            account.close(self._clock() - started_at)
            self._metrics.in_flight.dec()  # last: what is no longer in flight has been counted

    def _whole(self, body: ClientBody) -> Callable[[Endpoint], Awaitable[Reply]]:
        async def ask(endpoint: Endpoint) -> Reply:
            addressed, _ = body.address_to(endpoint.provider_model, want_usage=False)
            return await self._client.complete(endpoint, addressed)

        return ask

    def _streamed(self, body: ClientBody) -> Callable[[Endpoint], Awaitable[Reply]]:
        choices = body.choices()

        async def ask(endpoint: Endpoint) -> Reply:
            addressed, hide_usage = body.address_to(
                endpoint.provider_model, want_usage=endpoint.settings.include_usage
            )
            return await self._client.stream(
                endpoint,
                addressed,
                hide_usage=hide_usage,
                choices=choices,
                hold_back=self._hold_back,
            )

        return ask


def _seconds_left(context: Context) -> Callable[[], float]:
    def seconds_left() -> float:
        left: float | None = context.time_remaining()  # None without a deadline
        return math.inf if left is None else left

    return seconds_left


def _head(answer: Answer, account: Account) -> pb.StreamCompleteResponse:
    reply = answer.reply
    head = pb.StreamHead(
        status=reply.status,
        body=reply.body,
        headers=reply.headers,
        model=answer.model.name,
        attempts=account.attempts,
        fallback=answer.fallback,
    )
    return pb.StreamCompleteResponse(head=head)


def _tail(error: bytes, account: Account, bill: Bill) -> pb.StreamCompleteResponse:
    tail = pb.StreamTail(
        complete=not error,
        error=error,
        usage=bill.usage,
        attempts=account.attempts,
        cost_dollars=bill.dollars,
    )
    return pb.StreamCompleteResponse(tail=tail)


def _listed(model: Model) -> pb.Model:
    prices = model.settings.prices()
    return pb.Model(
        name=model.name,
        provider=model.endpoints[0].provider,
        input_price_per_million=prices.input,
        output_price_per_million=prices.output,
        context_window_tokens=model.settings.context_window_tokens,
        cached_input_price_per_million=prices.cached_input,
        reasoning_price_per_million=prices.reasoning,
    )
