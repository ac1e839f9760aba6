"""Round every request: an id, an error in OpenAI's shape, and one log line without its content."""

import asyncio
import logging
import time
import uuid
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from aiohttp import web

from pointsman.errors import InvalidRequest, PointsmanError
from pointsman.upstream.v1 import upstream_pb2 as pb
from services.gateway.metrics import GatewayMetrics, fallback_label
from services.gateway.openai_errors import (
    HTTP_BY_KIND,
    error_response,
    http_exception_response,
    internal_error_response,
)
from services.gateway.request import accepted_request_id
from services.gateway.scoring import Decision

logger = logging.getLogger(__name__)

REQUEST_ID = web.RequestKey("request_id", str)
REQUEST_ID_HEADER = "x-request-id"

_MALFORMED = (
    "The request is not valid HTTP/1.1: a line or header is malformed, or longer than 8190 bytes."
)

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def new_request_id() -> str:
    """Returns an id that nobody else has."""
    return uuid.uuid4().hex


@web.middleware
async def with_request_id(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Accepts the client's request id, or makes one."""
    given = accepted_request_id(request.headers.get(REQUEST_ID_HEADER))
    request[REQUEST_ID] = given or new_request_id()
    return await handler(request)


async def show_request_id(request: web.Request, response: web.StreamResponse) -> None:
    """Sends the id back on every response, streams too; an `on_response_prepare` hook."""
    if (request_id := request.get(REQUEST_ID)) is not None:
        response.headers[REQUEST_ID_HEADER] = request_id


@web.middleware
async def with_openai_errors(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Answers every error in OpenAI's shape; what nobody foresaw is logged and told as 500."""
    try:
        return await handler(request)
    except PointsmanError as error:
        response = error_response(error)
        if not request.content.is_eof():
            response.force_close()  # what is left of the body must not be read as a request
        return response
    except web.HTTPException as error:
        return http_exception_response(request, error)
    except ConnectionResetError:
        raise  # the client has left; there is nobody to answer
    except Exception:
        logger.exception("unexpected error", extra={"request_id": request[REQUEST_ID]})
        return internal_error_response()


class Connection(web.RequestHandler):
    """A client's connection: what is no HTTP is answered in OpenAI's shape too.

    Aiohttp would answer with the header line that it could not read, and a key may stand there.
    """

    __slots__ = ()

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """Returns the response to a request that cannot be read."""
        if status != 400:
            return super().handle_error(request, status, exc, message)
        response = error_response(InvalidRequest(_MALFORMED))
        response.force_close()
        return response


@dataclass(slots=True)
class Record:
    """What is known of a chat request so far; becomes its log line and its metrics."""

    request_id: str
    metrics: GatewayMetrics
    clock: Callable[[], float]
    key: str | None = None
    """The name of the caller's API key; None without keys, and where the key was refused."""
    router: str = "none"
    """A router's name, `direct`, `other` for one that does not exist, `none` before it is known."""
    reason: str = ""
    """What decided: `win_rate`, `fallback`, `rule:<name>`, `alias`, `direct`; empty before that."""
    decision: Decision | None = None
    model: str | None = None
    """The one that was chosen or named; from its answer on, the one that answered."""
    fallbacks: list[str] = field(default_factory=list)
    """Why it was decided without a win rate, and why another model answered."""
    usage: pb.Usage | None = None
    """What the answer used; None where nobody said."""
    cost_dollars: float | None = None
    """What it cost; None where nobody said."""
    stream: bool = False
    status: int | None = None
    outcome: str | None = None
    """Set where the answer went wrong after it had begun, or came from the provider as an error."""
    seconds: dict[str, float] = field(default_factory=dict)
    """Stage → seconds."""

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Times a stage."""
        started_at = self.clock()
        try:
            yield
        finally:
            self.seconds[name] = self.clock() - started_at

    def routed(self, model: str, reason: str, decision: Decision | None) -> None:
        """Notes which model is asked and why, and counts a router's decision."""
        self.model, self.reason, self.decision = model, reason, decision
        if decision is not None:
            self.metrics.decisions.labels(self.router, decision.choice).inc()
            self._fell_back(decision.fallback or "")

    def answered(self, model: str, fallback: pb.FallbackReason.ValueType) -> None:
        """Notes who answered, and counts why if it was not who was asked."""
        self.model = model
        self._fell_back(fallback_label(fallback))

    def _fell_back(self, reason: str) -> None:
        if reason:
            self.fallbacks.append(reason)
            self.metrics.fallbacks.labels(reason).inc()


@contextmanager
def recorded(
    request_id: str, metrics: GatewayMetrics, clock: Callable[[], float] = time.perf_counter
) -> Iterator[Record]:
    """Counts a chat request, times it, and writes its line however it ends."""
    record = Record(request_id, metrics, clock)
    started_at = clock()
    outcome = "internal"
    metrics.in_flight.inc()
    try:
        yield record
        outcome = record.outcome or "ok"
    except PointsmanError as error:
        outcome = error.kind
        record.status = HTTP_BY_KIND[error.kind].status
        raise
    except (asyncio.CancelledError, ConnectionResetError):
        outcome = record.outcome or "cancelled"  # the client hung up, if nothing else was wrong
        raise
    finally:
        seconds = clock() - started_at
        metrics.requests.labels(record.router, outcome).inc()
        answer = "stream" if record.stream else "whole"
        metrics.request_seconds.labels(outcome, answer).observe(seconds)
        for stage, stage_seconds in record.seconds.items():
            metrics.stage_seconds.labels(stage).observe(stage_seconds)
        logger.info("request", extra=_line(record, outcome, seconds))
        metrics.in_flight.dec()  # last: what is no longer in flight has been counted


def _line(record: Record, outcome: str, seconds: float) -> dict[str, object]:
    decision = record.decision
    return {
        "request_id": record.request_id,
        "key": record.key,
        "router": record.router,
        "threshold": decision.threshold if decision else None,
        "strong_win_rate": decision.strong_win_rate if decision else None,
        "choice": decision.choice if decision else None,
        "reason": record.reason or None,
        "fallback": ",".join(record.fallbacks) or None,
        "model": record.model,
        "stream": record.stream,
        "status": record.status,
        "outcome": outcome,
        "cost_dollars": None if record.cost_dollars is None else round(record.cost_dollars, 9),
        "tokens": _tokens(record.usage) if record.usage else None,
        "tokens_estimated": record.usage.estimated if record.usage else None,
        "seconds": round(seconds, 6),
        "stages": {stage: round(spent, 6) for stage, spent in record.seconds.items()},
    }


def _tokens(usage: pb.Usage) -> dict[str, int]:
    return {
        "input": usage.input_tokens,
        "cached_input": usage.cached_input_tokens,
        "output": usage.output_tokens,
        "reasoning": usage.reasoning_tokens,
    }
