"""`POST /v1/chat/completions`: read, decide, complete, answer."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing

from aiohttp import web

from pointsman.errors import PointsmanError, UpstreamUnavailable
from pointsman.upstream.v1 import upstream_pb2 as pb
from services.gateway import responses
from services.gateway.access import REQUEST_ID, Record, recorded
from services.gateway.admission import Admission, Place
from services.gateway.callers import CALLER
from services.gateway.completion import UpstreamClient
from services.gateway.deadlines import Deadlines
from services.gateway.metrics import GatewayMetrics
from services.gateway.openai_errors import error_object
from services.gateway.request import parse_chat_request, read_body
from services.gateway.routes import Routes
from services.gateway.savings import Savings

_FINISH_SECONDS = 1.0
"""A client has so long to take the end of its stream."""


class ChatCompletions:
    """The handler and what it works with.

    Args:
        routes: Chooses.
        upstream: Completes.
        metrics: Counts.
        body_limit_bytes: Largest request body.
        deadlines: Limits the time a request may take.
        admission: Refuses what is too much.
        savings: Counts dollars.
    """

    def __init__(
        self,
        routes: Routes,
        upstream: UpstreamClient,
        metrics: GatewayMetrics,
        *,
        body_limit_bytes: int,
        deadlines: Deadlines,
        admission: Admission,
        savings: Savings,
    ) -> None:
        self._routes = routes
        self._upstream = upstream
        self._metrics = metrics
        self._body_limit_bytes = body_limit_bytes
        self._deadlines = deadlines
        self._admission = admission
        self._savings = savings

    async def create(self, request: web.Request) -> web.StreamResponse:
        """Answers one chat request."""
        deadline = self._deadlines.of_new_request()
        with (
            self._admission.admit() as place,
            recorded(request[REQUEST_ID], self._metrics) as record,
        ):
            caller = request[CALLER]
            record.key = caller.name
            async with self._deadlines.limit(deadline):
                with record.stage("read"):
                    body = await read_body(request, self._body_limit_bytes)
                    chat = parse_chat_request(body)
                record.stream = bool(chat.stream)
                route = await self._routes.choose(chat, request.headers, caller, record)
                record.routed(route.model, route.reason, route.decision)
            with record.stage("complete"):
                if chat.stream:
                    return await self._streamed(
                        request, route.model, body, deadline, record=record, place=place
                    )
                return await self._whole(route.model, body, deadline, record)

    async def _whole(
        self, model: str, body: bytes, deadline: float, record: Record
    ) -> web.Response:
        async with self._deadlines.limit(deadline):
            started_at, seconds = record.clock(), _seconds_until(deadline)
            answer = await self._upstream.complete(model, body, record.request_id, seconds)
            self._notice_delay(record.clock() - started_at, answer.attempts)
        record.status = answer.status
        record.answered(answer.model, answer.fallback)
        whole = answer.status < 400
        if not whole:
            record.outcome = "provider_error"
        self._bill(answer, record, whole=whole)
        headers = responses.routing_headers(record, answer.model)
        return responses.whole(answer, headers)

    async def _streamed(
        self,
        request: web.Request,
        model: str,
        body: bytes,
        deadline: float,
        *,
        record: Record,
        place: Place,
    ) -> web.StreamResponse:
        seconds = _seconds_until(deadline)
        async with aclosing(
            self._upstream.stream(model, body, record.request_id, seconds)
        ) as parts:
            with record.stage("head"):
                async with self._deadlines.limit(deadline):
                    head = await _head(parts)
            place.answering()
            self._notice_delay(record.seconds["head"], head.attempts)
            record.status = head.status
            record.answered(head.model, head.fallback)
            headers = responses.routing_headers(record, head.model)
            if head.status != 200:
                record.outcome = "provider_error"
                return responses.refused(head, headers)
            response = responses.event_stream(head, headers)
            await response.prepare(request)
            try:
                async with self._deadlines.limit(deadline):
                    tail = await _relay(parts, response)
                self._bill(tail, record, whole=tail.complete)
                error = tail.error
            except PointsmanError as broken:
                error = error_object(broken)
            if error:
                record.outcome = "broken_stream"
            await _finish(request, response, error)
            return response

    def _notice_delay(self, seconds: float, attempts: Sequence[pb.Attempt]) -> None:
        """Tells the admission how long a request took less what its provider took.

        Requests with several calls wait on purpose between them, and say nothing of delay.
        """
        if len(attempts) == 1 and attempts[0].seconds:
            self._admission.observe(max(0.0, seconds - attempts[0].seconds))

    def _bill(
        self, answer: pb.CompleteResponse | pb.StreamTail, record: Record, *, whole: bool
    ) -> None:
        record.usage = answer.usage if answer.HasField("usage") else None
        record.cost_dollars = answer.cost_dollars
        self._savings.count(record.router, record.usage, answer.cost_dollars, whole=whole)


def _seconds_until(deadline: float) -> float:
    return max(0.0, deadline - asyncio.get_running_loop().time())


async def _head(parts: AsyncIterator[pb.StreamCompleteResponse]) -> pb.StreamHead:
    async for part in parts:
        return part.head
    raise UpstreamUnavailable("The upstream ended a stream before its head.")


async def _relay(
    parts: AsyncIterator[pb.StreamCompleteResponse], response: web.StreamResponse
) -> pb.StreamTail:
    """Writes frames as they come; returns how the answer ended, whole or not."""
    tail = None
    # To its very end: gRPC's server never frees all of a stream that its client leaves earlier.
    async for part in parts:
        if part.HasField("frames"):
            await response.write(part.frames)
        elif part.HasField("tail"):
            tail = part.tail
    if tail is None:
        raise UpstreamUnavailable("The upstream ended the answer before it was finished.")
    return tail


async def _finish(request: web.Request, response: web.StreamResponse, error: bytes) -> None:
    """Ends the response, after an error event if there is an error.

    A client that does not read has its connection cut.
    """
    try:
        async with asyncio.timeout(_FINISH_SECONDS):
            if error:
                await response.write(responses.error_event(error))
            await response.write_eof()
    except TimeoutError:
        if request.transport is not None:
            request.transport.abort()
