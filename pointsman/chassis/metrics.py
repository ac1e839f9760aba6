"""Prometheus metrics on a port of their own, never on the port that clients reach."""

import asyncio
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress

from prometheus_client import CollectorRegistry, disable_created_metrics, start_http_server
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.gc_collector import GCCollector
from prometheus_client.platform_collector import PlatformCollector
from prometheus_client.process_collector import ProcessCollector
from prometheus_client.registry import Collector

from pointsman.chassis.ports import port_errors

LATENCY_BUCKETS_SECONDS = (
    *(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5),
    *(1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0),
)
"""From a cached win rate to a long answer."""


def new_registry() -> CollectorRegistry:
    """Returns a registry with what every process reports: CPU, memory, files, garbage, Python.

    The tasks of the event loop too, where one is running.
    """
    # Without this every counter brings a second series, of a time that nobody graphs.
    disable_created_metrics()  # type: ignore[no-untyped-call]
    registry = CollectorRegistry()
    ProcessCollector(registry=registry)
    PlatformCollector(registry=registry)
    GCCollector(registry=registry)
    with suppress(RuntimeError):
        registry.register(_Tasks(asyncio.get_running_loop()))
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


class _Tasks(Collector):
    """Counts the tasks of an event loop: what a request leaves behind shows here."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop

    def collect(self) -> Iterable[GaugeMetricFamily]:
        """Returns the one gauge; a scrape may come from any thread."""
        tasks = GaugeMetricFamily("pointsman_asyncio_tasks", "Tasks of the event loop.")
        tasks.add_metric([], len(asyncio.all_tasks(self._loop)))
        return [tasks]
