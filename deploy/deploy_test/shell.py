"""Commands of the machine, and what is said when one is missing or fails."""

import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

ROOT = Path(__file__).parents[2]
_TAIL_LINES = 30


class Missing(Exception):
    """The machine has not got what the test needs; the message names it and the remedy."""


class Failed(Exception):
    """Something did not turn out as it should; the message says what."""


def need(program: str, remedy: str) -> None:
    """Returns if the program is on the PATH.

    Raises:
        Missing: It is not; `remedy` follows its name.
    """
    if shutil.which(program) is None:
        raise Missing(f"{program} is not installed; {remedy}")


def run(
    *command: str | Path,
    cwd: Path = ROOT,
    environ: Mapping[str, str] | None = None,
    stdin: int | None = subprocess.DEVNULL,
) -> str:
    """Returns what the command printed on standard output.

    Raises:
        Failed: Its status is not 0; has the end of what it printed.
    """
    words = [str(word) for word in command]
    done = subprocess.run(
        words, cwd=cwd, env=environ, stdin=stdin, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise Failed(f"`{' '.join(words)}`: status {done.returncode}\n{_tail(done)}")
    return done.stdout


def succeeds(*command: str | Path) -> bool:
    """Returns whether the command is there and ends with status 0."""
    words = [str(word) for word in command]
    try:
        return not subprocess.run(words, cwd=ROOT, capture_output=True, check=False).returncode
    except FileNotFoundError:
        return False


def lines(*command: str | Path) -> Sequence[str]:
    """Returns the lines that the command printed.

    Raises:
        Failed: Its status is not 0.
    """
    return run(*command).split("\n")[:-1]


def _tail(done: "subprocess.CompletedProcess[str]") -> str:
    return "\n".join((done.stdout + done.stderr).splitlines()[-_TAIL_LINES:])
