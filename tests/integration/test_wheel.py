"""The package as its users get it: a wheel in an empty environment, and no checkout near."""

import json
import os
import shutil
import signal
import subprocess
import sys
import zipfile
from collections.abc import Mapping
from pathlib import Path
from urllib.request import Request, urlopen

import pytest

from tests.conftest import missing

pytestmark = [pytest.mark.integration, pytest.mark.timeout(600)]

ROOT = Path(__file__).parents[2]
ANY_PORTS = {
    f"POINTSMAN_{name}_PORT": "0"
    for name in (
        *("GATEWAY", "GATEWAY_METRICS", "SCORER", "SCORER_METRICS", "UPSTREAM"),
        *("UPSTREAM_METRICS", "DEMO"),
    )
}


class Installed:
    """An environment that holds the package and what it asked for.

    Attributes:
        bin: Its programs.
        folder: An empty folder to stand in.
    """

    def __init__(self, prefix: Path, folder: Path) -> None:
        self.bin = prefix / "bin"
        self.folder = folder

    def environ(self) -> Mapping[str, str]:
        """Returns an environment without any trace of ours."""
        return {"PATH": f"{self.bin}:{os.environ['PATH']}", "HOME": str(self.folder), **ANY_PORTS}

    def run(self, *command: str, status: int = 0, stdin: str = "") -> str:
        """Runs one of its programs; returns its output."""
        program, *arguments = command
        done = subprocess.run(
            [self.bin / program, *arguments],
            input=stdin,
            capture_output=True,
            check=False,
            cwd=self.folder,
            env=self.environ(),
            text=True,
        )
        assert done.returncode == status, done.stderr
        return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel of this checkout, built from a copy so that nothing is left beside the source."""
    source, out = (tmp_path_factory.mktemp(name) for name in ("source", "wheel"))
    if shutil.which("git") is None or not (ROOT / ".git").exists():
        missing("a git checkout", "it says which files belong to the source")
    listed = subprocess.run(
        ["git", "ls-files", "-z", "-co", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        check=True,
    ).stdout
    for name in filter(None, listed.decode().split("\0")):
        if (ROOT / name).is_file():  # not deleted, nor a link to a folder
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, source / name)
    _pip(Path(sys.executable), "wheel", "--no-deps", "--wheel-dir", str(out), str(source))
    (built,) = out.glob("pointsman-*.whl")
    return built


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Installed:
    """The wheel with `[serve,eval]` in an environment of its own."""
    prefix, folder = (tmp_path_factory.mktemp(name) for name in ("venv", "user"))
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", prefix], check=True)
    _pip(prefix / "bin" / "python", "install", "--no-compile", f"{wheel}[serve,eval]")
    return Installed(prefix, folder)


def _pip(python: Path, *arguments: str) -> None:
    """Runs our pip for another interpreter; skips the test if the registry is out of reach."""
    done = subprocess.run(
        [
            *(sys.executable, "-m", "pip", "--python", python),
            *("--disable-pip-version-check", "--quiet"),
            *arguments,
        ],
        capture_output=True,
        check=False,
        text=True,
    )
    if "No matching distribution" in done.stderr or "ConnectionError" in done.stderr:
        missing("a package registry", done.stderr.strip().splitlines()[-1])
    assert done.returncode == 0, done.stderr


def test_wheel_holds_what_is_needed_and_nothing_else(wheel: Path) -> None:
    """The bundle, the example and the types are inside; tests and benchmarks are not."""
    names = zipfile.ZipFile(wheel).namelist()
    for wanted in (
        "pointsman/config.example.yaml",
        "pointsman/py.typed",
        "pointsman/bundles/mf/manifest.json",
        "pointsman/scorer/v1/scorer_pb2.pyi",
        "services/all_in_one.py",
        "services/gateway/__main__.py",
    ):
        assert wanted in names
    blobs = [name for name in names if name.startswith("pointsman/bundles/blobs/")]
    manifest = json.loads(zipfile.ZipFile(wheel).read("pointsman/bundles/mf/manifest.json"))
    assert {name.split("/")[-1].split(".")[0] for name in blobs} >= {
        entry["sha256"] for entry in manifest["files"].values()
    }
    tops = {name.split("/")[0] for name in names}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"pointsman", "services"}


def test_command_line_works_without_a_checkout(installed: Installed) -> None:
    """Help, scores, a threshold and a decision, with the router that came along."""
    assert "serve" in installed.run("pointsman", "--help")
    scores = installed.run("pointsman", "score", "--router", "mf", stdin='{"prompt":"Hello!"}\n')
    rate = json.loads(scores)["strong_win_rate"]
    routed = json.loads(installed.run("pointsman", "route", "Hello!", "--format", "json"))
    assert routed["strong_win_rate"] == rate
    calibrated = installed.run(
        *("pointsman", "calibrate", "--routers", "mf", "--strong-model-pct", "0.5"),
        *("--format", "json"),
    )
    assert str(routed["threshold"]) in calibrated


def test_example_of_the_package_is_a_configuration(installed: Installed) -> None:
    """Where an error message says that it is."""
    where = "from pointsman.routers.settings import EXAMPLE_CONFIG; print(EXAMPLE_CONFIG)"
    path = installed.run("python", "-c", where).strip()
    assert path.startswith(str(installed.bin.parent))
    installed.run("pointsman", "route", "Hello!", "--config", path)


def test_sdk_is_there_and_torch_is_not(installed: Installed) -> None:
    """Serving and evaluating need no gigabytes."""
    installed.run("python", "-c", "from pointsman import Controller")
    installed.run("python", "-c", "import torch", status=1)


def test_serve_answers_a_request(installed: Installed) -> None:
    """The whole cluster, from site-packages, on free ports; one signal ends it."""
    child = subprocess.Popen(
        [installed.bin / "pointsman", "serve", "--port", "0"],
        cwd=installed.folder,
        env=installed.environ(),
        stdout=subprocess.PIPE,
        text=True,
    )
    assert child.stdout is not None
    with child:
        try:
            banner = ""
            while "stops everything" not in banner:
                line = child.stdout.readline()
                assert line, banner
                banner += line
            url = next(word for word in banner.split() if word.startswith("http://"))
            body = {"model": "router-mf-p50", "messages": [{"role": "user", "content": "Hello!"}]}
            request = Request(f"{url}/chat/completions", json.dumps(body).encode())
            request.add_header("content-type", "application/json")
            with urlopen(request) as response:
                decision = response.headers["x-pointsman-decision"]
                assert json.load(response)["model"] == f"demo-{decision}"
        finally:
            child.send_signal(signal.SIGINT)
        assert child.wait() == 0
        child.stdout.read()  # ends once the last process has
