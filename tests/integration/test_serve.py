"""`pointsman serve` as its users start it: real processes, real signals, nothing left behind."""

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import aiohttp
import openai
import pytest

from services.process import Process
from tests.fakes.provider import FakeProvider, gated_stream

pytestmark = pytest.mark.integration

COMMAND = (sys.executable, "-m", "pointsman.cli.main", "serve")
ANY_PORTS = {
    f"POINTSMAN_{name}_PORT": "0"
    for name in (
        *("GATEWAY", "GATEWAY_METRICS", "SCORER", "SCORER_METRICS", "UPSTREAM"),
        *("UPSTREAM_METRICS", "DEMO"),
    )
}
ROUTELLM = """
mf:
  checkpoint_path: routellm/mf_gpt4_augmented
  strong_model: gpt-4-1106-preview
  weak_model: mixtral-8x7b-instruct-v0.1
bert: {checkpoint_path: routellm/bert_gpt4_augmented}
random:
"""
HARD = "Prove that there are infinitely many primes congruent to 3 modulo 4."


class Served:
    """A running `pointsman serve` and what it has said.

    Attributes:
        child: The command itself.
        banner: Its output until it was up.
        url: The gateway's.
    """

    def __init__(self, child: asyncio.subprocess.Process, banner: str) -> None:
        self.child = child
        self.banner = banner
        words = banner.split()
        self.url = next(word for word in words if word.startswith("http://")).removesuffix("/v1")

    async def rest(self) -> bytes:
        """Returns what else is said, once every process of the cluster has let go of the pipe."""
        assert self.child.stdout is not None
        return await self.child.stdout.read()


@asynccontextmanager
async def served(
    folder: Path, *arguments: str, environ: Mapping[str, str] | None = None
) -> AsyncIterator[Served]:
    """Starts the command where nothing is but a folder that looks like ours; ends it afterwards."""
    (folder / "services").mkdir()
    (folder / "services" / "__init__.py").write_text("raise SystemExit('not these services')\n")
    temporary = folder / "tmp"
    temporary.mkdir()
    root = Path(__file__).parents[2]
    child = await asyncio.create_subprocess_exec(
        *(*COMMAND, *arguments),
        env={
            "PATH": os.environ["PATH"],
            "PYTHONPATH": str(root),
            "TMPDIR": str(temporary),
            **ANY_PORTS,
            **(environ or {}),
        },
        cwd=folder / "tmp",
        stdout=asyncio.subprocess.PIPE,
    )
    assert child.stdout is not None
    try:
        banner = (await child.stdout.readuntil(b"stops everything.\n")).decode()
        running = Served(child, banner)
        yield running
    finally:
        with suppress(ProcessLookupError):
            child.terminate()
        await child.wait()
        await child.stdout.read()


async def test_routellms_command_line_serves_a_routed_request(tmp_path: Path) -> None:
    """Its flags, its file and its model names, with the official client and one OpenAI server."""
    config = tmp_path / "config.example.yaml"
    config.write_text(ROUTELLM)
    async with FakeProvider() as provider:
        flags = ("--base-url", provider.url, "--api-key", "sk-secret", "--port", "0")
        pair = ("--strong-model", "openai/gpt-big", "--weak-model", "mistralai/Mix-Small")
        routers = ("--routers", "mf", "--config", str(config), "--workers", "1", "--verbose")
        async with served(tmp_path, *routers, *pair, *flags) as running:
            async with openai.AsyncOpenAI(
                base_url=f"{running.url}/v1", api_key="unused", max_retries=0
            ) as client:
                for bar, model in (("0", "gpt-big"), ("1", "mistralai/Mix-Small")):
                    answer = await client.chat.completions.create(
                        model=f"router-mf-{bar}", messages=[{"role": "user", "content": HARD}]
                    )
                    assert answer.model == model
                names = [model.id async for model in client.models.list()]
            assert names[:2] == ["openai/gpt-big", "mistralai/Mix-Small"]
            assert [call.headers["Authorization"] for call in provider.calls] == [
                "Bearer sk-secret"
            ] * 2
            assert "sk-secret" not in _everything_written(tmp_path)
            running.child.send_signal(signal.SIGINT)
            assert await running.child.wait() == 0
            log = (await running.rest()).decode()
    assert _left_in(tmp_path / "tmp") == []
    lines = [json.loads(line) for line in (running.banner + log).splitlines() if line[:1] == "{"]
    assert {"gateway", "scorer", "upstream"} <= {line["service"] for line in lines}
    assert HARD not in log
    assert "sk-secret" not in running.banner + log


def _left_in(folder: Path) -> list[Path]:
    """Returns what is left of our own; onnxruntime leaves a `.ses` of its own."""
    return list(folder.glob("pointsman*"))


def _everything_written(folder: Path) -> str:
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert {"scorer.yaml", "models.yaml"} <= {path.name for path in files}
    return "".join(path.read_text() for path in files)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
async def test_a_signal_before_anything_is_up_is_no_traceback(
    tmp_path: Path, number: signal.Signals
) -> None:
    """Ctrl-C while the cluster's Python is still starting: its status, and not a word."""
    started = tmp_path / "started"
    os.mkfifo(started)
    (tmp_path / "sitecustomize.py").write_text(
        "import os, signal\n"
        "if 'POINTSMAN_SUPERVISOR_FD' in os.environ:\n"
        f"    open({str(started)!r}, 'w').close()\n"
        "    signal.pause()\n"
    )
    child = await asyncio.create_subprocess_exec(
        *COMMAND,
        env={**os.environ, "PYTHONPATH": f"{tmp_path}{os.pathsep}{Path(__file__).parents[2]}"},
        stderr=asyncio.subprocess.PIPE,
    )
    await asyncio.to_thread(started.read_bytes)
    child.send_signal(number)
    _, told = await child.communicate()
    assert (child.returncode, told) == (128 + number, b"")


@pytest.fixture
def hangup_not_ignored() -> Iterator[None]:
    """A test run under nohup hands its deafness down to the processes it starts."""
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, before)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
async def test_one_signal_stops_everything(
    tmp_path: Path, number: signal.Signals, hangup_not_ignored: None
) -> None:
    """No options at all: the demo provider answers; then exit status 0, and no process or file."""
    async with served(tmp_path) as running:
        async with aiohttp.ClientSession() as http, http.get(f"{running.url}/readyz") as response:
            assert response.status == 200
        assert "demo provider" in running.banner
        running.child.send_signal(number)
        assert await running.child.wait() == 0
        await running.rest()
    assert _left_in(tmp_path / "tmp") == []


async def test_a_second_signal_hurries(tmp_path: Path) -> None:
    """Ctrl-C lets a stream finish, and a second Ctrl-C does not."""
    async with FakeProvider() as provider:
        provider.behaviours["big"] = gated_stream()
        pair = ("--strong-model", "big", "--weak-model", "small", "--base-url", provider.url)
        body = {"model": "big", "stream": True, "messages": [{"role": "user", "content": "x"}]}
        async with (
            served(tmp_path, *pair) as running,
            aiohttp.ClientSession() as http,
            http.post(f"{running.url}/v1/chat/completions", json=body) as response,
        ):
            await response.content.readuntil(b"\n\n")
            running.child.send_signal(signal.SIGINT)
            await _until_closed(running.url)
            assert running.child.returncode is None
            running.child.send_signal(signal.SIGINT)
            assert await running.child.wait() == 0
            await running.rest()


async def test_no_process_outlives_a_killed_serve(tmp_path: Path) -> None:
    """SIGKILL cannot be handed on; the cluster notices all the same."""
    async with served(tmp_path) as running:
        running.child.kill()
        assert await running.child.wait() == -signal.SIGKILL
        await running.rest()  # ends once the last of them is gone


async def test_the_cluster_tells_its_supervisor_where_it_is() -> None:
    """So that whoever starts it may leave every port to the kernel."""
    environ = {**ANY_PORTS, "POINTSMAN_LOG_LEVEL": "ERROR"}
    cluster = Process("all_in_one", environ, log=asyncio.subprocess.DEVNULL)
    try:
        announced = await cluster.start()
        async with (
            aiohttp.ClientSession() as http,
            http.get(f"http://{announced.address}/readyz") as response,
        ):
            assert response.status == 200
        assert announced.example_model.startswith("router-mf-")
    finally:
        assert await cluster.stop() == 0


async def test_a_cluster_that_does_not_start_is_no_success(tmp_path: Path) -> None:
    """The services' own line and status; nothing stays behind."""
    child = await asyncio.create_subprocess_exec(
        *COMMAND,
        env={
            "PATH": os.environ["PATH"],
            "PYTHONPATH": str(Path(__file__).parents[2]),
            "TMPDIR": str(tmp_path),
            **ANY_PORTS,
            "POINTSMAN_SCORER_WORKERS": "none",
        },
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, said = await child.communicate()
    assert (child.returncode, out) == (2, b"")
    (line,) = said.decode().splitlines()
    assert "POINTSMAN_SCORER_WORKERS=none" in line
    assert _left_in(tmp_path) == []


async def _until_closed(url: str) -> None:
    host, port = url.removeprefix("http://").split(":")
    while True:
        try:
            _, writer = await asyncio.open_connection(host, int(port))
        except ConnectionError:
            return
        writer.close()
