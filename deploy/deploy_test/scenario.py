"""What is proved, step by step; each step returns in words what it saw, or raises `Failed`."""

import hashlib
import json
import os
import secrets
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

from deploy.deploy_test import shell
from deploy.deploy_test.load import ask, get_json, under_load
from deploy.deploy_test.shell import ROOT, Failed
from deploy.deploy_test.stack import OWN, Stack, images, python_image, readme_curl, size_bytes

GATEWAY = f"http://127.0.0.1:{os.environ.get('GATEWAY_PORT', '6060')}"
PROMETHEUS = f"http://127.0.0.1:{os.environ.get('PROMETHEUS_PORT', '9090')}"
GRAFANA = f"http://127.0.0.1:{os.environ.get('GRAFANA_PORT', '3000')}"
_JOBS = {"pointsman-gateway", "pointsman-scorer", "pointsman-upstream"}
_MEGABYTES_ON_BASE = {"gateway": 150, "upstream": 150, "demo-provider": 150, "scorer": 350}
_PATIENCE_SECONDS = 180.0

Seen = TypeVar("Seen")


class Report:
    """Steps as they end, a line each."""

    def __init__(self) -> None:
        self.failures = 0
        """How many steps failed."""
        self._started = time.monotonic()

    @property
    def seconds(self) -> float:
        """How long it has taken so far."""
        return time.monotonic() - self._started

    def step(self, name: str, action: Callable[[], str]) -> bool:
        """Does it, prints how it went, and returns whether it went well."""
        started = time.monotonic()
        try:
            seen, well = action(), True
        except (Failed, OSError) as error:
            seen, well = str(error), False
            self.failures += 1
        seconds = time.monotonic() - started
        print(f"{'ok  ' if well else 'FAIL'} {seconds:6.1f} s  {name}: {seen}", flush=True)
        return well

    def skip(self, name: str, reason: str) -> None:
        """Says what is not proved here, and why."""
        print(f"skip           {name}: {reason}", flush=True)


def play(report: Report, stack: Stack) -> None:
    """Builds, starts, asks, scales, breaks and stops the project."""
    try:
        if report.step("images are built", lambda: _build(stack)) and report.step(
            "`docker compose up --wait`", lambda: _up(stack)
        ):
            _play_running(report, stack)
    finally:
        report.step("`docker compose down` leaves nothing", lambda: _down(stack))


def _play_running(report: Report, stack: Stack) -> None:
    report.step("images are small", lambda: _sizes(stack))
    report.step("containers are contained", lambda: _contained(stack))
    report.step("the README's curl", _curl)
    report.step("requests, streamed and not", _requests)
    report.step("scorer and upstream are published nowhere", lambda: _unpublished(stack))
    report.step("without the mesh's token nobody is answered", lambda: _closed(stack))
    watched: dict[str, list[tuple[str, Callable[[], str]]]] = {
        "grafana": [("Grafana has the dashboards", _grafana)],
        "prometheus": [
            ("Prometheus has every target", lambda: _eventually(_targets)),
            ("every panel has data", _panels),
        ],
    }
    for service, steps in watched.items():
        for name, action in steps:
            if service in stack.services:
                report.step(name, action)
            else:
                report.skip(name, f"no image of {service} can be fetched, and nothing stands in")
    report.step("`--scale scorer=2` spreads", lambda: _scale(stack))
    report.step("a scorer is killed under load", lambda: _kill_scorer(stack))
    report.step("the upstream restarts under load", lambda: _restart(stack, "upstream"))
    report.step("an env file brings models and keys", lambda: _env_file(stack))


def _build(stack: Stack) -> str:
    stack.run("build", *OWN)
    return ", ".join(images(stack.compose)[name] for name in OWN)


def _up(stack: Stack) -> str:
    stack.up()
    return f"{', '.join(stack.services)} are healthy"


def _down(stack: Stack) -> str:
    stack.down()
    return "no container, network or volume"


def _sizes(stack: Stack) -> str:
    names, base = images(stack.compose), size_bytes(python_image())
    sizes = {name: (size_bytes(names[name]) - base) / 1e6 for name in OWN}
    told = ", ".join(f"{name} {size:.0f}" for name, size in sizes.items())
    if any(sizes[name] > limit for name, limit in _MEGABYTES_ON_BASE.items()):
        raise Failed(f"{told} MB on top of the base; allowed are {_MEGABYTES_ON_BASE}")
    return f"{told} MB on top of the base ({base / 1e6:.0f})"


def _contained(stack: Stack) -> str:
    for service in OWN:
        for container in stack.containers(service):
            (found,) = json.loads(shell.run("docker", "inspect", container))
            host = found["HostConfig"]
            held = (
                host["Memory"] and host["NanoCpus"] and host["PidsLimit"] and host["ReadonlyRootfs"]
            )
            if not held or host["CapDrop"] != ["ALL"] or found["Config"]["User"] != "10001:10001":
                raise Failed(f"{service}: {host}")
            if shell.succeeds("docker", "exec", container, "touch", "/app/x"):
                raise Failed(f"{service}: its files can be changed")
    return "limits, no capability, user 10001, files that cannot be changed"


def _curl() -> str:
    command = readme_curl().replace("http://127.0.0.1:6060", GATEWAY)
    answer = shell.run("sh", "-c", command)
    head, _, body = answer.replace("\r", "").partition("\n\n")
    if " 200 " not in head or "x-pointsman-decision: strong" not in head:
        raise Failed(answer)
    return str(json.loads(body)["choices"][0]["message"]["content"][:60]) + "..."


def _requests() -> str:
    models = {
        (stream, prompt): ask(GATEWAY, prompt, stream=stream)
        for stream in (False, True)
        for prompt in ("What is the capital of France?", "Prove that there is no largest prime.")
    }
    if sorted(models.values()) != ["strong", "strong", "weak", "weak"]:
        raise Failed(f"expected an easy prompt to go to weak and a hard one to strong: {models}")
    return "an easy prompt goes to weak, a hard one to strong, both ways"


def _unpublished(stack: Stack) -> str:
    for service in ("scorer", "upstream", "demo-provider"):
        for container in stack.containers(service):
            if ports := shell.run("docker", "port", container):
                raise Failed(f"{service}: {ports}")
    return "no port"


def _closed(stack: Stack) -> str:
    (gateway,) = stack.containers("gateway")
    told = []
    for service, port, package in (("scorer", 50051, "Scorer"), ("upstream", 50052, "Upstream")):
        method = "ListRouters" if package == "Scorer" else "ListModels"
        call = (
            "import grpc\n"
            f"call = grpc.insecure_channel('{service}:{port}').unary_unary("
            f"'/pointsman.{service}.v1.{package}Service/{method}')\n"
            "try: call(b'', timeout=10)\n"
            "except grpc.RpcError as error: print(error.code().name)\n"
        )
        told.append(shell.run("docker", "exec", gateway, "python", "-c", call).strip())
    if told != ["UNAUTHENTICATED", "UNAUTHENTICATED"]:
        raise Failed(f"scorer and upstream said {told}")
    return "UNAUTHENTICATED from both"


def _grafana() -> str:
    found = get_json(f"{GRAFANA}/api/search?type=dash-db")
    files = list((ROOT / "deploy" / "grafana" / "dashboards").glob("*.json"))
    if len(found) != len(files):
        raise Failed(f"{len(found)} of {len(files)}: {found}")
    return ", ".join(sorted(dashboard["title"] for dashboard in found))


def _targets() -> str:
    active = get_json(f"{PROMETHEUS}/api/v1/targets")["data"]["activeTargets"]
    jobs = {target["labels"]["job"] for target in active}
    down = [target["lastError"] for target in active if target["health"] != "up"]
    if not jobs >= _JOBS or down:
        raise Failed(f"{sorted(jobs)}, {down}")
    return f"{len(active)}, all up"


def _panels() -> str:
    check = ("deploy/grafana/check_panels.py", "--prometheus", PROMETHEUS)
    with under_load(GATEWAY):
        lines = _eventually(lambda: shell.run(sys.executable, *check)).splitlines()
    return f"{sum(line.startswith('ok') for line in lines)} panels"


def _scale(stack: Stack) -> str:
    stack.up("--scale", "scorer=2")
    counts = _scorer_requests(stack)

    def spread() -> str:
        nonlocal counts
        before, counts = counts, _scorer_requests(stack)
        made = [counts[each] - before.get(each, 0) for each in counts]
        if len(made) != 2 or min(made) < 0.4 * sum(made):
            raise Failed(f"requests by scorer in two seconds: {made}")
        return " and ".join(f"{count:.0f}" for count in made)

    started = time.monotonic()
    with under_load(GATEWAY) as load:
        seen = _eventually(spread)
    return f"{seen} requests, {time.monotonic() - started:.0f} s later; {load.told()}"


def _scorer_requests(stack: Stack) -> dict[str, float]:
    name = "pointsman_scorer_requests_total"
    return {each: stack.metric(each, 9101, name) for each in stack.containers("scorer")}


def _kill_scorer(stack: Stack) -> str:
    victim, *_ = stack.containers("scorer")
    with under_load(GATEWAY) as load:
        shell.run("docker", "kill", victim)
    told = load.told()
    stack.up("--scale", "scorer=2")
    return told


def _restart(stack: Stack, service: str) -> str:
    with under_load(GATEWAY) as load:
        stack.run("restart", service)
    return load.told()


def _env_file(stack: Stack) -> str:
    key = f"pmk_{secrets.token_urlsafe(32)}"
    digest = hashlib.sha256(key.encode()).hexdigest()
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        folder.chmod(0o755)  # the services are somebody else
        (folder / "keys.yaml").write_text(f"keys: {{me: {{sha256: {digest}}}}}\n")
        (folder / "models.yaml").write_text(
            "providers: {mine: {base_url: 'http://demo-provider:6061/v1'}}\n"
            "models:\n"
            "  big: {provider: mine, model: demo-strong}\n"
            "  small: {provider: mine, model: demo-weak}\n"
        )
        (folder / "env").write_text(
            f"MODELS_FILE={folder}/models.yaml\nKEYS_FILE={folder}/keys.yaml\n"
            "POINTSMAN_STRONG_MODEL=big\nPOINTSMAN_WEAK_MODEL=small\n"
        )
        replace(stack, env_file=str(folder / "env")).up()
        prompt = "What is the capital of France?"
        if (model := ask(GATEWAY, prompt, stream=False, key=key)) != "small":
            raise Failed(f"{model} answered instead of small")
        try:
            ask(GATEWAY, prompt, stream=False)
        except Failed as error:
            if not str(error).startswith("status 401"):
                raise
        else:
            raise Failed("a request without a key was answered")
    return "with a key the file's weak model answers, without one 401"


def _eventually(look: Callable[[], Seen]) -> Seen:
    """Returns what is seen as soon as it is as it should be."""
    deadline = time.monotonic() + _PATIENCE_SECONDS
    while True:
        try:
            return look()
        except (Failed, OSError):
            if time.monotonic() > deadline:
                raise
            time.sleep(2)
