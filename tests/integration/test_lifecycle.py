"""Starting, being ready, draining and stopping: real signals to real processes."""

import asyncio
import json
import os
import re
import shutil
import signal
import socket
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import aiohttp
import grpc
import pytest
import yaml
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from pointsman.scorer.v1 import scorer_pb2
from pointsman.upstream.v1 import upstream_pb2
from services.process import Process
from tests.conftest import missing
from tests.fakes.cluster import RunningCluster, cluster, models_of
from tests.fakes.provider import FakeProvider, gated_stream

pytestmark = pytest.mark.integration

SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING
SCORER = "pointsman.scorer.v1.ScorerService"
UPSTREAM = "pointsman.upstream.v1.UpstreamService"
ANY_PORTS = {
    f"POINTSMAN_{name}_PORT": "0"
    for name in (
        "GATEWAY",
        "GATEWAY_METRICS",
        "SCORER",
        "SCORER_METRICS",
        "UPSTREAM",
        "UPSTREAM_METRICS",
        "DEMO",
    )
}


@pytest.mark.parametrize("service", ["gateway", "scorer", "upstream"])
async def test_open_stream_is_finished_when_a_service_is_told_to_stop(
    tmp_path: Path, provider: FakeProvider, service: str
) -> None:
    """A rolling restart loses no answer: the process waits for its stream, then exits with 0."""
    provider.behaviours["fake-strong"] = gated_stream()
    async with cluster(tmp_path, models_of(provider.url)) as running:
        process: Process = getattr(running, service)
        async with running.chat(stream=True) as response:
            await response.content.readuntil(b"\n\n")
            process.signal(signal.SIGTERM)
            await _until_refused(process)
            provider.release.set()
            assert (await response.read()).endswith(b"data: [DONE]\n\n")
        assert await process.wait() == 0


async def test_stream_that_outlasts_the_grace_ends_in_an_error_and_the_gateway_exits_cleanly(
    tmp_path: Path, provider: FakeProvider
) -> None:
    """Draining has a limit; a stream that meets it is told so, and has no [DONE]."""
    provider.behaviours["fake-strong"] = gated_stream()
    settings = {"grace_seconds": 0.2}
    async with cluster(tmp_path, models_of(provider.url), gateway=settings) as running:
        async with running.chat(stream=True) as response:
            await response.content.readuntil(b"\n\n")
            running.gateway.signal(signal.SIGTERM)
            rest = await response.read()
        assert json.loads(rest.removeprefix(b"data: "))["error"]["code"] == "timeout"
        assert await running.gateway.wait() == 0


async def test_gateway_is_not_ready_before_it_stops_accepting(
    tmp_path: Path, provider: FakeProvider
) -> None:
    """Load balancers get `drain_delay_seconds` to notice; liveness stays true, requests work."""
    settings = {"drain_delay_seconds": 2.0}
    async with cluster(tmp_path, models_of(provider.url), gateway=settings) as running:
        assert await _probe(running, "readyz") == 200
        running.gateway.signal(signal.SIGTERM)
        while await _probe(running, "readyz") != 503:
            pass
        assert await _probe(running, "healthz") == 200
        async with running.chat() as response:
            assert response.status == 200
        assert await running.gateway.wait() == 0


@pytest.mark.parametrize("service", ["scorer", "upstream"])
async def test_health_falls_before_calls_are_refused(
    tmp_path: Path, provider: FakeProvider, service: str
) -> None:
    """Watchers of gRPC health see NOT_SERVING while the service still answers."""
    settings: dict[str, Any] = {service: {"drain_delay_seconds": 2.0}}
    async with cluster(tmp_path, models_of(provider.url), **settings) as running:
        channel = getattr(running, f"{service}_channel")
        stub = health_pb2_grpc.HealthStub(channel)
        name = SCORER if service == "scorer" else UPSTREAM
        for asked in ("", name):
            request = health_pb2.HealthCheckRequest(service=asked)
            assert (await stub.Check(request)).status == SERVING
        watch = stub.Watch(health_pb2.HealthCheckRequest(service=name))
        assert (await watch.read()).status == SERVING
        process: Process = getattr(running, service)
        process.signal(signal.SIGTERM)
        assert (await watch.read()).status == NOT_SERVING
        if service == "scorer":  # a caller that does not watch health, as the gateway does
            assert (await running.score.ListRouters(scorer_pb2.ListRoutersRequest())).routers
        else:
            assert (await running.complete.ListModels(upstream_pb2.ListModelsRequest())).models
        watch.cancel()
        assert await process.wait() == 0


async def test_services_describe_themselves(running: RunningCluster) -> None:
    """`grpcurl list` works against both servers."""
    for channel, name in ((running.scorer_channel, SCORER), (running.upstream_channel, UPSTREAM)):
        stub = reflection_pb2_grpc.ServerReflectionStub(channel)
        call = stub.ServerReflectionInfo()
        await call.write(reflection_pb2.ServerReflectionRequest(list_services=""))
        listed = (await call.read()).list_services_response.service
        assert {name, "grpc.health.v1.Health"} <= {service.name for service in listed}
        await call.done_writing()


async def test_scorer_serves_although_one_router_is_broken(
    tmp_path: Path, provider: FakeProvider
) -> None:
    """A missing bundle is named by ListRouters; the other routers keep working."""
    scorer = {"routers": {"random": {}, "absent": {"bundle": str(tmp_path / "nowhere")}}}
    async with cluster(tmp_path, models_of(provider.url), scorer=scorer) as running:
        listed = (await running.score.ListRouters(scorer_pb2.ListRoutersRequest())).routers
        assert [(router.name, router.ready) for router in listed] == [
            ("random", True),
            ("absent", False),
        ]
        assert "nowhere" in listed[1].not_ready_reason
        with pytest.raises(grpc.aio.AioRpcError) as failed:
            await running.score.Score(scorer_pb2.ScoreRequest(router="absent", prompt="x"))
        assert failed.value.code() is grpc.StatusCode.FAILED_PRECONDITION
        async with running.chat("router-absent-0.5") as response:
            assert (response.status, response.headers["x-pointsman-fallback"]) == (
                200,
                "scorer_unavailable",
            )


async def test_pair_that_the_models_file_lacks_is_named_with_both_files(
    tmp_path: Path, provider: FakeProvider
) -> None:
    """The gateway is up but not ready, and says which file to mend."""
    settings = {"pair": {"strong": "gpt-x", "weak": "weak"}}
    async with cluster(tmp_path, models_of(provider.url), gateway=settings) as running:
        async with running.http.get(f"{running.url}/readyz") as response:
            reason = (await response.json())["reason"]
            assert response.status == 503
        assert await _probe(running, "healthz") == 200
        async with running.chat() as response:
            assert response.status == 503
            assert "gpt-x" in (await response.json())["error"]["message"]
    for words in ("pair.strong is `gpt-x`", "gateway.yaml", "models.yaml", "strong, weak"):
        assert words in reason
    assert running.gateway.announcement.not_ready_reason == reason


async def test_gateway_finds_services_that_come_up_after_it(
    tmp_path: Path, provider: FakeProvider
) -> None:
    """Start order is nobody's concern: not ready at first, ready once the upstream is there."""
    (tmp_path / "models.yaml").write_text(yaml.safe_dump(models_of(provider.url)))
    scorer_port, upstream_port = _free_port(), _free_port()
    environ = {
        **ANY_PORTS,
        "POINTSMAN_MODELS": str(tmp_path / "models.yaml"),
        "POINTSMAN_SCORER_PORT": str(scorer_port),
        "POINTSMAN_UPSTREAM_PORT": str(upstream_port),
        "POINTSMAN_SCORER_ADDRESS": f"127.0.0.1:{scorer_port}",
        "POINTSMAN_UPSTREAM_ADDRESS": f"127.0.0.1:{upstream_port}",
    }
    gateway, upstream, scorer = (
        Process(service, environ, log=asyncio.subprocess.DEVNULL)
        for service in ("gateway", "upstream", "scorer")
    )
    try:
        url = f"http://{(await gateway.start()).address}"
        assert "upstream" in gateway.announcement.not_ready_reason
        await asyncio.gather(upstream.start(), scorer.start())
        async with aiohttp.ClientSession() as http:
            while (await http.get(f"{url}/readyz")).status != 200:
                pass
            while len((await (await http.get(f"{url}/v1/models")).json())["data"]) < 3:
                pass
            body = {"model": "router-random-0.5", "messages": [{"role": "user", "content": "x"}]}
            async with http.post(f"{url}/v1/chat/completions", json=body) as response:
                assert response.status == 200
                assert "x-pointsman-fallback" not in response.headers
    finally:
        for process in (gateway, upstream, scorer):
            await process.stop()


@pytest.mark.parametrize(
    ("service", "variable"),
    [
        ("gateway", "POINTSMAN_GATEWAY_PORT"),
        ("gateway", "POINTSMAN_GATEWAY_METRICS_PORT"),
        ("scorer", "POINTSMAN_SCORER_PORT"),
        ("upstream", "POINTSMAN_UPSTREAM_PORT"),
        ("demo_provider", "POINTSMAN_DEMO_PORT"),
    ],
)
async def test_taken_port_is_one_clear_line(service: str, variable: str) -> None:
    """Not a traceback: the port, and the variable that moves it."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        status, _, said = await _run_to_end(
            f"services.{service}", {**ANY_PORTS, variable: str(port)}
        )
    assert status == 2
    (line,) = said.splitlines()
    assert f"127.0.0.1:{port}" in line
    assert variable in line


async def test_wrong_setting_is_one_line_with_its_key_path(tmp_path: Path) -> None:
    """An operator learns file, key and value, and the process does not start."""
    path = tmp_path / "gateway.yaml"
    path.write_text("scorer: {timeout_seconds: soon}\n")
    environ = {**ANY_PORTS, "POINTSMAN_GATEWAY_CONFIG": str(path)}
    status, _, said = await _run_to_end("services.gateway", environ)
    assert status == 2
    (line,) = said.splitlines()
    assert str(path) in line
    assert "$.scorer.timeout_seconds" in line


async def test_missing_key_is_one_line_with_its_variable(tmp_path: Path) -> None:
    """A provider without its key would fail every request; better not to start."""
    path = tmp_path / "models.yaml"
    path.write_text(yaml.safe_dump(models_of("http://127.0.0.1:1/v1", api_key_env="NO_SUCH_KEY")))
    environ = {**ANY_PORTS, "POINTSMAN_MODELS": str(path)}
    status, _, said = await _run_to_end("services.upstream", environ)
    assert status == 2
    (line,) = said.splitlines()
    assert "NO_SUCH_KEY" in line
    assert str(path) in line


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
async def test_all_in_one_says_where_it_is_and_stops_everything(number: signal.Signals) -> None:
    """`make up`: a URL, a curl line and client code; one signal, and every port is free again."""
    async with _all_in_one() as (child, banner, url):
        curl = f"curl -s {url}/v1/chat"
        for words in (curl, "from openai import OpenAI", f'base_url="{url}/v1"'):
            assert words in banner
        async with aiohttp.ClientSession() as http, http.get(f"{url}/readyz") as response:
            assert response.status == 200
        child.send_signal(number)
        assert await child.wait() == 0
        await _until_closed(url)


async def test_second_signal_ends_the_draining(tmp_path: Path) -> None:
    """Whoever presses Ctrl-C twice does not want to wait for ten minutes of grace."""
    settings = tmp_path / "patient.yaml"
    settings.write_text("grace_seconds: 600\n")
    environ = {
        "POINTSMAN_GATEWAY_CONFIG": str(settings),
        "POINTSMAN_UPSTREAM_CONFIG": str(settings),
        "POINTSMAN_DEMO_CHUNK_SECONDS": "600",
    }
    body = {
        "model": "strong",
        "stream": True,
        "messages": [{"role": "user", "content": "x"}],
    }
    async with (
        _all_in_one(environ) as (child, banner, url),
        aiohttp.ClientSession() as http,
    ):
        metrics = re.search(r"metrics: (\S+)\)", banner)
        assert metrics is not None
        asking = asyncio.ensure_future(http.post(f"{url}/v1/chat/completions", json=body))
        in_flight = ""
        while "pointsman_gateway_requests_in_flight 1.0" not in in_flight:
            async with http.get(metrics[1]) as response:
                in_flight = await response.text()
        child.send_signal(signal.SIGINT)
        await _until_closed(url)
        child.send_signal(signal.SIGINT)
        assert await child.wait() == 0
        with pytest.raises(aiohttp.ClientError):
            await asking


async def test_what_all_in_one_prints_works_when_pasted() -> None:
    """The first thing a newcomer does: the curl line, and the three lines of client code."""
    if shutil.which("curl") is None:
        missing("curl", "install it, or try the client code alone")
    async with _all_in_one() as (_, banner, _):
        lines = [line.removeprefix("  ") for line in banner.splitlines()]
        curl = next(index for index, line in enumerate(lines) if line.startswith("curl"))
        code = next(index for index, line in enumerate(lines) if line.startswith("from openai"))
        for command in (
            ["sh", "-c", "\n".join(lines[curl : curl + 2])],
            [sys.executable, "-c", "\n".join(lines[code : code + 3])],
        ):
            child = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
            out, _ = await child.communicate()
            assert child.returncode == 0
            assert b"demo provider, answering as demo-" in out


async def test_all_in_one_starts_a_dead_process_again_at_its_old_address() -> None:
    """A crash of one service is a hiccup, not the end of the cluster."""
    body = {"model": "router-random-0.5", "messages": [{"role": "user", "content": "x"}]}
    async with _all_in_one() as (child, _, url), aiohttp.ClientSession() as http:
        os.kill(_child_of(child.pid, "services.scorer"), signal.SIGKILL)
        fallbacks: list[str | None] = []
        while not any(fallbacks) or fallbacks[-1]:
            async with http.post(f"{url}/v1/chat/completions", json=body) as response:
                assert response.status == 200
                fallbacks.append(response.headers.get("x-pointsman-fallback"))


async def test_no_process_outlives_a_killed_all_in_one() -> None:
    """Even SIGKILL of the parent leaves nothing behind: the children notice and stop."""
    async with _all_in_one() as (child, _, url):
        child.kill()
        await child.wait()
        await _until_closed(url)


async def test_all_in_one_with_a_taken_port_stops_what_it_started() -> None:
    """One line that names the port, exit status 2, nothing left running."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        environ = {**ANY_PORTS, "POINTSMAN_GATEWAY_PORT": str(port)}
        status, _, said = await _run_to_end("services.all_in_one", environ)
    assert status == 2
    (line,) = said.splitlines()
    assert f":{port}" in line


async def _probe(running: RunningCluster, name: str) -> int:
    async with running.http.get(f"{running.url}/{name}") as response:
        return response.status


async def _until_refused(process: Process) -> None:
    """Returns once the process takes no new connection."""
    await _until_closed(f"http://{process.announcement.address}")


async def _until_closed(url: str) -> None:
    host, port = url.removeprefix("http://").split(":")
    while True:
        try:
            _, writer = await asyncio.open_connection(host, int(port))
        except ConnectionError:
            return
        writer.close()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


async def _run_to_end(module: str, environ: Mapping[str, str]) -> tuple[int, str, str]:
    child = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        module,
        env=dict(environ),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, said = await child.communicate()
    assert child.returncode is not None
    return child.returncode, out.decode(), said.decode()


@asynccontextmanager
async def _all_in_one(
    environ: Mapping[str, str] | None = None,
) -> AsyncIterator[tuple[asyncio.subprocess.Process, str, str]]:
    """Yields the running command, its banner and the gateway's URL."""
    child = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "services.all_in_one",
        env={**ANY_PORTS, "POINTSMAN_LOG_LEVEL": "WARNING", **(environ or {})},
        stdout=asyncio.subprocess.PIPE,
    )
    assert child.stdout is not None
    banner = (await child.stdout.readuntil(b"stops everything.\n")).decode()
    url = next(word for word in banner.split() if word.startswith("http://")).removesuffix("/v1")
    # A pipe that nobody reads would stop the services once it is full.
    draining = asyncio.ensure_future(child.stdout.read())
    try:
        yield child, banner, url
    finally:
        with suppress(ProcessLookupError):
            child.terminate()
        await child.wait()
        await draining


def _child_of(parent: int, module: str) -> int:
    children = Path(f"/proc/{parent}/task/{parent}/children").read_text().split()
    for child in map(int, children):
        if module in Path(f"/proc/{child}/cmdline").read_text():
            return child
    raise AssertionError(f"{parent} has no child {module}")
