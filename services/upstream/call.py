"""The record of one call to a provider, and the reply that it comes to."""

import logging
import time
from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass, field

import aiohttp

from pointsman.chassis.retry_after import retry_after_seconds
from pointsman.errors import ProviderError, ProviderUnavailable
from pointsman.upstream.v1 import upstream_pb2 as pb
from services.upstream import provider_errors
from services.upstream.failures import Failure, failure_by_error, failure_by_status, meaning
from services.upstream.models import Endpoint
from services.upstream.sse import AnswerReader, WholeAnswer

logger = logging.getLogger(__name__)


@dataclass(slots=True, kw_only=True)
class Reply:
    """What one call came to; with neither `failure` nor `stream` it is a whole answer."""

    attempt: pb.Attempt
    status: int
    """HTTP status for the client."""
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)
    read: "AnswerReader | WholeAnswer | None" = None
    """What was read of the answer; of a stream, as far as it has come."""
    failure: Failure | None = None
    stream: "AnswerStream | None" = None
    first_token_seconds: float = 0.0
    """Of a stream; else 0."""
    budget: str = ""
    """The limit that passed: `connect`, `first_token`, `idle`, `total`."""


class AnswerStream:
    """The frames of an answer that has begun.

    Args:
        call: Hears how it ends.
        first: The frames up to the first token.
        rest: The others; raises ProviderError if the answer breaks off.

    Attributes:
        error: The error object for the client, if the answer broke off; empty for a whole one.
        budget: The limit that passed, if one did.
    """

    def __init__(self, call: "Call", first: bytes, rest: AsyncGenerator[bytes, None]) -> None:
        self._call = call
        self._first = first
        self._rest = rest
        self._ended = False
        self.error = b""
        self.budget = ""

    async def frames(self) -> AsyncGenerator[bytes, None]:
        """Yields one or more whole events at a time, as they come; sets `error` at the end."""
        yield self._first
        try:
            async for frames in self._rest:
                yield frames
        except ProviderError as error:
            self.error, self.budget = self._call.broke_off(error), error.budget
        else:
            self._call.finished()
        self._ended = True

    async def aclose(self) -> None:
        """Hangs up, if the answer has not ended."""
        if not self._ended:
            self._ended = True
            self._call.given_up()
        await self._rest.aclose()


class Call:
    """Times one call, and says what its end means.

    Args:
        endpoint: Whom it asks.
        clock: Monotonic seconds.
        repeatable: Whether a stream that breaks off may be asked for again.

    Attributes:
        read: What was read of the answer, as far as it came.
        is_shown: Whether the client has something of the answer: then nobody else can answer.
        first_token_seconds: Until a stream's first token; 0 before that.
    """

    def __init__(
        self, endpoint: Endpoint, clock: Callable[[], float], *, repeatable: bool = False
    ) -> None:
        self.endpoint = endpoint
        self.read: AnswerReader | WholeAnswer | None = None
        self.is_shown = False
        self.first_token_seconds = 0.0
        self._repeatable = repeatable
        self._clock = clock
        self._started_at = clock()
        self._headers: dict[str, str] = {}
        self._retry_after_seconds: float | None = None
        self._attempt = pb.Attempt(
            model=endpoint.model,
            provider=endpoint.provider,
            provider_model=endpoint.provider_model,
        )

    def headers_came(self, response: aiohttp.ClientResponse) -> None:
        """Notes the response's head."""
        self._attempt.status = response.status
        self._attempt.headers_seconds = self._clock() - self._started_at
        self._headers = provider_errors.relayed(response.headers)
        self._retry_after_seconds = retry_after_seconds(response.headers, time.time())

    def first_token_came(self) -> None:
        """Notes that a stream has something to show."""
        self.first_token_seconds = self._clock() - self._started_at

    def refused(self, body: bytes) -> Reply:
        """Ends with the provider's status of 400 or more."""
        status = meaning(self._attempt.status, body)
        if status in (401, 403):
            logger.error(
                "provider refuses the key: the endpoint is left alone for a while",
                extra={"provider": self.endpoint.provider, "status": status},
            )
        told_status, headers, told = provider_errors.refusal(
            status, self._headers, body, self.endpoint
        )
        return Reply(
            attempt=self._ended(provider_errors.outcome_of(status)),
            status=told_status,
            body=told,
            headers=headers,
            failure=failure_by_status(status, self._headers, body, self._retry_after_seconds),
        )

    def failed(self, error: ProviderError) -> Reply:
        """Ends without an answer that can be used."""
        status, outcome = provider_errors.STATUS_BY_KIND[error.kind]
        return Reply(
            attempt=self._ended(outcome),
            status=status,
            body=provider_errors.body_for(error),
            failure=failure_by_error(
                error, repeatable=self._repeatable or self._attempt.status == 0
            ),
            budget=error.budget,
        )

    def reported_an_error(self, body: bytes) -> Reply:
        """Ends with a status of 200 and an error in OpenAI's shape: it is an error all the same."""
        reply = self.failed(ProviderUnavailable("The model's provider failed."))
        reply.body = provider_errors.reported(body, self.endpoint)
        return reply

    def answered(self, body: bytes) -> Reply:
        """Ends with a whole answer."""
        attempt = self._ended(pb.ATTEMPT_OUTCOME_OK)
        return Reply(
            attempt=attempt,
            status=attempt.status,
            body=body,
            headers=self._headers,
            read=self.read,
        )

    def began(self, stream: AnswerStream) -> Reply:
        """Notes the first token of a stream; the stream will say how it ends."""
        attempt = self._ended(pb.ATTEMPT_OUTCOME_STREAMING)
        return Reply(
            attempt=attempt,
            status=attempt.status,
            headers=self._headers,
            read=self.read,
            stream=stream,
            first_token_seconds=self.first_token_seconds,
        )

    def broke_off(self, error: ProviderError) -> bytes:
        """Notes that the answer broke off; returns the error object for the client."""
        _, outcome = provider_errors.STATUS_BY_KIND[error.kind]
        self._ended(outcome)
        reported = self.read.reported if isinstance(self.read, AnswerReader) else None
        if reported is not None:
            return provider_errors.reported(reported, self.endpoint)
        return provider_errors.body_for(error)

    def finished(self) -> None:
        """Notes that the answer is whole."""
        self._ended(pb.ATTEMPT_OUTCOME_OK)

    def given_up(self) -> None:
        """Notes that nobody wants the rest."""
        self._ended(pb.ATTEMPT_OUTCOME_CANCELLED)

    def _ended(self, outcome: pb.AttemptOutcome.ValueType) -> pb.Attempt:
        self._attempt.outcome = outcome
        self._attempt.seconds = self._clock() - self._started_at
        return self._attempt
