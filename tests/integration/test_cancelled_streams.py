"""Clients that leave in mid-stream leave nothing behind: no task, connection, file or place."""

import asyncio
from pathlib import Path

import pytest

from tests.fakes.cluster import RunningCluster, cluster, models_of
from tests.fakes.provider import FakeProvider, gated_stream

pytestmark = pytest.mark.integration

_STREAMS = 1_000
_AT_ONCE = 50
_PLACES = 60
"""Fewer than streams: a place that is not given back is missed long before the end."""


async def test_a_thousand_cancelled_streams_leave_nothing_behind(
    tmp_path: Path, provider: FakeProvider
) -> None:
    """Whatever leaks a little for each would be found by every long-lived deployment."""
    provider.behaviours["fake-strong"] = gated_stream()
    models = models_of(provider.url, max_in_flight=_PLACES, max_queued=0)
    async with cluster(tmp_path, models) as running:
        await _cancel(running, _AT_ONCE)
        before = await _held(running)
        for _ in range(_STREAMS // _AT_ONCE):
            await _cancel(running, _AT_ONCE)
        # Connections of the last clients may still be closing; the test's time-out is the limit.
        while any(held > before[what] for what, held in (await _held(running)).items()):
            pass
        upstream = await running.metrics(running.upstream)
    assert upstream['pointsman_upstream_requests_total{model="strong",outcome="cancelled"}'] == (
        _STREAMS + _AT_ONCE
    )


async def _cancel(running: RunningCluster, streams: int) -> None:
    async def begin_and_leave() -> None:
        async with running.chat(stream=True) as response:
            assert response.status == 200
            await response.content.readuntil(b"\n\n")
            response.close()

    await asyncio.gather(*(begin_and_leave() for _ in range(streams)))
    await running.until_idle()


async def _held(running: RunningCluster) -> dict[str, float]:
    """Returns what each process holds, once its last connections are closed."""
    held = {}
    for process, name in ((running.gateway, "gateway"), (running.upstream, "upstream")):
        metrics = await running.metrics(process)
        held[f"{name} tasks"] = metrics["pointsman_asyncio_tasks"]
        held[f"{name} files"] = metrics["process_open_fds"]
    place = '{model="strong",provider="fake"}'
    metrics = await running.metrics(running.upstream)
    held["places"] = metrics[f"pointsman_upstream_endpoint_in_flight{place}"]
    held["queued"] = metrics[f"pointsman_upstream_queued{place}"]
    return held
