"""Who may talk to whom inside, and what replicas and restarts cost: nothing."""

import asyncio
import os
import secrets
import shutil
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import grpc
import pytest
import yaml
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from pointsman.chassis.mesh import REFUSAL, TOKEN_KEY
from pointsman.scorer.v1 import scorer_pb2, scorer_pb2_grpc
from pointsman.upstream.v1 import upstream_pb2, upstream_pb2_grpc
from services.process import Process
from tests.conftest import missing
from tests.fakes.cluster import RunningCluster, cluster, models_of
from tests.fakes.provider import FakeProvider, gated_stream

pytestmark = pytest.mark.integration

TOKEN = secrets.token_hex(32)
ANOTHER = secrets.token_hex(32)
SCORER = {"routers": {"random": {"options": {"seed": 0}}}, "workers": 1}
# A burst on a busy machine is no reason for a fallback in these tests.
PATIENT = {"scorer": {"timeout_seconds": 30}}
SERVING = health_pb2.HealthCheckResponse.SERVING


class Services:
    """Services of a test's own, each with its file and its log, stopped at the end."""

    def __init__(self, folder: Path, stack: AsyncExitStack) -> None:
        self._folder = folder
        self._stack = stack
        self._count = 0

    async def start(self, service: str, settings: Mapping[str, Any], **environ: str) -> Process:
        """Starts a service on kernel-chosen ports."""
        self._count += 1
        path = self._folder / f"{service}-{self._count}.yaml"
        path.write_text(yaml.safe_dump({"port": 0, "metrics_port": 0, **settings}))
        log = self._stack.enter_context(path.with_suffix(".log").open("wb"))
        variable = f"POINTSMAN_{service.upper()}_CONFIG"
        process = Process(service, {variable: str(path), **environ}, log=log.fileno())
        self._stack.push_async_callback(process.stop)
        await process.start()
        return process

    def logs(self) -> str:
        """Returns everything that any of them wrote."""
        return "".join(path.read_text() for path in sorted(self._folder.glob("*.log")))


@pytest.fixture
async def services(tmp_path: Path) -> AsyncIterator[Services]:
    """Starts services, and stops them in reverse order."""
    async with AsyncExitStack() as stack:
        yield Services(tmp_path, stack)


@pytest.fixture
async def http() -> AsyncIterator[aiohttp.ClientSession]:
    """A client."""
    async with aiohttp.ClientSession() as session:
        yield session


async def start_upstream(
    services: Services, provider: FakeProvider, tmp_path: Path, **environ: str
) -> Process:
    """Starts an upstream over the provider."""
    path = tmp_path / "models.yaml"
    path.write_text(yaml.safe_dump(models_of(provider.url)))
    return await services.start("upstream", {"models_file": str(path)}, **environ)


@pytest.mark.parametrize("service", ["scorer", "upstream"])
def test_a_service_that_anybody_could_call_does_not_start(service: str) -> None:
    """An open upstream on a network is somebody else's free model; the ways out are told."""
    ran = run(service, {"HOST": "0.0.0.0"})
    assert ran.returncode == 2
    (line,) = ran.stderr.splitlines()
    for words in ("0.0.0.0", "POINTSMAN_MESH_TOKEN", "POINTSMAN_TLS_CERTIFICATE", "INSECURE=true"):
        assert words in line


@pytest.mark.parametrize("service", ["scorer", "upstream", "gateway"])
def test_a_token_that_can_be_guessed_is_refused_and_not_repeated(service: str) -> None:
    """A start-up error ends in a log that many read."""
    ran = run(service, {}, POINTSMAN_MESH_TOKEN="hunter2hunter2")
    assert ran.returncode == 2
    (line,) = ran.stderr.splitlines()
    assert "POINTSMAN_MESH_TOKEN" in line
    assert "32" in line
    assert "hunter2" not in ran.stdout + ran.stderr


def run(
    service: str, endings: Mapping[str, str], **environ: str
) -> "subprocess.CompletedProcess[str]":
    """Runs a service that is not expected to start."""
    prefix = f"POINTSMAN_{service.upper()}"
    variables = {"PORT": "0", "METRICS_PORT": "0", **endings}
    return subprocess.run(
        [sys.executable, "-m", f"services.{service}"],
        env={**{f"{prefix}_{name}": value for name, value in variables.items()}, **environ},
        capture_output=True,
        text=True,
        check=False,
    )


async def test_insecure_is_said_out_loud(services: Services) -> None:
    """Whoever opens a service to the network reads so in its log."""
    anywhere = {**SCORER, "host": "0.0.0.0"}
    process = await services.start("scorer", anywhere, POINTSMAN_INSECURE="true")
    async with grpc.aio.insecure_channel(process.announcement.address) as channel:
        assert await let_in(channel, None)
    (line,) = [line for line in services.logs().splitlines() if "insecure" in line]
    assert '"WARNING"' in line


async def test_with_the_token_everything_works_and_nobody_writes_it_down(
    tmp_path: Path, provider: FakeProvider
) -> None:
    """The three services share a secret, and it stays one."""
    environ = {"POINTSMAN_MESH_TOKEN": TOKEN, "POINTSMAN_LOG_LEVEL": "DEBUG"}
    async with cluster(tmp_path, models_of(provider.url), environ=environ) as running:
        for fields in ({}, {"stream": True}):
            async with running.chat(**fields) as response:
                assert response.status == 200
                assert "x-pointsman-fallback" not in response.headers
        assert not await let_in(running.scorer_channel, ANOTHER)
    for service in ("gateway", "scorer", "upstream"):
        assert running.log(service)
        assert TOKEN not in running.log(service)
        assert ANOTHER not in running.log(service)
    assert all(TOKEN not in str(call.headers) for call in provider.calls)


async def test_the_command_line_shows_the_token_of_its_environment(services: Services) -> None:
    """`pointsman route --address` reaches a scorer that asks who is there."""
    process = await services.start("scorer", SCORER, POINTSMAN_MESH_TOKEN=TOKEN)
    command = (*("route", "Hello!", "--router", "random"), "--threshold", "0", "--format", "json")
    for token, status in ((TOKEN, 0), (ANOTHER, 1), ("", 1)):
        ran = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "pointsman.cli.main", *command),
            *("--address", process.announcement.address),
            env={**os.environ, "POINTSMAN_MESH_TOKEN": token},
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        told, wrong = await ran.communicate()
        assert ran.returncode == status
        assert (b'"decision": "strong"' in told) == (status == 0)
        assert TOKEN.encode() not in wrong + told
        assert len(wrong.splitlines()) == status


async def test_without_the_token_only_health_is_told(
    tmp_path: Path, provider: FakeProvider
) -> None:
    """Probes need no secret; every other method does, also after others were let in."""
    environ = {"POINTSMAN_MESH_TOKEN": TOKEN}
    async with cluster(tmp_path, models_of(provider.url), environ=environ) as running:
        async with running.chat() as response:
            assert response.status == 200
        for channel in (running.scorer_channel, running.upstream_channel):
            assert not await let_in(channel, None)
            assert not await let_in(channel, "")
            assert not await let_in(channel, TOKEN[:-1])
            assert await let_in(channel, TOKEN)
            assert not await let_in(channel, None)
            reflection = reflection_pb2_grpc.ServerReflectionStub(channel)
            with pytest.raises(grpc.aio.AioRpcError, match="UNAUTHENTICATED"):
                await reflection.ServerReflectionInfo().read()
            described = reflection.ServerReflectionInfo(metadata=((TOKEN_KEY, TOKEN),))
            await described.write(reflection_pb2.ServerReflectionRequest(list_services=""))
            assert (await described.read()).list_services_response.service
            described.cancel()
            health = health_pb2_grpc.HealthStub(channel)
            assert (await health.Check(health_pb2.HealthCheckRequest())).status == SERVING
            watch = health.Watch(health_pb2.HealthCheckRequest())
            assert (await watch.read()).status == SERVING
            watch.cancel()
            # It does not exist here, and would write a traceback for each stranger who tries.
            with pytest.raises(grpc.aio.AioRpcError, match="UNAUTHENTICATED"):
                await channel.unary_unary("/grpc.health.v1.Health/List")(b"")


async def let_in(channel: grpc.aio.Channel, shown: str | None) -> bool:
    """Returns whether calls of every shape are let in; they must agree, and say how to mend it."""
    metadata = None if shown is None else ((TOKEN_KEY, shown),)
    scorer = scorer_pb2_grpc.ScorerServiceStub(channel)
    upstream = upstream_pb2_grpc.UpstreamServiceStub(channel)
    calls: list[Any] = [
        scorer.ListRouters(scorer_pb2.ListRoutersRequest(), metadata=metadata),
        upstream.ListModels(upstream_pb2.ListModelsRequest(), metadata=metadata),
        upstream.StreamComplete(upstream_pb2.StreamCompleteRequest(), metadata=metadata),
    ]
    # Some of the methods live in the other service; who may not call does not even learn that.
    codes = [await call.code() for call in calls]
    refusals = [code is grpc.StatusCode.UNAUTHENTICATED for code in codes]
    assert len(set(refusals)) == 1
    assert refusals[0] == (await calls[0].details() == REFUSAL)
    return not refusals[0]


async def test_scorer_with_another_token_costs_the_win_rate_and_upstream_the_answer(
    services: Services, provider: FakeProvider, http: aiohttp.ClientSession, tmp_path: Path
) -> None:
    """A half-rolled-out token: fallback decisions or 503, and a log that says why."""
    theirs, ours = {"POINTSMAN_MESH_TOKEN": ANOTHER}, {"POINTSMAN_MESH_TOKEN": TOKEN}
    scorer = await services.start("scorer", SCORER, **theirs)
    strange = await start_upstream(services, provider, tmp_path, **theirs)
    known = await start_upstream(services, provider, tmp_path, **ours)
    answered: dict[str, tuple[int, str | None]] = {}
    for name, upstream in (("known", known), ("strange", strange)):
        gateway = await services.start(
            "gateway", PATIENT, **ours, **addresses(scorer.announcement.address, upstream)
        )
        model = {"known": "router-random-0", "strange": "strong"}[name]
        async with http.post(chat_url(gateway), json=hello(model)) as response:
            fallback = response.headers.get("x-pointsman-fallback")
            answered[name] = (response.status, fallback)
    assert answered == {"known": (200, "scorer_unavailable"), "strange": (503, None)}
    for words in ("the scorer refuses the gateway", "the upstream refuses the gateway", REFUSAL):
        assert words in services.logs()


async def test_tokens_can_be_changed_one_service_at_a_time(
    services: Services, tmp_path: Path
) -> None:
    """A file with the new token behind the old one lets both in."""
    path = tmp_path / "tokens"
    path.write_text(f"{TOKEN}\n{ANOTHER}\n")
    process = await services.start("scorer", SCORER, POINTSMAN_MESH_TOKEN_FILE=str(path))
    async with grpc.aio.insecure_channel(process.announcement.address) as channel:
        assert await let_in(channel, TOKEN)
        assert await let_in(channel, ANOTHER)
        assert not await let_in(channel, f"{TOKEN} {ANOTHER}")


async def test_mutual_tls_lets_in_whoever_the_authority_knows(
    services: Services,
    provider: FakeProvider,
    http: aiohttp.ClientSession,
    tmp_path: Path,
    certificates: dict[str, str],
) -> None:
    """With certificates no token is needed, and without one nobody is heard."""
    names = {"POINTSMAN_TLS_SERVER_NAME": "pointsman.internal"}
    environ = {**certificates, **names}
    scorer = await services.start("scorer", {**SCORER, "host": "0.0.0.0"}, **environ)
    upstream = await start_upstream(services, provider, tmp_path, **environ)
    gateway = await services.start(
        "gateway", PATIENT, **environ, **addresses(scorer.announcement.address, upstream)
    )
    for stream in (False, True):
        body = {**hello("router-random-0"), "stream": stream}
        async with http.post(chat_url(gateway), json=body) as response:
            assert response.status == 200
            assert "x-pointsman-fallback" not in response.headers
    assert healthcheck("scorer", scorer, environ) == (0, "")
    status, said = healthcheck("scorer", scorer, {})
    assert (status, len(said.splitlines())) == (1, 1)
    ca = (tmp_path / "ca.pem").read_bytes()
    options = [("grpc.ssl_target_name_override", "pointsman.internal")]
    strangers = [
        grpc.aio.insecure_channel(scorer.announcement.address),
        grpc.aio.secure_channel(
            scorer.announcement.address, grpc.ssl_channel_credentials(ca), options
        ),
    ]
    for channel in strangers:
        async with channel:
            stub = scorer_pb2_grpc.ScorerServiceStub(channel)
            with pytest.raises(grpc.aio.AioRpcError) as unheard:
                await stub.ListRouters(scorer_pb2.ListRoutersRequest())
            assert unheard.value.code() is grpc.StatusCode.UNAVAILABLE


@pytest.fixture
def certificates(tmp_path: Path) -> dict[str, str]:
    """An authority and a certificate for `pointsman.internal`, as the services' variables."""
    if shutil.which("openssl") is None:
        missing("openssl", "install it to try mutual TLS")
    make_certificates(tmp_path)
    return {
        "POINTSMAN_TLS_CERTIFICATE": str(tmp_path / "own.pem"),
        "POINTSMAN_TLS_KEY": str(tmp_path / "own.key"),
        "POINTSMAN_TLS_CA": str(tmp_path / "ca.pem"),
    }


def make_certificates(folder: Path) -> None:
    """Writes ca.pem, own.pem and own.key."""
    new = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"]
    new += ["-nodes", "-days", "2"]
    for arguments in (
        ["-keyout", "ca.key", "-out", "ca.pem", "-subj", "/CN=authority"],
        [
            *("-keyout", "own.key", "-out", "own.pem", "-subj", "/CN=pointsman"),
            *("-CA", "ca.pem", "-CAkey", "ca.key"),
            *("-addext", "subjectAltName=DNS:pointsman.internal"),
        ],
    ):
        subprocess.run([*new, *arguments], cwd=folder, check=True, capture_output=True)


@pytest.mark.parametrize("service", ["gateway", "scorer", "upstream"])
async def test_healthcheck_follows_the_service(running: RunningCluster, service: str) -> None:
    """What a container's health check runs: 0 while the service is ready."""
    process: Process = getattr(running, service)
    assert await asyncio.to_thread(healthcheck, service, process, {}) == (0, "")


async def test_healthcheck_says_in_one_line_why_a_service_is_not_ready(
    services: Services, http: aiohttp.ClientSession
) -> None:
    """Gone, or up and not ready: whoever looks at the container's health reads why."""
    gateway = await services.start(
        "gateway", {}, POINTSMAN_SCORER_ADDRESS="127.0.0.1:9", POINTSMAN_UPSTREAM_ADDRESS="[::1]:9"
    )
    status, said = await asyncio.to_thread(healthcheck, "gateway", gateway, {})
    assert (status, len(said.splitlines())) == (1, 1)
    assert "the upstream cannot be reached" in said
    scorer = await services.start("scorer", SCORER)
    await scorer.stop()
    status, said = await asyncio.to_thread(healthcheck, "scorer", scorer, {})
    assert (status, len(said.splitlines())) == (1, 1)
    assert scorer.announcement.address in said


async def test_healthcheck_of_the_demo_provider(services: Services) -> None:
    """It has no readiness of its own: it answers or it does not."""
    demo = Process("demo_provider", {"POINTSMAN_DEMO_PORT": "0"}, log=asyncio.subprocess.DEVNULL)
    try:
        await demo.start()
        assert await asyncio.to_thread(healthcheck, "demo_provider", demo, {}) == (0, "")
    finally:
        await demo.stop()
    status, said = await asyncio.to_thread(healthcheck, "demo_provider", demo, {})
    assert (status, len(said.splitlines())) == (1, 1)


def healthcheck(service: str, process: Process, environ: Mapping[str, str]) -> tuple[int, str]:
    """Runs the health check of a service; returns its exit status and what it says."""
    variable = f"POINTSMAN_{service.removesuffix('_provider').upper()}_PORT"
    port = process.announcement.address.rpartition(":")[2]
    ran = subprocess.run(
        [sys.executable, "-m", f"services.{service}", "--healthcheck"],
        env={**environ, variable: port},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.stdout == ""
    return ran.returncode, ran.stderr


async def test_replicas_share_the_load_and_one_that_dies_costs_nothing(
    services: Services, provider: FakeProvider, http: aiohttp.ClientSession, tmp_path: Path
) -> None:
    """Two scorers behind one target: both work, one is killed under load, and comes back."""
    scorers = [await services.start("scorer", SCORER) for _ in range(2)]
    upstream = await start_upstream(services, provider, tmp_path)
    target = ",".join(scorer.announcement.address for scorer in scorers)
    gateway = await services.start("gateway", PATIENT, **addresses(f"ipv4:{target}", upstream))
    async with load(http, gateway) as answers:
        await both_are_asked(http, scorers)
        scorers[0].signal(signal.SIGKILL)
        await scorers[0].wait()
        await more(answers, 100)
        address, metrics = scorers[0].announcement.address, scorers[0].announcement.metrics
        scorers[0].environ = {
            **scorers[0].environ,
            "POINTSMAN_SCORER_PORT": address.rpartition(":")[2],
            "POINTSMAN_SCORER_METRICS_PORT": metrics.rpartition(":")[2],
        }
        await scorers[0].start()
        await both_are_asked(http, scorers)
    assert set(answers) == {(200, None)}


async def test_upstream_that_restarts_loses_no_request_and_sends_none_twice(
    services: Services, provider: FakeProvider, http: aiohttp.ClientSession, tmp_path: Path
) -> None:
    """The only upstream goes and comes back: requests wait for it, and each is paid for once."""
    scorer = await services.start("scorer", SCORER)
    upstream = await start_upstream(services, provider, tmp_path)
    gateway = await services.start(
        "gateway",
        {**PATIENT, "upstream": {"wait_seconds": 50}},
        **addresses(scorer.announcement.address, upstream),
    )
    async with load(http, gateway) as answers:
        for _ in range(3):
            await more(answers, 50)
            port = upstream.announcement.address.rpartition(":")[2]
            assert await upstream.stop() == 0
            upstream.environ = {**upstream.environ, "POINTSMAN_UPSTREAM_PORT": port}
            await upstream.start()
        await more(answers, 50)
    assert set(answers) == {(200, None)}
    assert len(provider.calls) == len(answers)


async def test_dead_upstream_is_503_once_the_wait_is_over(
    services: Services, provider: FakeProvider, http: aiohttp.ClientSession, tmp_path: Path
) -> None:
    """Waiting has an end, streamed or not, and the log has the reason."""
    scorer = await services.start("scorer", SCORER)
    upstream = await start_upstream(services, provider, tmp_path)
    gateway = await services.start(
        "gateway",
        {**PATIENT, "upstream": {"wait_seconds": 0.2}},
        **addresses(scorer.announcement.address, upstream),
    )
    await upstream.stop()
    for stream in (False, True):
        body = {**hello("strong"), "stream": stream}
        async with http.post(chat_url(gateway), json=body) as response:
            assert response.status == 503
            error = (await response.json())["error"]
        assert error["code"] == "upstream_unavailable"
        assert "was not sent" in error["message"]
    assert "no upstream is connected" in services.logs()
    assert provider.calls == []


async def test_connections_that_grow_old_lose_nothing(
    services: Services, provider: FakeProvider, http: aiohttp.ClientSession, tmp_path: Path
) -> None:
    """Servers send clients to look for new replicas; calls in flight and streams do not notice."""
    provider.behaviours["fake-weak"] = gated_stream()
    young = {"max_connection_age_seconds": 0.1}
    scorer = await services.start("scorer", {**SCORER, **young})
    path = tmp_path / "models.yaml"
    path.write_text(yaml.safe_dump(models_of(provider.url)))
    upstream = await services.start("upstream", {"models_file": str(path), **young})
    gateway = await services.start(
        "gateway", PATIENT, **addresses(scorer.announcement.address, upstream)
    )
    body = {**hello("weak"), "stream": True}
    async with http.post(chat_url(gateway), json=body) as response:
        await response.content.readuntil(b"\n\n")
        async with load(http, gateway) as answers:
            await more(answers, 500)
        provider.release.set()
        assert (await response.read()).endswith(b"data: [DONE]\n\n")
    assert set(answers) == {(200, None)}


Answers = list[tuple[int, str | None]]


@asynccontextmanager
async def load(http: aiohttp.ClientSession, gateway: Process) -> AsyncIterator[Answers]:
    """Yields the answers, status and fallback, to eight clients that ask until the context ends."""
    answers: Answers = []
    over = asyncio.Event()

    async def client() -> None:
        while not over.is_set():
            async with http.post(chat_url(gateway), json=hello("router-random-0")) as response:
                await response.read()
                answers.append((response.status, response.headers.get("x-pointsman-fallback")))

    async with asyncio.TaskGroup() as clients:
        for _ in range(8):
            clients.create_task(client())
        try:
            yield answers
        finally:
            over.set()


async def more(answers: Answers, count: int) -> None:
    """Returns once there are so many more answers."""
    wanted = len(answers) + count
    while len(answers) < wanted:
        await asyncio.to_thread(lambda: None)


async def both_are_asked(http: aiohttp.ClientSession, scorers: list[Process]) -> None:
    """Returns once each scorer has scored more than it had."""
    before = [await scored(http, scorer) for scorer in scorers]
    for scorer, count in zip(scorers, before, strict=True):
        while await scored(http, scorer) <= count:
            pass


async def scored(http: aiohttp.ClientSession, scorer: Process) -> float:
    """Returns how many prompts a scorer has scored since it was started."""
    series = 'pointsman_scorer_requests_total{outcome="ok",router="random"}'
    async with http.get(f"http://{scorer.announcement.metrics}/metrics") as response:
        lines = (await response.text()).splitlines()
    return next((float(line.split()[-1]) for line in lines if line.startswith(series)), 0.0)


def addresses(scorer: str, upstream: Process) -> dict[str, str]:
    """Returns the variables that tell a gateway where the others are."""
    return {
        "POINTSMAN_SCORER_ADDRESS": scorer,
        "POINTSMAN_UPSTREAM_ADDRESS": upstream.announcement.address,
    }


def chat_url(gateway: Process) -> str:
    """Returns where a gateway takes chat requests."""
    return f"http://{gateway.announcement.address}/v1/chat/completions"


def hello(model: str) -> dict[str, Any]:
    """Returns a chat request."""
    return {"model": model, "messages": [{"role": "user", "content": "Hello!"}]}
