"""`POST /v1/chat/completions`: read, decide, complete, answer."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing

from aiohttp import web

from pointsman.errors import DeadlineExceeded, PointsmanError, UpstreamUnavailable
from pointsman.prompts import PromptPolicy, prompt_text
from pointsman.routing import parse_model_field
from pointsman.upstream.v1 import upstream_pb2 as pb
from services.gateway import responses
from services.gateway.access import REQUEST_ID, Record, recorded
from services.gateway.completion import UpstreamClient
from services.gateway.directory import Directory
from services.gateway.metrics import GatewayMetrics
from services.gateway.openai_errors import error_object
from services.gateway.request import ChatRequest, parse_chat_request, read_body
from services.gateway.scoring import DecisionMaker


class ChatCompletions:
    """The handler and what it works with.

    Args:
        decisions: Chooses between the models of the pair.
        upstream: Completes.
        directory: Knows the models and routers there are.
        metrics: Counts.
        prompt_policy: Which text is scored.
        body_limit_bytes: Largest request body.
        timeout_seconds: From a request's head to its answer's end.
    """

    def __init__(
        self,
        decisions: DecisionMaker,
        upstream: UpstreamClient,
        directory: Directory,
        metrics: GatewayMetrics,
        *,
        prompt_policy: PromptPolicy,
        body_limit_bytes: int,
        timeout_seconds: float,
    ) -> None:
        self._decisions = decisions
        self._upstream = upstream
        self._directory = directory
        self._metrics = metrics
        self._prompt_policy = prompt_policy
        self._body_limit_bytes = body_limit_bytes
        self._timeout_seconds = timeout_seconds

    async def create(self, request: web.Request) -> web.StreamResponse:
        """Answers one chat request."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self._timeout_seconds
        with recorded(request[REQUEST_ID], self._metrics) as record:
            with record.stage("read"):
                body = await self._read(request, deadline)
                chat = parse_chat_request(body)
            record.stream = bool(chat.stream)
            model = await self._choose(chat, record)
            seconds_left = deadline - loop.time()
            if seconds_left <= 0:
                raise DeadlineExceeded(f"Not answered within {self._timeout_seconds} seconds.")
            with record.stage("complete"):
                if chat.stream:
                    return await self._streamed(request, model, body, seconds_left, record)
                return await self._whole(model, body, seconds_left, record)

    async def _read(self, request: web.Request, deadline: float) -> bytes:
        try:
            async with asyncio.timeout_at(deadline):
                return await read_body(request, self._body_limit_bytes)
        except TimeoutError as error:
            raise DeadlineExceeded(
                f"The request body was not there within {self._timeout_seconds} seconds."
            ) from error

    async def _choose(self, chat: ChatRequest, record: Record) -> str:
        ref = parse_model_field(chat.model)
        if ref is None:
            record.router = "direct"
            self._directory.require_model(chat.model)
            record.model = chat.model
            return chat.model
        record.router = self._directory.router_label(ref.router)
        self._directory.require_router(ref.router)
        prompt = prompt_text(chat.messages, self._prompt_policy)
        with record.stage("score"):
            decision = await self._decisions.decide(ref, prompt, record.request_id)
        record.decided(decision)
        record.model = decision.model
        return decision.model

    async def _whole(
        self, model: str, body: bytes, seconds_left: float, record: Record
    ) -> web.Response:
        answer = await self._upstream.complete(model, body, record.request_id, seconds_left)
        record.status = answer.status
        if answer.status >= 400:
            record.outcome = "provider_error"
        return responses.whole(answer, responses.routing_headers(record.decision, answer.model))

    async def _streamed(
        self,
        request: web.Request,
        model: str,
        body: bytes,
        seconds_left: float,
        record: Record,
    ) -> web.StreamResponse:
        parts = self._upstream.stream(model, body, record.request_id, seconds_left)
        async with aclosing(parts):  # type: ignore[type-var]  # an async generator, typed wider
            head = await _head(parts)
            record.status = head.status
            headers = responses.routing_headers(record.decision, head.model)
            if head.status != 200:
                record.outcome = "provider_error"
                return responses.refused(head, headers)
            response = responses.event_stream(head, headers)
            await response.prepare(request)
            if error := await _relay(parts, response):
                record.outcome = "broken_stream"
                await response.write(responses.error_event(error))
            await response.write_eof()
            return response


async def _head(parts: AsyncIterator[pb.StreamCompleteResponse]) -> pb.StreamHead:
    async for part in parts:
        return part.head
    raise UpstreamUnavailable("The upstream ended a stream before its head.")


async def _relay(
    parts: AsyncIterator[pb.StreamCompleteResponse], response: web.StreamResponse
) -> bytes:
    """Writes frames as they come; returns the error object of an answer that broke off, or b""."""
    try:
        async for part in parts:
            if part.HasField("frames"):
                await response.write(part.frames)
            elif part.HasField("tail"):
                return part.tail.error
        raise UpstreamUnavailable("The upstream ended the answer before it was finished.")
    except PointsmanError as error:
        return error_object(error)
