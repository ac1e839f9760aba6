"""Which public files the data folder is made of: addresses, sizes and checksums.

The table is `checksums.txt`, one file a line. What is written into the data folder is checked
against it, so it does not matter who delivered the bytes.
"""

from __future__ import annotations

import csv
import gzip
import hashlib
import tarfile
import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Protocol
from urllib.parse import urlsplit

from pointsman.errors import ConfigError
from pointsman.files import whole_file

SETS: tuple[str, ...] = ("gsm8k", "mmlu", "mt-bench", "gsm8k_train", "mmlu_key")
"""What can be fetched, by name."""

USUAL_SETS = SETS[:-1]
"""All but MMLU's answers, which come in 166 megabytes and only `data generate` needs."""

_TABLE = Path(__file__).with_name("checksums.txt")
_KEY = "mmlu_key"
_KEYS_IN_TAR = "data/test/"
_BLOCK_BYTES = 1 << 16


class _Readable(Protocol):
    def read(self, size: int, /) -> bytes: ...


class _Writable(Protocol):
    def write(self, data: bytes, /) -> int: ...


@dataclass(frozen=True, kw_only=True)
class Original:
    """One public file and where it goes."""

    set: str
    size_bytes: int
    sha256: str
    """Of the file as it is published, in hexadecimal."""
    path: str
    """Below the data folder; a folder for what is unpacked."""
    url: str

    def address(self, mirror: str | None) -> str:
        """Returns where to get it: a mirror's URL stands for the publisher's scheme and host."""
        if mirror is None:
            return self.url
        return mirror.rstrip("/") + urlsplit(self.url).path

    def is_in(self, data: Path) -> bool:
        """Returns whether the folder has it, whole and unchanged.

        Raises:
            ConfigError: The file is there and cannot be read.
        """
        path = data / self.path
        if self.set == _KEY:
            return all((path / name).is_file() for name in _key_names())
        try:
            with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as stream:
                return _digest(stream) == self.sha256
        except (FileNotFoundError, NotADirectoryError):
            return False
        except (EOFError, gzip.BadGzipFile, zlib.error):
            return False
        except OSError as error:
            raise ConfigError(f"{path}: cannot be read: {error.strerror or error}") from error

    def was_ever_in(self, data: Path) -> bool:
        """Returns whether the folder has something in its place."""
        return (data / self.path).exists()

    def place(self, download: BinaryIO, data: Path) -> None:
        """Writes a checked download where it belongs; each file appears whole or not at all.

        Raises:
            ConfigError: The archive lacks a file.
            OSError: The folder cannot be written to.
        """
        download.seek(0)
        if self.set == _KEY:
            _unpack_key(download, data / self.path)
            return
        path = data / self.path
        with whole_file(path) as stream:
            if path.suffix == ".gz":
                with gzip.GzipFile(fileobj=stream, mode="wb", filename="", mtime=0) as zipped:
                    _copy(download, zipped)
            else:
                _copy(download, stream)


def originals(sets: Iterable[str] = USUAL_SETS) -> list[Original]:
    """Returns the files of these sets, in the table's order."""
    wanted = set(sets)
    lines = _TABLE.read_text(encoding="utf-8").splitlines()
    rows = (line.split() for line in lines if not line.startswith("#"))
    return [
        Original(set=name, size_bytes=int(size), sha256=sha256, path=path, url=url)
        for name, size, sha256, path, url in rows
        if name in wanted
    ]


def mmlu_subjects() -> list[str]:
    """Returns MMLU's 57 subjects as its files spell them, sorted."""
    stems = (Path(original.path).stem for original in originals(["mmlu"]))
    return sorted(stem.removeprefix("mmlu_") for stem in stems if stem.startswith("mmlu_"))


def read_key(path: Path) -> list[list[str]]:
    """Returns the rows of one of MMLU's own files: question, options A to D, right letter.

    Raises:
        ConfigError: The file cannot be read, or a row is not six cells that end in a letter.
    """
    try:
        with path.open(encoding="utf-8", newline="") as stream:
            rows = list(csv.reader(stream))
    except OSError as error:
        raise ConfigError(
            f"{path}: cannot be read: {error.strerror}; `pointsman data fetch --only mmlu_key` "
            f"gets MMLU's answers (166 MB), or unpack data/test of {originals([_KEY])[0].url} there"
        ) from error
    except (csv.Error, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: not CSV: {error}") from error
    for number, row in enumerate(rows, start=1):
        if len(row) != 6 or row[5] not in {"A", "B", "C", "D"}:
            raise ConfigError(
                f"{path}, row {number}: expected question, four options and the right letter, got "
                f"{len(row)} cells that end in {row[-1:]}"
            )
    return rows


def _unpack_key(download: BinaryIO, folder: Path) -> None:
    try:
        with tarfile.open(fileobj=download, mode="r:") as archive:
            for name in _key_names():
                member = archive.extractfile(_KEYS_IN_TAR + name)
                if member is None:
                    raise ConfigError(f"the archive has a {name} that is no file")
                with member, whole_file(folder / name) as stream:
                    _copy(member, stream)
    except (tarfile.TarError, KeyError) as error:
        raise ConfigError(f"the archive of MMLU's answers is not as expected: {error}") from error


def _key_names() -> list[str]:
    return [f"{subject}_test.csv" for subject in mmlu_subjects()]


def _digest(stream: _Readable) -> str:
    found = hashlib.sha256()
    while block := stream.read(_BLOCK_BYTES):
        found.update(block)
    return found.hexdigest()


def _copy(source: _Readable, target: _Writable) -> None:
    while block := source.read(_BLOCK_BYTES):
        target.write(block)
