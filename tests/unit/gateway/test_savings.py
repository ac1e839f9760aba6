"""The number the owner looks at: what answers cost, and what the strong model would have cost."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry

from pointsman.upstream.v1 import upstream_pb2 as pb
from services.gateway.metrics import GatewayMetrics
from services.gateway.savings import DIRECT, Savings, dollars

STRONG = pb.Model(
    name="big",
    input_price_per_million=2.0,
    cached_input_price_per_million=0.5,
    output_price_per_million=8.0,
    reasoning_price_per_million=10.0,
)
WEAK = pb.Model(name="small", input_price_per_million=0.1, output_price_per_million=0.4)
USAGE = pb.Usage(input_tokens=1000, cached_input_tokens=400, output_tokens=500, reasoning_tokens=50)
USAGE_DOLLARS = (600 * 2.0 + 400 * 0.5 + 450 * 8.0 + 50 * 10.0) / 1e6

counts = st.integers(0, 10**9)


@pytest.fixture
def registry() -> CollectorRegistry:
    """A registry of this test's own."""
    return CollectorRegistry()


@pytest.fixture
def savings(registry: CollectorRegistry) -> Savings:
    """Savings against `big`."""
    return Savings(GatewayMetrics(registry), "big", lambda: [WEAK, STRONG])


def counted(registry: CollectorRegistry, router: str) -> tuple[float | None, float | None]:
    """Returns what answers cost, and what they would have."""
    labels = {"router": router}
    return (
        registry.get_sample_value("pointsman_gateway_cost_dollars_total", labels),
        registry.get_sample_value("pointsman_gateway_always_strong_dollars_total", labels),
    )


def test_a_routed_answer_is_compared_with_the_strong_model(
    savings: Savings, registry: CollectorRegistry
) -> None:
    """Their difference is what was saved."""
    savings.count("mf", USAGE, 0.0003, whole=True)
    savings.count("mf", USAGE, USAGE_DOLLARS, whole=True)
    assert counted(registry, "mf") == (
        pytest.approx(0.0003 + USAGE_DOLLARS),
        pytest.approx(2 * USAGE_DOLLARS),
    )


def test_half_an_answer_costs_and_saves_nothing(
    savings: Savings, registry: CollectorRegistry
) -> None:
    """Nobody would have paid the strong model for it."""
    savings.count("mf", USAGE, 0.0003, whole=False)
    assert counted(registry, "mf") == (0.0003, None)


def test_a_model_that_was_named_costs_and_saves_nothing(
    savings: Savings, registry: CollectorRegistry
) -> None:
    """The client chose; a router's savings must not include it."""
    savings.count(DIRECT, USAGE, 0.0003, whole=True)
    assert counted(registry, DIRECT) == (0.0003, None)


def test_an_answer_without_usage_is_compared_with_nothing(
    savings: Savings, registry: CollectorRegistry
) -> None:
    """An upstream that does not say what was used must not look like a saving."""
    savings.count("mf", None, 0.0, whole=True)
    assert counted(registry, "mf") == (0.0, None)


def test_before_the_models_are_known_nothing_is_saved(registry: CollectorRegistry) -> None:
    """The upstream may not have been reached since the gateway's start."""
    Savings(GatewayMetrics(registry), "big", lambda: []).count("mf", USAGE, 0.0003, whole=True)
    assert counted(registry, "mf") == (0.0003, None)


def test_each_kind_of_token_has_its_price() -> None:
    """Cached tokens are input tokens and reasoning tokens output tokens: neither counts twice."""
    assert dollars(USAGE, STRONG) == pytest.approx(USAGE_DOLLARS)


@given(counts, counts, counts, counts)
def test_dollars_lie_between_the_cheapest_and_the_dearest_price(
    sent: int, cached: int, made: int, reasoned: int
) -> None:
    """Counts that do not fit together, as some providers send, must not make money."""
    usage = pb.Usage(
        input_tokens=sent,
        cached_input_tokens=cached,
        output_tokens=made,
        reasoning_tokens=reasoned,
    )
    low, high = (sent * 0.5 + made * 8.0) / 1e6, (sent * 2.0 + made * 10.0) / 1e6
    assert low <= dollars(usage, STRONG) * (1 + 1e-9)
    assert dollars(usage, STRONG) <= high * (1 + 1e-9)
