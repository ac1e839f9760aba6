"""The command as a whole: exit statuses, pipes that break, and a quick start."""

import os
import signal
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest

from pointsman.routers.registry import router_names

COMMAND = (sys.executable, "-m", "pointsman.cli.main")
HEAVY = ("numpy", "onnxruntime", "tokenizers", "grpc", "openai", "matplotlib", "scipy", "aiohttp")


def pointsman(*arguments: str, stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    """Runs the command to its end."""
    return subprocess.run([*COMMAND, *arguments], input=stdin, capture_output=True, check=False)


def test_help_lists_the_commands_and_is_a_success() -> None:
    """What a newcomer types first."""
    told = pointsman("--help")
    assert (told.returncode, told.stderr) == (0, b"")
    for command in (
        "serve",
        "keys",
        "route",
        "score",
        "calibrate",
        "evaluate",
        "report",
        "data",
        "train",
        "import",
    ):
        assert f"\n    {command}".encode() in told.stdout


@pytest.mark.parametrize("command", ["serve", "route", "score"])
def test_every_command_has_examples(command: str) -> None:
    """They come with its help."""
    told = pointsman(command, "--help")
    assert told.returncode == 0
    assert f"examples:\n  pointsman {command}".encode() in told.stdout


def test_the_version_is_the_package_s() -> None:
    """One version, told by pip and by the command."""
    assert pointsman("--version").stdout.decode() == f"pointsman {version('pointsman')}\n"


def test_nothing_heavy_is_imported_before_it_is_needed() -> None:
    """`--help` and a typing mistake answer at once."""
    code = f"import pointsman.cli.main, sys; print(sorted(set({HEAVY}) & set(sys.modules)))"
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)
    assert told.stdout == b"[]\n"


@pytest.mark.parametrize(
    "arguments", [(), ("nonsense",), ("route",), ("route", "x", "--threshold", "2")]
)
def test_a_wrong_command_line_is_2_with_the_usage(arguments: tuple[str, ...]) -> None:
    """As every command does it; nothing on standard output."""
    told = pointsman(*arguments)
    assert (told.returncode, told.stdout) == (2, b"")
    assert told.stderr.startswith(b"usage: pointsman")


def test_an_error_is_1_with_one_line() -> None:
    """No traceback for what the user can mend."""
    told = pointsman("route", "x", "--router", "nope")
    assert (told.returncode, told.stdout) == (1, b"")
    known = ", ".join(router_names())
    assert told.stderr.decode() == f"pointsman: no router is called `nope`; there are: {known}\n"


def test_a_reader_that_has_enough_is_141_without_a_word() -> None:
    """`pointsman score ... | head -1` in a real pipe, with more to come."""
    child = subprocess.Popen(
        [*COMMAND, "score", "--router", "random"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert child.stdin is not None
    assert child.stdout is not None
    assert child.stderr is not None
    rows = b'{"prompt": "Hello!"}\n' * 1000
    with child, child.stdin, child.stderr:
        with child.stdout:
            child.stdin.write(rows)
            child.stdin.flush()
            assert child.stdout.readline().startswith(b'{"prompt":"Hello!"')
        try:
            while True:  # until it has noticed
                child.stdin.write(rows)
        except BrokenPipeError:
            pass
        assert child.wait() == 141
        assert child.stderr.read() == b""


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="only Linux has a full device")
@pytest.mark.parametrize(
    ("command", "said"),
    [("route", b"pointsman: [Errno 28] "), ("score", b"pointsman: standard output: cannot be ")],
)
def test_a_full_disk_is_1_with_one_line(command: str, said: bytes) -> None:
    """Whoever redirects the output learns that it is not there."""
    arguments = ["route", "x"] if command == "route" else ["score"]
    with Path("/dev/full").open("wb") as full:
        told = subprocess.run(
            [*COMMAND, *arguments, "--router", "random"],
            input=b'{"prompt": "Hello!"}\n',
            stdout=full,
            stderr=subprocess.PIPE,
            check=False,
        )
    assert told.returncode == 1
    assert told.stderr.startswith(said)
    assert told.stderr.count(b"\n") == 1


def test_help_into_a_broken_pipe_is_quiet_too() -> None:
    """Python's own complaint at the last flush is nobody's concern."""
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "wb") as broken:
        told = subprocess.run(
            [*COMMAND, "--help"],
            stdout=broken,
            stderr=subprocess.PIPE,
            check=False,
            env={**os.environ, "PYTHONUNBUFFERED": ""},
        )
    assert (told.returncode, told.stderr) == (141, b"")


def test_ctrl_c_is_130_and_leaves_no_file(tmp_path: Path) -> None:
    """While rows still come: no output, no half of one, no traceback."""
    child = subprocess.Popen(
        [*COMMAND, "score", "--router", "random", "--output", str(tmp_path / "out.jsonl")],
        stdin=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert child.stdin is not None
    assert child.stderr is not None
    with child, child.stderr, child.stdin:
        # More than a pipe holds: once it is written, the command is reading.
        child.stdin.write(b'{"prompt": "Hello!"}\n' * 50_000)
        child.stdin.flush()
        child.send_signal(signal.SIGINT)
        assert child.wait() == 130
        assert child.stderr.read() == b""
    assert list(tmp_path.iterdir()) == []
