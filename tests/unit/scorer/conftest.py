"""The scorer's instruments, on a registry of each test's own."""

import pytest
from prometheus_client import CollectorRegistry

from services.scorer.metrics import ScorerMetrics


@pytest.fixture
def registry() -> CollectorRegistry:
    """An empty registry."""
    return CollectorRegistry()


@pytest.fixture
def metrics(registry: CollectorRegistry) -> ScorerMetrics:
    """The scorer's instruments."""
    return ScorerMetrics(registry)
