"""Metric names are a promise to dashboards: renaming one must be a decision."""

from collections.abc import Callable
from typing import Any

import pytest
from prometheus_client import CollectorRegistry
from prometheus_client.metrics import MetricWrapperBase as Instrument

from services.gateway.metrics import GatewayMetrics
from services.scorer.metrics import ScorerMetrics
from services.upstream.metrics import UpstreamMetrics

NAMES = {
    GatewayMetrics: {
        "pointsman_gateway_requests": ["router", "outcome"],
        "pointsman_gateway_decisions": ["router", "choice"],
        "pointsman_gateway_fallbacks": ["reason"],
        "pointsman_gateway_cost_dollars": ["router"],
        "pointsman_gateway_always_strong_dollars": ["router"],
        "pointsman_gateway_refused": ["reason"],
        "pointsman_gateway_unanswered": [],
        "pointsman_gateway_unanswered_limit": [],
        "pointsman_gateway_request_seconds": ["outcome", "answer"],
        "pointsman_gateway_stage_seconds": ["stage"],
        "pointsman_gateway_requests_in_flight": [],
    },
    ScorerMetrics: {
        "pointsman_scorer_requests": ["router", "outcome"],
        "pointsman_scorer_requests_in_flight": [],
        "pointsman_scorer_strong_win_rate": ["router"],
        "pointsman_scorer_stage_seconds": ["stage"],
        "pointsman_scorer_queue_depth": [],
        "pointsman_scorer_queue_limit": [],
        "pointsman_scorer_cache_lookups": ["outcome"],
        "pointsman_scorer_dropped": [],
        "pointsman_scorer_golden_difference": ["router"],
        "pointsman_scorer_golden_within_tolerance": ["router"],
        "pointsman_scorer_router_ready": ["router"],
        "pointsman_scorer_embedding_requests": ["outcome"],
        "pointsman_scorer_embedding_request_seconds": [],
        "pointsman_scorer_embedding_batch_size": [],
        "pointsman_scorer_embedding_lookups": ["outcome"],
    },
    UpstreamMetrics: {
        "pointsman_upstream_requests": ["model", "outcome"],
        "pointsman_upstream_requests_in_flight": [],
        "pointsman_upstream_request_seconds": ["model", "outcome"],
        "pointsman_upstream_headers_seconds": ["model"],
        "pointsman_upstream_first_token_seconds": ["model"],
        "pointsman_upstream_attempts": ["model", "provider", "outcome"],
        "pointsman_upstream_retries": ["model"],
        "pointsman_upstream_fallbacks": ["model", "to", "reason"],
        "pointsman_upstream_timeouts": ["model", "budget"],
        "pointsman_upstream_hedges": ["model"],
        "pointsman_upstream_tokens": ["model", "direction"],
        "pointsman_upstream_cost_dollars": ["model", "estimated"],
        "pointsman_upstream_token_price_dollars": ["model", "direction"],
    },
}


@pytest.mark.parametrize("instruments", NAMES)
def test_names_and_labels(instruments: Callable[[CollectorRegistry], object]) -> None:
    """Names (counters gain `_total`) and labels are the ones that are written down here."""
    registry = CollectorRegistry()
    made = instruments(registry)
    collectors: list[Any] = [one for one in vars(made).values() if isinstance(one, Instrument)]
    assert {metric._name: list(metric._labelnames) for metric in collectors} == NAMES[instruments]  # type: ignore[index]
    assert {family.name for family in registry.collect()} == NAMES[instruments].keys()  # type: ignore[index]


def test_endpoints_are_shown_by_model_and_provider() -> None:
    """They are asked for at each scrape, so that nothing has to keep them true."""
    registry = CollectorRegistry()
    UpstreamMetrics(registry).show_endpoints(lambda: iter([("strong", "openai", 2.0, 7.0, 3.0)]))
    labels = {"model": "strong", "provider": "openai"}
    for name, value in (("breaker_state", 2.0), ("endpoint_in_flight", 7.0), ("queued", 3.0)):
        assert registry.get_sample_value(f"pointsman_upstream_{name}", labels) == value


def test_no_label_is_free_text() -> None:
    """A label that a client can choose, or one a threshold, grows without end."""
    labels = {label for names in NAMES.values() for used in names.values() for label in used}
    assert labels == {
        *("router", "outcome", "answer", "choice", "reason", "stage", "model", "direction"),
        *("provider", "to", "budget", "estimated"),
    }
