"""What the scorer measures; labels come from the configuration, never from a caller."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

STAGE_BUCKETS_SECONDS = (
    *(0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1),
    *(0.25, 0.5, 1.0, 2.5),
)


class ScorerMetrics:
    """The scorer's instruments."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.requests = Counter(
            "pointsman_scorer_requests_total",
            "Rpcs by router and outcome (ok, or the error's kind).",
            ["router", "outcome"],
            registry=registry,
        )
        self.in_flight = Gauge(
            "pointsman_scorer_requests_in_flight", "Rpcs being answered.", registry=registry
        )
        self.strong_win_rate = Histogram(
            "pointsman_scorer_strong_win_rate",
            "Strong win rates given out.",
            ["router"],
            buckets=[i / 20 for i in range(1, 21)],
            registry=registry,
        )
        self.stage_seconds = Histogram(
            "pointsman_scorer_stage_seconds",
            "Seconds a prompt spent in a stage (embed at an endpoint, queue, infer).",
            ["stage"],
            buckets=STAGE_BUCKETS_SECONDS,
            registry=registry,
        )
        self.cache_lookups = Counter(
            "pointsman_scorer_cache_lookups_total",
            "Prompts to score by where the win rate was: kept, being predicted already (shared), or"
            " predicted now.",
            ["outcome"],
            registry=registry,
        )
        self.queue_depth = Gauge(
            "pointsman_scorer_queue_depth", "Prompts waiting for a worker.", registry=registry
        )
        self.queue_limit = Gauge(
            "pointsman_scorer_queue_limit",
            "Prompts that may wait for a worker; one more is refused.",
            registry=registry,
        )
        self.dropped = Counter(
            "pointsman_scorer_dropped_total",
            "Prompts dropped before computing because their caller had left.",
            registry=registry,
        )
        self.golden_difference = Gauge(
            "pointsman_scorer_golden_difference",
            "Largest difference between a bundle's golden win rates and this machine's.",
            ["router"],
            registry=registry,
        )
        self.golden_within_tolerance = Gauge(
            "pointsman_scorer_golden_within_tolerance",
            "1 if that difference is within the bundle's tolerance, else 0.",
            ["router"],
            registry=registry,
        )
        self.router_ready = Gauge(
            "pointsman_scorer_router_ready",
            "1 if the router can score, else 0.",
            ["router"],
            registry=registry,
        )
        self.embedding_requests = Counter(
            "pointsman_scorer_embedding_requests_total",
            "Requests to embeddings endpoints by outcome, each try counted.",
            ["outcome"],
            registry=registry,
        )
        self.embedding_request_seconds = Histogram(
            "pointsman_scorer_embedding_request_seconds",
            "Seconds until an embeddings endpoint had answered, or had not.",
            buckets=STAGE_BUCKETS_SECONDS,
            registry=registry,
        )
        self.embedding_batch_size = Histogram(
            "pointsman_scorer_embedding_batch_size",
            "Prompts in a request to an embeddings endpoint.",
            buckets=[2.0**power for power in range(12)],
            registry=registry,
        )
        self.embedding_lookups = Counter(
            "pointsman_scorer_embedding_lookups_total",
            "Prompts to embed by where the embedding was: kept, asked for already (shared), or "
            "asked for now.",
            ["outcome"],
            registry=registry,
        )
