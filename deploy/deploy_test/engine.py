"""A docker engine of our own, in namespaces that take everything it made away with them.

Its network, its mounts and its processes are seen by nobody else: when the first process of the
process namespace ends, however it ends, the kernel ends the others, and network and mounts go with
the last of them. Files and control groups stay, and are removed by name.
"""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from deploy.deploy_test.shell import ROOT, Failed, lines, run, succeeds
from deploy.deploy_test.supplies import Supplies

_CGROUP = "pointsman-deploy-test"
_START_SECONDS = 30.0
_STOP_SECONDS = 60.0


def in_namespaces(*arguments: str) -> int:
    """Runs this package again in namespaces of its own; returns its exit status.

    The working folder of the engine and its control groups are gone when it returns.
    """
    namespaces = ("--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc")
    command = ["unshare", *namespaces, sys.executable, "-m", "deploy.deploy_test", *arguments]
    child = subprocess.Popen(command, cwd=ROOT)
    try:
        try:
            return child.wait()
        except KeyboardInterrupt:  # a terminal's, which it has heard too
            with suppress(subprocess.TimeoutExpired):
                child.wait(_STOP_SECONDS)
            raise
    finally:
        child.kill()
        child.wait()
        _remove_control_groups()


@contextmanager
def own_engine(folder: Path) -> Iterator[None]:
    """Starts an engine whose files are in `folder`; the docker client finds it by DOCKER_HOST.

    Raises:
        Failed: It does not answer; names its log.
    """
    run("ip", "link", "set", "lo", "up")
    socket = folder / "docker.sock"
    with (folder / "dockerd.log").open("wb") as log:
        engine = subprocess.Popen(
            [
                *("dockerd", "--data-root", folder / "data", "--exec-root", folder / "exec"),
                *("--pidfile", folder / "docker.pid", "--host", f"unix://{socket}"),
                *("--group", "root", "--cgroup-parent", _CGROUP),
            ],
            stdout=log,
            stderr=log,
            start_new_session=True,  # a terminal's Ctrl-C is for us: what runs is stopped in order
        )
    os.environ["DOCKER_HOST"] = f"unix://{socket}"
    try:
        deadline = time.monotonic() + _START_SECONDS
        while not succeeds("docker", "version"):
            if engine.poll() is not None or time.monotonic() > deadline:
                raise Failed(f"dockerd does not answer:\n{_end_of(folder / 'dockerd.log')}")
            time.sleep(0.2)
        yield
    finally:
        engine.terminate()
        try:
            engine.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            engine.kill()


def load_stand_ins(supplies: Supplies, folder: Path, *, python: str, prometheus: str) -> str:
    """Puts the stand-ins into the engine under the names of the real images; returns these."""
    run("docker", "import", supplies.base, "pointsman-deploy-test-base")
    _build(
        folder / "python",
        python,
        'COPY . /wheels\nENV PIP_NO_INDEX=1 PIP_FIND_LINKS=/wheels\nCMD ["python3"]\n',
        supplies.wheels,
    )
    _build(
        folder / "prometheus",
        prometheus,
        "RUN install -d -o 65534 -g 65534 /prometheus\nUSER 65534:65534\n"
        'ENTRYPOINT ["/usr/bin/prometheus"]\n',
    )
    return f"{python}, {prometheus}"


def traces() -> dict[str, frozenset[str]]:
    """Returns what an engine could leave on this machine, by kind."""
    return {
        "firewall rules": frozenset(_rules()),
        "network interfaces": frozenset(path.name for path in Path("/sys/class/net").iterdir()),
        "mounts": frozenset(Path("/proc/mounts").read_text(encoding="utf-8").splitlines()),
        "control groups": frozenset(
            str(path) for path in Path("/sys/fs/cgroup").glob("**/") if _CGROUP in path.name
        ),
        "processes": frozenset(_engine_processes()),
    }


def _remove_control_groups() -> None:
    """Removes them once the last process has left: the kernel has killed it, but takes its time."""
    deadline = time.monotonic() + _STOP_SECONDS
    for folder in sorted(Path("/sys/fs/cgroup").glob(f"**/{_CGROUP}/**/"), reverse=True):
        while True:
            try:
                folder.rmdir()
                break
            except OSError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.1)


def _rules() -> Iterator[str]:
    for table in ("filter", "nat", "mangle"):
        for rule in lines("iptables", "-t", table, "-S"):
            yield f"{table} {rule}"


def _engine_processes() -> Iterator[str]:
    for path in Path("/proc").glob("[0-9]*/comm"):
        try:
            name = path.read_text(encoding="utf-8").strip()
        except (FileNotFoundError, ProcessLookupError):  # it has ended
            continue
        if name.startswith(("dockerd", "containerd", "docker-proxy")):
            yield f"{path.parent.name} {name}"


def _build(folder: Path, image: str, steps: str, context: Path | None = None) -> None:
    folder.mkdir()
    recipe = folder / "Dockerfile"
    recipe.write_text(f"FROM pointsman-deploy-test-base\n{steps}")
    run("docker", "build", "--quiet", "--tag", image, "--file", recipe, context or folder)


def _end_of(log: Path) -> str:
    return "\n".join(log.read_text(encoding="utf-8", errors="replace").splitlines()[-10:])
