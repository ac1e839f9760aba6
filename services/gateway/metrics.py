"""What the gateway measures; labels come from closed sets, never from a client."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from pointsman.chassis.metrics import LATENCY_BUCKETS_SECONDS
from pointsman.upstream.v1 import upstream_pb2 as pb
from services.gateway.scoring import SCORER_UNAVAILABLE

_UNKNOWN_REASON = "other"
REFUSALS = ("unanswered", "delay")
"""Why a request was refused before its body was read: too many at a time, or too slow by now."""


def fallback_label(reason: pb.FallbackReason.ValueType) -> str:
    """Returns `throttled`, `timeout`, ...: why a model was left for a fallback; "" if it was not.

    A reason that this gateway does not know, from a newer upstream, is `other`.
    """
    if reason == pb.FALLBACK_REASON_UNSPECIFIED:
        return ""
    if reason not in pb.FallbackReason.values():
        return _UNKNOWN_REASON
    return pb.FallbackReason.Name(reason).removeprefix("FALLBACK_REASON_").lower()


FALLBACKS = (
    SCORER_UNAVAILABLE,
    *filter(None, map(fallback_label, pb.FallbackReason.values())),
    _UNKNOWN_REASON,
)
"""Every value of `x-pointsman-fallback`, which may hold two."""


class GatewayMetrics:
    """The gateway's instruments."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.requests = Counter(
            "pointsman_gateway_requests_total",
            "Chat requests, and whatever was refused for its API key, by router (direct: a model"
            " was named; none: not known) and outcome (explained: POST /v1/route told where it"
            " would go, and no model was asked).",
            ["router", "outcome"],
            registry=registry,
        )
        self.decisions = Counter(
            "pointsman_gateway_decisions_total",
            "Routed requests by router and choice (strong, weak).",
            ["router", "choice"],
            registry=registry,
        )
        self.fallbacks = Counter(
            "pointsman_gateway_fallbacks_total",
            "Requests decided without a win rate (reason: scorer_unavailable), or answered by"
            " another model than was chosen or named (all other reasons); one may count twice.",
            ["reason"],
            registry=registry,
        )
        self.cost_dollars = Counter(
            "pointsman_gateway_cost_dollars_total",
            "US dollars billed for answers, by router (direct: a model was named), as far as the"
            " upstream told: without answers whose client left before their end, or that the"
            " upstream did not end. pointsman_upstream_cost_dollars_total has those too.",
            ["router"],
            registry=registry,
        )
        self.always_strong_dollars = Counter(
            "pointsman_gateway_always_strong_dollars_total",
            "US dollars that the tokens of whole, routed answers would have cost at the strong"
            " model's prices, by router. Less the cost it is what was saved; the strong model might"
            " have used other numbers of tokens.",
            ["router"],
            registry=registry,
        )
        self.refused = Counter(
            "pointsman_gateway_refused_total",
            "Requests that were refused with 503 before their body was read (unanswered: too many"
            " waited for their answer; delay: more than is answered without delay).",
            ["reason"],
            registry=registry,
        )
        self.unanswered = Gauge(
            "pointsman_gateway_unanswered",
            "Chat requests whose answer has not begun.",
            registry=registry,
        )
        self.unanswered_limit = Gauge(
            "pointsman_gateway_unanswered_limit",
            "How many of those there may be now; it falls while requests wait within the cluster.",
            registry=registry,
        )
        # From 0 on, so that already the first is an increase that an alert can see.
        for reason in FALLBACKS:
            self.fallbacks.labels(reason)
        for reason in REFUSALS:
            self.refused.labels(reason)
        self.request_seconds = Histogram(
            "pointsman_gateway_request_seconds",
            "Seconds from a chat request's head to its answer's end (answer: whole, stream).",
            ["outcome", "answer"],
            buckets=LATENCY_BUCKETS_SECONDS,
            registry=registry,
        )
        self.stage_seconds = Histogram(
            "pointsman_gateway_stage_seconds",
            "Seconds of a chat request's stages: read, score, complete; head, the part of complete"
            " until a stream begins.",
            ["stage"],
            buckets=LATENCY_BUCKETS_SECONDS,
            registry=registry,
        )
        self.in_flight = Gauge(
            "pointsman_gateway_requests_in_flight",
            "Chat requests being answered, streams too.",
            registry=registry,
        )
