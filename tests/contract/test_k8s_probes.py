"""The real services with the variables and files of their pods, asked as kubelet would ask."""

import asyncio
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from pointsman.chassis.mesh import TOKEN_KEY
from pointsman.scorer.v1 import scorer_pb2, scorer_pb2_grpc
from services.process import Process
from tests.conftest import missing
from tests.contract.k8s_objects import Object, container, kind, overlay, probes
from tests.contract.k8s_overlays import HANDMADE, KEY
from tests.contract.k8s_settings import Handmade, environ

pytestmark = pytest.mark.integration

ORDER = ("demo-provider", "scorer", "upstream", "gateway")
ROUTED = {"model": "router-mf-0.5", "messages": [{"role": "user", "content": "Hello!"}]}
SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING
SCORER = "pointsman.scorer.v1.ScorerService"


@asynccontextmanager
async def pods(
    objects: list[Object], folder: Path, handmade: Handmade = HANDMADE
) -> AsyncIterator[dict[str, Process]]:
    """Yields a process for each Deployment; only ports and addresses are not its pod's."""
    there = {one["metadata"]["name"] for one in kind(objects, "Deployment")}
    inherited = {key: value for key, value in os.environ.items() if "POINTSMAN" not in key}
    addresses: dict[str, str] = {}
    running: dict[str, Process] = {}
    with (folder / "log").open("w") as log:
        try:
            for name in (name for name in ORDER if name in there):
                service = name.replace("-", "_")
                prefix = f"POINTSMAN_{service.removesuffix('_provider').upper()}"
                ports = {f"{prefix}_PORT": "0", f"{prefix}_METRICS_PORT": "0"}
                own = environ(objects, name, folder / name, handmade)
                variables = inherited | own | ports | addresses
                running[name] = Process(service, variables, log.fileno())
                at = (await running[name].start()).address
                addresses[f"{prefix}_ADDRESS"] = at
                if name == "demo-provider":
                    addresses["POINTSMAN_DEMO_PROVIDER_URL"] = f"http://{at}/v1"
            yield running
        finally:
            for process in reversed(running.values()):
                process.signal(signal.SIGKILL)
                await process.wait()


async def passes(process: Process, probe: Object) -> bool:
    """Returns what kubelet would make of a probe."""
    at = process.announcement.address
    if "httpGet" in probe:
        url = f"http://{at}{probe['httpGet']['path']}"
        async with aiohttp.ClientSession() as http, http.get(url) as response:
            return 200 <= response.status < 400
    if "grpc" in probe:
        async with grpc.aio.insecure_channel(at) as channel:
            asked = health_pb2.HealthCheckRequest(service=probe["grpc"].get("service", ""))
            answer = await health_pb2_grpc.HealthStub(channel).Check(asked)
            return bool(answer.status == SERVING)
    python, *arguments = probe["exec"]["command"]
    assert python == "python"
    port = {f"POINTSMAN_{process.service.upper()}_PORT": at.rpartition(":")[2]}
    asking = await asyncio.create_subprocess_exec(
        sys.executable, *arguments, env={**process.environ, **port}
    )
    return await asking.wait() == 0


@pytest.fixture
def tls(tmp_path: Path) -> Mapping[str, Mapping[str, str]]:
    """The Secrets of the mtls component, as docs/kubernetes.md describes them."""
    if shutil.which("openssl") is None:
        missing("openssl", "install it to try mutual TLS")
    new = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"]
    new += ["-nodes", "-days", "2"]
    folder = tmp_path / "authority"
    folder.mkdir()
    for arguments in (
        ["-keyout", "ca.key", "-out", "ca.crt", "-subj", "/CN=authority"],
        *(
            [
                *("-keyout", f"{name}.key", "-out", f"{name}.crt", "-subj", f"/CN={name}"),
                *("-CA", "ca.crt", "-CAkey", "ca.key"),
                # In a cluster the gateway asks for the service's name and not for an address.
                *("-addext", f"subjectAltName=DNS:{name},DNS:localhost,IP:127.0.0.1"),
            ]
            for name in ("gateway", "scorer", "upstream")
        ),
    ):
        subprocess.run([*new, *arguments], cwd=folder, check=True, capture_output=True)
    return {
        f"pointsman-{name}-tls": {
            "tls.crt": (folder / f"{name}.crt").read_text(),
            "tls.key": (folder / f"{name}.key").read_text(),
            "ca.crt": (folder / "ca.crt").read_text(),
        }
        for name in ("gateway", "scorer", "upstream")
    }


async def test_development_answers_and_every_probe_passes(tmp_path: Path) -> None:
    """One command after the images, there is something to look at."""
    objects = overlay("dev")
    async with pods(objects, tmp_path) as running, aiohttp.ClientSession() as http:
        for name, process in running.items():
            for what, probe in probes(container(objects, name)):
                assert await passes(process, probe), (name, what)
        url = f"http://{running['gateway'].announcement.address}/v1/chat/completions"
        async with http.post(url, json=ROUTED) as response:
            assert (response.status, response.headers["x-pointsman-router"]) == (200, "mf")


@pytest.mark.parametrize("name", ["prod", "prod with mtls"])
async def test_production_starts_without_a_provider_and_asks_for_a_key(
    tmp_path: Path, tls: Mapping[str, Mapping[str, str]], name: str
) -> None:
    """Probes need no key and no provider; callers need one, whatever else is amiss."""
    objects = overlay(name)
    async with (
        pods(objects, tmp_path, {**HANDMADE, **tls}) as running,
        aiohttp.ClientSession() as http,
    ):
        for one, process in running.items():
            for what, probe in probes(container(objects, one)):
                assert await passes(process, probe), (one, what)
        url = f"http://{running['gateway'].announcement.address}/v1/models"
        async with http.get(url) as refused:
            assert refused.status == 401
        async with http.get(url, headers={"authorization": f"Bearer {KEY}"}) as response:
            assert response.status == 200
            listed = {model["id"] for model in (await response.json())["data"]}
            assert {"strong", "weak"} <= listed


async def test_readiness_falls_first_and_liveness_stays(tmp_path: Path) -> None:
    """A gateway on its way out is sent nothing new, and nobody restarts it for that."""
    objects = overlay("dev")
    asked = dict(probes(container(objects, "gateway")))
    async with pods(objects, tmp_path) as running, aiohttp.ClientSession() as http:
        gateway = running["gateway"]
        gateway.signal(signal.SIGTERM)
        while await passes(gateway, asked["readinessProbe"]):
            pass
        assert await passes(gateway, asked["livenessProbe"])
        url = f"http://{gateway.announcement.address}/v1/chat/completions"
        async with http.post(url, json=ROUTED) as response:
            assert response.status == 200


async def test_a_scorer_on_its_way_out_still_scores(tmp_path: Path) -> None:
    """Until DNS has forgotten it, gateways may call it, and every call gets its win rate."""
    objects = overlay("dev")
    variables = environ(objects, "scorer", tmp_path / "token", HANDMADE)
    token = ((TOKEN_KEY, variables["POINTSMAN_MESH_TOKEN"]),)
    async with (
        pods(objects, tmp_path) as running,
        grpc.aio.insecure_channel(running["scorer"].announcement.address) as channel,
    ):
        asked = health_pb2.HealthCheckRequest(service=SCORER)
        watch = health_pb2_grpc.HealthStub(channel).Watch(asked)
        assert (await watch.read()).status == SERVING
        running["scorer"].signal(signal.SIGTERM)
        assert (await watch.read()).status == NOT_SERVING
        request = scorer_pb2.ScoreRequest(router="mf", prompt="Hello!")
        answer = await scorer_pb2_grpc.ScorerServiceStub(channel).Score(request, metadata=token)
        assert 0 < answer.strong_win_rate < 1
        watch.cancel()
