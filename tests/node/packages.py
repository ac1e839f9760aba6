"""What package-lock.json pins, installed into `build/` as soon as a test asks for it."""

import hashlib
import shutil
import subprocess
import tempfile
from functools import cache
from pathlib import Path

from tests.conftest import missing

HERE = Path(__file__).parent
BUILD = HERE.parents[1] / "build" / "node"
_FILES = ("package.json", "package-lock.json")


def installed() -> Path:
    """Returns a folder with `node_modules` in it, and skips the test, or fails it in CI, without.

    The folder is named after what is pinned: sessions share it, and nothing in it is ever stale.
    """
    for tool in ("node", "npm"):
        if shutil.which(tool) is None:
            missing(tool, "install Node.js 18 or newer")
    folder = BUILD / _digest()
    if not folder.is_dir() and (failure := _install(folder)):
        missing("what tests/node/package-lock.json pins", f"npm ci failed: {failure}")
    return folder


@cache
def _install(folder: Path) -> str:
    """Returns why the folder could not be filled; nothing if it could."""
    BUILD.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=BUILD) as parent:
        new = Path(parent, "new")
        new.mkdir()
        for name in _FILES:
            shutil.copy(HERE / name, new)
        ran = subprocess.run(
            # Nothing of what is installed runs before a test runs it.
            ["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"],
            cwd=new,
            capture_output=True,
            text=True,
            check=False,
        )
        if ran.returncode:
            return " ".join(ran.stderr.split())
        try:
            new.rename(folder)
        except OSError:  # another session was faster
            if not folder.is_dir():
                raise
    return ""


def _digest() -> str:
    pinned = b"".join((HERE / name).read_bytes() for name in _FILES)
    return hashlib.sha256(pinned).hexdigest()[:12]
