"""What the gateway measures; labels come from closed sets, never from a client."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from pointsman.chassis.metrics import LATENCY_BUCKETS_SECONDS


class GatewayMetrics:
    """The gateway's instruments."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.requests = Counter(
            "pointsman_gateway_requests_total",
            "Chat requests, and whatever was refused for its API key, by router (direct: a model"
            " was named; none: not known) and outcome.",
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
            "Routed requests that were decided without a win rate, by reason.",
            ["reason"],
            registry=registry,
        )
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
