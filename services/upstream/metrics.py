"""What the upstream measures; labels come from the models file, never from a caller."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from pointsman.chassis.metrics import LATENCY_BUCKETS_SECONDS
from pointsman.models_file import ModelSettings
from pointsman.upstream.v1 import upstream_pb2 as pb


def outcome_label(outcome: pb.AttemptOutcome.ValueType) -> str:
    """Returns `ok`, `rejected`, ... for an attempt's outcome."""
    return pb.AttemptOutcome.Name(outcome).removeprefix("ATTEMPT_OUTCOME_").lower()


class UpstreamMetrics:
    """The upstream's instruments."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.requests = Counter(
            "pointsman_upstream_requests_total",
            "Rpcs by model and outcome (ok, the last attempt's outcome, or the error's kind).",
            ["model", "outcome"],
            registry=registry,
        )
        self.in_flight = Gauge(
            "pointsman_upstream_requests_in_flight",
            "Rpcs being answered, streams too.",
            registry=registry,
        )
        self.request_seconds = Histogram(
            "pointsman_upstream_request_seconds",
            "Seconds of a call to a provider, to the end of the answer.",
            ["model", "outcome"],
            buckets=LATENCY_BUCKETS_SECONDS,
            registry=registry,
        )
        self.headers_seconds = Histogram(
            "pointsman_upstream_headers_seconds",
            "Seconds until a provider's response headers.",
            ["model"],
            buckets=LATENCY_BUCKETS_SECONDS,
            registry=registry,
        )
        self.tokens = Counter(
            "pointsman_upstream_tokens_total",
            "Tokens by the provider's count (direction: input, output).",
            ["model", "direction"],
            registry=registry,
        )
        self.token_price = Gauge(
            "pointsman_upstream_token_price_dollars",
            "US dollars a token by the models file (direction: input, output); 0 if it has none.",
            ["model", "direction"],
            registry=registry,
        )

    def show_prices(self, model: str, prices: ModelSettings) -> None:
        """Publishes a model's prices, so that dashboards can turn its tokens into dollars."""
        self.token_price.labels(model, "input").set(prices.input_price_per_million / 1e6)
        self.token_price.labels(model, "output").set(prices.output_price_per_million / 1e6)

    def observe(
        self, attempt: pb.Attempt, usage: pb.Usage | None, outcome: str, seconds: float
    ) -> None:
        """Counts one call to a provider that is over, finished or not."""
        self.request_seconds.labels(attempt.model, outcome).observe(seconds)
        if attempt.status:
            self.headers_seconds.labels(attempt.model).observe(attempt.headers_seconds)
        if usage is not None:
            self.tokens.labels(attempt.model, "input").inc(usage.input_tokens)
            self.tokens.labels(attempt.model, "output").inc(usage.output_tokens)
