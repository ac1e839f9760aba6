"""Error kinds ↔ gRPC status codes: one table each way, complete in both directions."""

import grpc

from pointsman.errors import (
    DeadlineExceeded,
    InvalidRequest,
    Overloaded,
    PointsmanError,
    UnknownModel,
    UnknownRouter,
)

INTERNAL_MESSAGE = "internal error; the service's log has the request id"
"""What a caller hears of a fault of ours; the details stay in the log."""

STATUS_BY_KIND: dict[str, grpc.StatusCode] = {
    "invalid_request": grpc.StatusCode.INVALID_ARGUMENT,
    "request_too_large": grpc.StatusCode.RESOURCE_EXHAUSTED,
    "invalid_api_key": grpc.StatusCode.UNAUTHENTICATED,
    "key_not_allowed": grpc.StatusCode.PERMISSION_DENIED,
    "unknown_model": grpc.StatusCode.NOT_FOUND,
    "unknown_router": grpc.StatusCode.NOT_FOUND,
    "router_not_ready": grpc.StatusCode.FAILED_PRECONDITION,
    "overloaded": grpc.StatusCode.RESOURCE_EXHAUSTED,
    "deadline_exceeded": grpc.StatusCode.DEADLINE_EXCEEDED,
    "scorer_unavailable": grpc.StatusCode.UNAVAILABLE,
    "upstream_unavailable": grpc.StatusCode.UNAVAILABLE,
    # Providers' troubles travel as messages; one that escapes is a fault of the upstream.
    "provider_error": grpc.StatusCode.INTERNAL,
    "provider_unauthorized": grpc.StatusCode.INTERNAL,
    "provider_unavailable": grpc.StatusCode.INTERNAL,
    "provider_timeout": grpc.StatusCode.INTERNAL,
    "provider_nonsense": grpc.StatusCode.INTERNAL,
    "config": grpc.StatusCode.INTERNAL,
    "internal": grpc.StatusCode.INTERNAL,
}

# What gRPC's own load balancing and name resolution say where there is nobody to send a call to.
_NEVER_SENT = (
    "connections to all backends failing",
    "failed to connect to all addresses",
    "errors resolving",
    "DNS resolution failed",
    "empty address list",
)

_Peer = type[PointsmanError]


def errors_by_status(
    *, not_found: type[UnknownRouter] | type[UnknownModel], unavailable: _Peer, not_ready: _Peer
) -> dict[grpc.StatusCode, _Peer]:
    """Returns what every status code but OK means to a caller of one service.

    Args:
        not_found: What the service does not find.
        unavailable: The service cannot be reached or failed; everything unforeseen is that too.
        not_ready: What FAILED_PRECONDITION stands for.
    """
    meanings: dict[grpc.StatusCode, _Peer] = {
        code: unavailable for code in grpc.StatusCode if code is not grpc.StatusCode.OK
    }
    meanings[grpc.StatusCode.INVALID_ARGUMENT] = InvalidRequest
    meanings[grpc.StatusCode.NOT_FOUND] = not_found
    meanings[grpc.StatusCode.FAILED_PRECONDITION] = not_ready
    meanings[grpc.StatusCode.RESOURCE_EXHAUSTED] = Overloaded
    meanings[grpc.StatusCode.DEADLINE_EXCEEDED] = DeadlineExceeded
    # The mesh token: the operator's trouble, which the client can do nothing about.
    meanings[grpc.StatusCode.UNAUTHENTICATED] = unavailable
    return meanings


def error_from_rpc(
    error: grpc.aio.AioRpcError, meanings: dict[grpc.StatusCode, _Peer]
) -> PointsmanError:
    """Returns the error that a failed rpc stands for, with the service's own words."""
    return meanings[error.code()](error.details() or error.code().name)


def was_never_sent(error: grpc.aio.AioRpcError) -> bool:
    """Returns True only if no byte of the call has left, so that it is safe to make it again.

    gRPC has no status of its own for that: its words are compared, and unknown ones mean False.
    """
    details = error.details() or ""
    return error.code() is grpc.StatusCode.UNAVAILABLE and details.startswith(_NEVER_SENT)
