"""Replies of ours, where no provider was asked or none was heard to the end."""

import math
from collections.abc import Sequence

from pointsman.chassis.retry_after import RETRY_AFTER
from pointsman.openai_error import encode_error
from pointsman.upstream.v1 import upstream_pb2 as pb
from services.upstream.call import Reply
from services.upstream.endpoints import EndpointAtWork
from services.upstream.failures import Failure
from services.upstream.models import Endpoint, Model
from services.upstream.provider_errors import UNAUTHORIZED


def refusal(model: Model, endpoints: Sequence[EndpointAtWork]) -> Reply:
    """Returns why no endpoint of a model may be asked now, and when one may be."""
    seconds = min(one.seconds_until_ready() for one in endpoints)
    if all(one.refuses_the_key for one in endpoints):
        reply = _told(
            502,
            "provider_unauthorized",
            UNAUTHORIZED,
            pb.FALLBACK_REASON_PROVIDER_UNAVAILABLE,
            seconds,
        )
        reply.headers["x-should-retry"] = "false"
        return reply
    if all(one.seconds_until_breaker_lets_through() for one in endpoints):
        return _told(
            503,
            "breaker_open",
            f"The model {model.name} has failed so often that it is left alone for a while.",
            pb.FALLBACK_REASON_BREAKER_OPEN,
            seconds,
        )
    return _told(
        429,
        "throttled",
        f"The provider of model {model.name} wants to be left alone for a while.",
        pb.FALLBACK_REASON_THROTTLED,
        seconds,
    )


def queue_full(endpoint: Endpoint, retry_after_seconds: float) -> Reply:
    """Returns that an endpoint has as many calls as it may have, and as many waiting."""
    return _told(
        429,
        "overloaded",
        f"The model {endpoint.model} has as many requests at once as its operator allows.",
        pb.FALLBACK_REASON_THROTTLED,
        retry_after_seconds,
        elsewhere=True,
    )


def given_up(endpoint: Endpoint) -> pb.Attempt:
    """Returns the record of a call that nobody waited for."""
    return pb.Attempt(
        model=endpoint.model,
        provider=endpoint.provider,
        provider_model=endpoint.provider_model,
        outcome=pb.ATTEMPT_OUTCOME_CANCELLED,
    )


def _told(
    status: int,
    code: str,
    message: str,
    reason: pb.FallbackReason.ValueType,
    seconds: float,
    *,
    elsewhere: bool = False,
) -> Reply:
    return Reply(
        attempt=pb.Attempt(),
        status=status,
        body=encode_error(message, "provider_error", param=None, code=code),
        headers={RETRY_AFTER: str(max(1, math.ceil(seconds)))},
        failure=Failure(reason=reason, elsewhere=elsewhere),
    )
