"""Prometheus metrics on a port of their own, never on the port that clients reach."""

from collections.abc import Iterator
from contextlib import contextmanager

from prometheus_client import CollectorRegistry, disable_created_metrics, start_http_server
from prometheus_client.gc_collector import GCCollector
from prometheus_client.platform_collector import PlatformCollector
from prometheus_client.process_collector import ProcessCollector

from pointsman.chassis.ports import port_errors

LATENCY_BUCKETS_SECONDS = (
    *(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5),
    *(1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0),
)
"""From a cached win rate to a long answer."""


def new_registry() -> CollectorRegistry:
    """Returns a registry with what every process reports: CPU, memory, files, garbage, Python."""
    # Without this every counter brings a second series, of a time that nobody graphs.
    disable_created_metrics()  # type: ignore[no-untyped-call]
    registry = CollectorRegistry()
    ProcessCollector(registry=registry)
    PlatformCollector(registry=registry)
    GCCollector(registry=registry)
    return registry


@contextmanager
def metrics_server(
    registry: CollectorRegistry, host: str, port: int, *, setting: str
) -> Iterator[int]:
    """Serves `/metrics` from a thread; yields the port, which the kernel chose if `port` is 0.

    Raises:
        ConfigError: The port is taken; `setting` names the variable that moves it.
    """
    with port_errors(host, port, setting):
        server, thread = start_http_server(port, host, registry)
    try:
        yield server.server_port
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
