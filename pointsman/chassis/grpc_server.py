"""A gRPC server with what every one should have: health, reflection, errors as status, draining."""

import asyncio
import inspect
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import aclosing, asynccontextmanager
from typing import Any

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from pointsman.chassis.config import PositiveSeconds, Seconds, ServerSettings
from pointsman.chassis.grpc_status import INTERNAL_MESSAGE, STATUS_BY_KIND
from pointsman.chassis.mesh import MeshSettings, TokenRequired, load_mesh
from pointsman.chassis.ports import address, port_errors
from pointsman.errors import PointsmanError

logger = logging.getLogger(__name__)

BODY_LIMIT_BYTES = 32 * 1024 * 1024
"""The largest request body by default; the gateway refuses more."""
ENVELOPE_BYTES = 1024 * 1024
"""What a message may carry around a body."""
REQUEST_ID_KEY = "x-request-id"

KEEPALIVE_OPTIONS = [
    # A peer whose machine is gone sends no goodbye: one that leaves a ping unanswered is given up,
    # and what is in flight fails after half a minute and not after the kernel's quarter of an hour.
    ("grpc.keepalive_time_ms", 20_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    # Idle connections too, so that the first request after a quiet night finds a living one; and
    # however long a provider thinks before its first word.
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.max_pings_without_data", 0),
]
_SERVER_OPTIONS = [
    # Without so_reuseport=0 two processes would share a port in silence.
    ("grpc.so_reuseport", 0),
    *KEEPALIVE_OPTIONS,
    # By default a server hangs up on whoever pings more often than every five minutes.
    ("grpc.http2.min_ping_interval_without_data_ms", 10_000),
]


class GrpcServerSettings(ServerSettings, frozen=True, kw_only=True):
    """What every gRPC service lets its operator set."""

    mesh: MeshSettings = MeshSettings()
    drain_delay_seconds: Seconds = 0.2
    """As everywhere; clients that watch health, and the gateway does, hear it within milliseconds.
    What arrives after the delay is lost."""
    max_connection_age_seconds: PositiveSeconds = 60.0
    """How old a connection becomes before its client is asked for a new one, a tenth more or less:
    so long may a new replica go without work. Calls in flight stay on the old connection."""
    max_connection_age_grace_seconds: PositiveSeconds = 660.0
    """How long calls may stay on the old connection before they are cut; more than the gateway's
    `request_timeout_seconds`, or long answers break off."""


def channel_options(body_limit_bytes: int) -> list[tuple[str, int]]:
    """Returns the options that clients and servers must agree on, and patience for restarts."""
    message_bytes = body_limit_bytes + ENVELOPE_BYTES
    return [
        ("grpc.max_send_message_length", message_bytes),
        ("grpc.max_receive_message_length", message_bytes),
        # A service that comes back is found within a second, not within gRPC's two minutes.
        ("grpc.initial_reconnect_backoff_ms", 100),
        ("grpc.min_reconnect_backoff_ms", 100),
        ("grpc.max_reconnect_backoff_ms", 1000),
    ]


def request_id(context: grpc.aio.ServicerContext[Any, Any]) -> str:
    """Returns the caller's request id, or a dash."""
    for key, value in context.invocation_metadata() or ():
        if key == REQUEST_ID_KEY:
            return str(value)
    return "-"


class ErrorsAsStatus(grpc.aio.ServerInterceptor):
    """Answers a `PointsmanError` with its status, and any other exception with a fixed text."""

    def __init__(self) -> None:
        self._wrapped: dict[str, Any] = {}

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Any]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Any:
        """Returns the method's handler, wrapped; each method is wrapped once."""
        method = handler_call_details.method
        if method not in self._wrapped:
            handler = await continuation(handler_call_details)
            if handler is None:  # no such method: gRPC answers UNIMPLEMENTED
                return None
            self._wrapped[method] = _wrap(handler)
        return self._wrapped[method]


def _wrap(handler: Any) -> Any:
    if handler.unary_unary:
        return grpc.unary_unary_rpc_method_handler(
            _unary(handler.unary_unary), handler.request_deserializer, handler.response_serializer
        )
    if inspect.isasyncgenfunction(handler.unary_stream):
        return grpc.unary_stream_rpc_method_handler(
            _stream(handler.unary_stream), handler.request_deserializer, handler.response_serializer
        )
    return handler  # reflection's and health's streams, which have manners of their own


def _unary(behaviour: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
    async def call(request: Any, context: grpc.aio.ServicerContext[Any, Any]) -> Any:
        try:
            return await behaviour(request, context)
        except Exception as error:
            await _abort(error, context)

    return call


def _stream(behaviour: Callable[..., Any]) -> Callable[..., Any]:
    async def call(request: Any, context: grpc.aio.ServicerContext[Any, Any]) -> AsyncIterator[Any]:
        try:
            async with aclosing(behaviour(request, context)) as responses:
                async for response in responses:
                    yield response
        except Exception as error:
            await _abort(error, context)

    return call


async def _abort(error: Exception, context: grpc.aio.ServicerContext[Any, Any]) -> None:
    if isinstance(error, grpc.aio.AbortError):
        raise error
    if isinstance(error, PointsmanError):
        await context.abort(STATUS_BY_KIND[error.kind], error.message)
    logger.error("unexpected error", exc_info=error, extra={"request_id": request_id(context)})
    await context.abort(grpc.StatusCode.INTERNAL, INTERNAL_MESSAGE)


class GrpcServer:
    """A listening server: not SERVING until told so, and drained when its context ends."""

    def __init__(self, server: grpc.aio.Server, health_service: Any, port: int) -> None:
        self._server = server
        self._health = health_service
        self.port = port
        """The port it listens on."""

    async def set_serving(self, *services: str) -> None:
        """Tells health checks that these services, and so the server as a whole, can be used."""
        for service in (*services, health.OVERALL_HEALTH):
            await self._health.set(service, health_pb2.HealthCheckResponse.SERVING)

    async def drain(self, delay_seconds: float, grace_seconds: float) -> None:
        """Turns health to NOT_SERVING, waits, refuses new calls, lets those in flight finish."""
        await self._health.enter_graceful_shutdown()
        await asyncio.sleep(delay_seconds)
        await self._server.stop(grace_seconds)


@asynccontextmanager
async def grpc_server(
    settings: GrpcServerSettings,
    port: int,
    *,
    setting: str,
    register: Callable[[grpc.aio.Server], None],
    services: Sequence[str],
    body_limit_bytes: int,
) -> AsyncIterator[GrpcServer]:
    """Listens and answers; every name in `services`, and the server as a whole, is NOT_SERVING yet.

    Args:
        settings: Where to listen, and who may call.
        port: Port, or 0 for any free one.
        setting: The variable that moves the port, for the error message.
        register: Adds the servicers.
        services: Full names, such as `pointsman.scorer.v1.ScorerService`.
        body_limit_bytes: The largest body a message may carry.

    Raises:
        ConfigError: The port is taken, or anybody could call.
    """
    mesh = load_mesh(settings.mesh)
    mesh.require_closed(settings.host)
    options = [
        *channel_options(body_limit_bytes),
        *_SERVER_OPTIONS,
        ("grpc.max_connection_age_ms", _milliseconds(settings.max_connection_age_seconds)),
        (
            "grpc.max_connection_age_grace_ms",
            _milliseconds(settings.max_connection_age_grace_seconds),
        ),
    ]
    # Who may not call is turned away before ErrorsAsStatus, which remembers handlers.
    tokens = [TokenRequired(mesh.tokens)] if mesh.tokens else []
    server = grpc.aio.server(interceptors=[*tokens, ErrorsAsStatus()], options=options)
    health_service = health.aio.HealthServicer()
    health_pb2_grpc.add_HealthServicer_to_server(health_service, server)
    reflection.enable_server_reflection(
        (*services, health.SERVICE_NAME, reflection.SERVICE_NAME), server
    )
    register(server)
    credentials = mesh.server_credentials()
    with port_errors(settings.host, port, setting):
        at = address(settings.host, port)
        bound = (
            server.add_secure_port(at, credentials) if credentials else server.add_insecure_port(at)
        )
    listening = GrpcServer(server, health_service, bound)
    for service in (*services, health.OVERALL_HEALTH):
        await health_service.set(service, health_pb2.HealthCheckResponse.NOT_SERVING)
    await server.start()
    try:
        yield listening
    finally:
        await server.stop(None)


def _milliseconds(seconds: float) -> int:
    """Returns what gRPC takes; its integers have 32 bits."""
    return min(round(seconds * 1000), 2**31 - 1)
