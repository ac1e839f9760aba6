"""Files that appear complete or not at all, whatever interrupts."""

import os
import secrets
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO


@contextmanager
def whole_file(path: Path) -> Iterator[BinaryIO]:
    """Yields a stream; what was written to it takes the place of `path` when the block is done.

    If the block raises, Ctrl-C included, `path` is what it was and nothing else is left behind. A
    link keeps pointing where it did, and a file its permissions. What is no file, such as a named
    pipe or `/dev/null`, cannot be replaced and is written to as it is.

    Raises:
        OSError: The folder cannot be made or written to.
    """
    path = path.resolve()
    if path.exists() and not path.is_file():
        with path.open("wb") as stream:
            yield stream
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.parent / f".writing-{secrets.token_hex(8)}"
    try:
        with temporary.open("xb") as stream:
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
        if path.exists():
            shutil.copymode(path, temporary)
        temporary.replace(path)
    except BaseException:  # Ctrl-C included: nothing half-written stays
        temporary.unlink(missing_ok=True)
        raise


def write_whole(path: Path, data: bytes) -> None:
    """Writes a file so that it appears complete or not at all.

    Raises:
        OSError: The folder cannot be made or written to.
    """
    with whole_file(path) as stream:
        stream.write(data)


def cache_folder(environ: Mapping[str, str]) -> Path:
    """Returns where what can be made again is kept: `$XDG_CACHE_HOME/pointsman` or `~/.cache`."""
    base = environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "pointsman"
