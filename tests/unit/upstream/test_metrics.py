"""What the dashboards read of the upstream."""

import pytest
from prometheus_client import CollectorRegistry

from pointsman.models_file import ModelSettings
from pointsman.upstream.v1 import upstream_pb2 as pb
from services.upstream.breaker import BreakerState
from services.upstream.metrics import EndpointGauges, UpstreamMetrics, outcome_label, reason_label
from tests.unit.upstream.scripted import Upstream, refused


def test_labels_are_the_protos_words() -> None:
    """The same words in metrics, logs and headers."""
    assert outcome_label(pb.ATTEMPT_OUTCOME_UNAUTHORIZED) == "unauthorized"
    assert reason_label(pb.FALLBACK_REASON_BREAKER_OPEN) == "breaker_open"


def test_prices_are_shown_by_the_token() -> None:
    """Dashboards multiply them by tokens."""
    registry = CollectorRegistry()
    prices = ModelSettings(provider="p", input_price_per_million=2.0, output_price_per_million=8.0)
    UpstreamMetrics(registry).show_prices("strong", prices)
    for direction, dollars in (("input", 2e-6), ("output", 8e-6)):
        labels = {"model": "strong", "direction": direction}
        shown = registry.get_sample_value("pointsman_upstream_token_price_dollars", labels)
        assert shown == pytest.approx(dollars)


async def test_endpoints_are_shown_as_they_stand_at_the_scrape() -> None:
    """A gauge that somebody has to set is one that somebody forgets to."""
    upstream = Upstream(
        {"strong": {"endpoints": [{"provider": "a"}, {"provider": "b"}]}},
        reliability={"breaker": {"consecutive_failures": 1}},
        a=[refused(500)],
    )
    upstream.metrics.show_endpoints(upstream.failover.gauges)

    def shown(name: str, provider: str) -> float | None:
        labels = {"model": "strong", "provider": provider}
        return upstream.registry.get_sample_value(f"pointsman_upstream_{name}", labels)

    assert shown("breaker_state", "a") == BreakerState.CLOSED
    while "a" not in upstream.asked:
        await upstream.ask_model()
    assert shown("breaker_state", "a") == BreakerState.OPEN
    upstream.time.now += 5
    assert shown("breaker_state", "a") == BreakerState.HALF_OPEN
    turn = await upstream.model().endpoints[1].begin()
    assert (shown("endpoint_in_flight", "b"), shown("queued", "b")) == (1, 0)
    turn.end()
    assert shown("endpoint_in_flight", "b") == 0


def test_no_endpoints_are_no_fault() -> None:
    """A registry asks its collectors as soon as they are registered."""
    registry = CollectorRegistry()

    def gauges() -> EndpointGauges:
        yield from ()

    UpstreamMetrics(registry).show_endpoints(gauges)
    assert "pointsman_upstream_queued" in {family.name for family in registry.collect()}
