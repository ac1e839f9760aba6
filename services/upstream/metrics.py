"""What the upstream measures; labels come from the models file, never from a caller."""

from collections.abc import Callable, Iterable, Iterator

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from pointsman.chassis.metrics import LATENCY_BUCKETS_SECONDS
from pointsman.models_file import ModelSettings
from pointsman.upstream.v1 import upstream_pb2 as pb

EndpointGauges = Iterator[tuple[str, str, float, float, float]]
"""Model, endpoint's label, breaker's state, calls in flight, requests that wait."""


def outcome_label(outcome: pb.AttemptOutcome.ValueType) -> str:
    """Returns `ok`, `rejected`, ... for an attempt's outcome."""
    return pb.AttemptOutcome.Name(outcome).removeprefix("ATTEMPT_OUTCOME_").lower()


def reason_label(reason: pb.FallbackReason.ValueType) -> str:
    """Returns `timeout`, `throttled`, ... for the reason why a model was left."""
    return pb.FallbackReason.Name(reason).removeprefix("FALLBACK_REASON_").lower()


class UpstreamMetrics:
    """The upstream's instruments."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._registry = registry

        def counter(name: str, about: str, *labels: str) -> Counter:
            return Counter(f"pointsman_upstream_{name}", about, labels, registry=registry)

        def seconds(name: str, about: str, *labels: str) -> Histogram:
            return Histogram(
                f"pointsman_upstream_{name}_seconds",
                about,
                labels,
                buckets=LATENCY_BUCKETS_SECONDS,
                registry=registry,
            )

        self.requests = counter(
            "requests_total",
            "Rpcs by the model that was asked for and outcome (ok, the last attempt's outcome, or"
            " the error's kind).",
            *("model", "outcome"),
        )
        self.in_flight = Gauge(
            "pointsman_upstream_requests_in_flight",
            "Rpcs being answered, streams too.",
            registry=registry,
        )
        self.request_seconds = seconds(
            "request",
            "Seconds of an rpc, to the end of the answer, by the model that answered.",
            *("model", "outcome"),
        )
        self.headers_seconds = seconds(
            "headers", "Seconds until a provider's response headers.", "model"
        )
        self.first_token_seconds = seconds(
            "first_token", "Seconds until the first token of a stream, by one call.", "model"
        )
        self.attempts = counter(
            "attempts_total",
            "Calls to providers by outcome.",
            *("model", "provider", "outcome"),
        )
        self.retries = counter(
            "retries_total", "Calls that were made again for the same model.", "model"
        )
        self.fallbacks = counter(
            "fallbacks_total",
            "Requests for a model that another answered (to), by reason.",
            *("model", "to", "reason"),
        )
        self.timeouts = counter(
            "timeouts_total",
            "Calls ended by a time limit (budget: connect, first_token, idle, total).",
            *("model", "budget"),
        )
        self.hedges = counter(
            "hedges_total", "Calls that lost against another of the same request.", "model"
        )
        self.tokens = counter(
            "tokens_total",
            "Tokens that were delivered (direction: input, output; cached_input is part of input,"
            " reasoning of output).",
            *("model", "direction"),
        )
        self.cost_dollars = counter(
            "cost_dollars_total",
            "US dollars by the models file for what was delivered (estimated: whether the provider"
            " gave no usage).",
            *("model", "estimated"),
        )
        self.token_price = Gauge(
            "pointsman_upstream_token_price_dollars",
            "US dollars a token by the models file (direction: input, output); 0 if it has none.",
            ["model", "direction"],
            registry=registry,
        )

    def show_prices(self, model: str, prices: ModelSettings) -> None:
        """Publishes a model's prices."""
        self.token_price.labels(model, "input").set(prices.input_price_per_million / 1e6)
        self.token_price.labels(model, "output").set(prices.output_price_per_million / 1e6)

    def show_endpoints(self, gauges: Callable[[], EndpointGauges]) -> None:
        """Publishes how the endpoints stand, asked for at each scrape."""
        self._registry.register(_Endpoints(gauges))

    def called(self, attempt: pb.Attempt, label: str) -> None:
        """Counts a call to a provider that is over."""
        self.attempts.labels(attempt.model, label, outcome_label(attempt.outcome)).inc()
        if attempt.status:
            self.headers_seconds.labels(attempt.model).observe(attempt.headers_seconds)

    def billed(self, model: str, usage: pb.Usage, dollars: float) -> None:
        """Counts tokens and dollars."""
        for direction, tokens in (
            ("input", usage.input_tokens),
            ("output", usage.output_tokens),
            ("cached_input", usage.cached_input_tokens),
            ("reasoning", usage.reasoning_tokens),
        ):
            self.tokens.labels(model, direction).inc(tokens)
        self.cost_dollars.labels(model, str(usage.estimated).lower()).inc(dollars)


class _Endpoints(Collector):
    """Reads gauges when they are asked for, so that nothing has to keep them true."""

    def __init__(self, gauges: Callable[[], EndpointGauges]) -> None:
        self._gauges = gauges

    def collect(self) -> Iterable[GaugeMetricFamily]:
        """Returns the families of one scrape."""
        labels = ["model", "provider"]
        state = GaugeMetricFamily(
            "pointsman_upstream_breaker_state",
            "Circuit breaker of an endpoint: 0 closed, 1 half-open, 2 open.",
            labels=labels,
        )
        in_flight = GaugeMetricFamily(
            "pointsman_upstream_endpoint_in_flight",
            "Calls being answered by an endpoint, streams too.",
            labels=labels,
        )
        queued = GaugeMetricFamily(
            "pointsman_upstream_queued", "Requests that wait for an endpoint.", labels=labels
        )
        families = (state, in_flight, queued)
        for model, provider, *values in self._gauges():
            for family, value in zip(families, values, strict=True):
                family.add_metric([model, provider], value)
        return families
