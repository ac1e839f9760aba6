"""What an rpc came to: its outcome, its bill, its metrics and its log line."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass

from pointsman.upstream.v1 import upstream_pb2 as pb
from services.upstream import cost
from services.upstream.asking import Request
from services.upstream.body import ClientBody
from services.upstream.call import Reply
from services.upstream.failover import Answer
from services.upstream.metrics import UpstreamMetrics, outcome_label, reason_label
from services.upstream.models import Catalogue

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Bill:
    """What was delivered, and what all that is paid for costs."""

    usage: pb.Usage | None
    """Of the answer; None where nothing was delivered."""
    dollars: float


class Account:
    """Keeps what is known of an rpc so far.

    Args:
        envelope: What was asked.
        catalogue: Has the names that metrics may have.
        metrics: Counts.
    """

    def __init__(
        self, envelope: pb.Envelope, catalogue: Catalogue, metrics: UpstreamMetrics
    ) -> None:
        self._envelope = envelope
        self._catalogue = catalogue
        self._label = catalogue.label(envelope.model)
        self._metrics = metrics
        self.request: Request | None = None
        self.body: ClientBody | None = None
        self.answer: Answer | None = None
        self.outcome = "internal"

    @property
    def attempts(self) -> Sequence[pb.Attempt]:
        """Returns every call so far."""
        return self.request.attempts if self.request else ()

    def outcome_of_answer(self) -> str:
        """Returns the outcome of the call that answered; of a failure, of the last that was made.

        `throttled` and `unavailable` too where none was made.
        """
        if self.answer is None:
            return "internal"
        reply = self.answer.reply
        if reply.failure is not None and not reply.attempt.model:
            return "throttled" if reply.status == 429 else "unavailable"
        return outcome_label(reply.attempt.outcome)

    def bill(self) -> Bill:
        """Returns what is to be paid, as far as the answer has come."""
        if self.answer is None or self.request is None:
            return Bill(None, 0.0)
        prices = self.answer.model.settings.prices()
        usage = self._usage(self.answer.reply)
        paid = [usage, *map(self._usage_of_loser, self.request.losers)]
        return Bill(usage, sum(prices.dollars(one) for one in paid if one is not None))

    def close(self, seconds: float) -> None:
        """Counts and logs, once."""
        metrics, bill = self._metrics, self.bill()
        metrics.requests.labels(self._label, self.outcome).inc()
        for attempt in self.attempts:
            metrics.called(attempt, self._catalogue.endpoint_label(attempt))
        if self.request is not None:
            name = self.answer.model.name if self.answer else self._label
            metrics.request_seconds.labels(name, self.outcome).observe(seconds)
        if self.answer is not None:
            name = self.answer.model.name
            stream = self.answer.reply.stream
            if stream is not None and stream.budget:
                metrics.timeouts.labels(name, stream.budget).inc()
            if bill.usage is not None:
                metrics.billed(name, bill.usage, bill.dollars)
        self._log(bill, seconds)

    def _usage(self, reply: Reply) -> pb.Usage | None:
        """Returns the provider's count, or ours where it gave none; None for a failure."""
        if reply.failure is not None or reply.read is None:
            return None
        return reply.read.usage or self._estimated(reply.read.characters)

    def _usage_of_loser(self, reply: Reply | None) -> pb.Usage | None:
        if reply is None:  # its provider had read the prompt, and nothing came of it
            return self._estimated(0)
        return self._usage(reply)

    def _estimated(self, characters: int) -> pb.Usage:
        sent = self.body.characters() if self.body else 0
        return cost.estimated(sent, characters)

    def _log(self, bill: Bill, seconds: float) -> None:
        answer, usage = self.answer, bill.usage
        attempt = answer.reply.attempt if answer else pb.Attempt()
        fallback = answer.fallback if answer else pb.FALLBACK_REASON_UNSPECIFIED
        logger.info(
            "provider call",
            extra={
                "request_id": self._envelope.request_id,
                "model": self._label,
                "answered_by": answer.model.name if answer else None,
                "fallback": reason_label(fallback) if fallback else None,
                "provider": attempt.provider,
                "attempts": len(self.attempts),
                "stream": self._envelope.stream,
                "outcome": self.outcome,
                "status": attempt.status,
                "seconds": round(seconds, 6),
                "input_tokens": usage.input_tokens if usage else None,
                "output_tokens": usage.output_tokens if usage else None,
                "estimated": usage.estimated if usage else None,
                "cost_dollars": round(bill.dollars, 9),
            },
        )
