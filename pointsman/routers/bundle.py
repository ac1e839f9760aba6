"""A router on disk: a manifest, and content-addressed files that bundles share.

::

    <bundles>/blobs/<sha256><suffix>     encoder graph, tokenizer, weights, prompt hashes
    <bundles>/<name>/manifest.json       which of them make up this router, and what it is

Two routers over one encoder hold it once. Every file is checked when it is read, and a bundle
appears by one rename, so an interrupted save leaves the old bundle or the new, never a mixture.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import file_digest, sha256
from io import BufferedReader
from pathlib import Path

import msgspec
import numpy as np
from numpy.typing import NDArray

from pointsman.errors import ConfigError, RouterNotReady
from pointsman.files import write_whole
from pointsman.routers.base import Router
from pointsman.routers.manifest import (
    FORMAT_VERSION,
    PROVENANCE_ROLES,
    QUANTILE_COUNT,
    FileEntry,
    GoldenReport,
    Manifest,
    check_golden,
    revision_of,
)

MANIFEST_NAME = "manifest.json"
BLOBS_NAME = "blobs"
DATA_ENDING = "_data"
"""Of a role: the external weights of the graph whose role stands before it. They may be larger
than memory, so they are verified in pieces and never held."""

_REMEDY = (
    "restore it from the package or make the bundle again with `pointsman train` or `pointsman "
    "import`"
)


@dataclass(frozen=True, kw_only=True, eq=False)
class Bundle:
    """A bundle whose scoring files have been read and verified."""

    manifest: Manifest
    contents: Mapping[str, bytes]
    """Role → content. Provenance files stay on disk, `read_file` reads them; so does the data of a
    large graph, which the runtime maps from there."""

    folder: Path
    """The folder that holds the manifest."""

    @property
    def quantiles(self) -> NDArray[np.float64]:
        """Return float64[1001]: win rates at the calibration set's 0, 0.1, ..., 100 %.

        float64[0] for a bundle without calibration.
        """
        calibration = self.manifest.calibration
        return np.asarray(calibration.quantiles if calibration else (), dtype=np.float64)

    def check_golden(self, router: Router) -> GoldenReport | None:
        """Score the golden prompts with ``router`` on this machine and compare.

        None for a bundle without golden prompts.
        """
        golden = self.manifest.golden
        return check_golden(self.manifest.name, golden, router) if golden else None

    def graph(self, role: str) -> bytes | Path:
        """Return an ONNX graph, or its file where its weights are a file beside it.

        Raises:
            ConfigError: the bundle has no file in this role.
        """
        content = self.read_file(role)
        if role + DATA_ENDING not in self.manifest.files:
            return content
        return _blob_path(self.folder, self.manifest.files[role])

    def read_file(self, role: str) -> bytes:
        """Return the verified content of any file of the bundle.

        Raises:
            ConfigError: the bundle has no file in this role.
            RouterNotReady: the file is missing or damaged.
        """
        if role in self.contents:
            return self.contents[role]
        return _read_blob(self.folder, self.manifest, role)

    def training_prompt_digests(self) -> frozenset[bytes]:
        """Return the SHA-256 (32 bytes) of every training prompt, see `prompt_digest`."""
        data = self.read_file("training_prompts")
        return frozenset(data[start : start + 32] for start in range(0, len(data), 32))


def percentile_among(quantiles: NDArray[np.float64], strong_win_rate: float) -> float:
    """Return the percentage of the sample at or below this rate, in [0, 100].

    Args:
        quantiles: float64[1001], ascending.
        strong_win_rate: in [0, 1]; rates between two quantiles are interpolated.
    """
    percentages = np.linspace(0.0, 100.0, QUANTILE_COUNT)
    return float(np.interp(strong_win_rate, quantiles, percentages))


def fold_prompt(prompt: str) -> str:
    """Return the prompt without differences of case and white space."""
    return " ".join(prompt.casefold().split())


def prompt_digest(prompt: str) -> bytes:
    """Return 32 bytes: SHA-256 of the folded prompt, equal for prompts that differ in form only."""
    return sha256(fold_prompt(prompt).encode("utf-8", "surrogatepass")).digest()


def load_bundle(folder: Path) -> Bundle:
    """Read the bundle in ``folder`` and verify every file that decides win rates.

    Raises:
        ConfigError: there is no manifest, or it is not one this version reads.
        RouterNotReady: a file is missing or differs from its checksum; names file and hashes.
    """
    manifest = read_manifest(folder)
    contents: dict[str, bytes] = {}
    for role in manifest.files:
        if role.endswith(DATA_ENDING):
            _verify_blob(folder, manifest, role)
        # The training prompts' digests play no part in scoring, and starting need not wait for
        # them.
        elif role not in PROVENANCE_ROLES:
            contents[role] = _read_blob(folder, manifest, role)
    return Bundle(manifest=manifest, contents=contents, folder=folder)


def read_manifest(folder: Path) -> Manifest:
    """Return the manifest in ``folder`` without reading the files it names.

    Raises:
        ConfigError: there is none, or it is not one this version reads.
    """
    path = folder / MANIFEST_NAME
    try:
        manifest = msgspec.json.decode(path.read_bytes(), type=Manifest)
    except OSError as error:
        raise ConfigError(
            f"no router bundle at {folder}: {error}; name a folder that holds a {MANIFEST_NAME}"
        ) from error
    except msgspec.DecodeError as error:
        raise ConfigError(
            f"{path} is not a manifest of format {FORMAT_VERSION}: {error}; make the bundle again "
            "with `pointsman train` or install the version of pointsman that wrote it"
        ) from error
    revision = revision_of(manifest.kind, manifest.training_pair, manifest.embedder, manifest.files)
    if revision != manifest.revision:
        raise ConfigError(
            f"{path} says revision {manifest.revision} and its contents have revision {revision}: "
            "it was edited; restore it or make the bundle again with `pointsman train`"
        )
    return manifest


def save_bundle(manifest: Manifest, contents: Mapping[str, bytes], bundles_dir: Path) -> Path:
    """Write a bundle under ``bundles_dir`` and return its folder.

    Blobs first, the manifest last, each by a rename: whoever reads meanwhile sees the old bundle
    or the new one. Blobs that exist already are kept; blobs no longer named are not removed.

    Args:
        manifest: names every file; its revision must be right.
        contents: role → content, for each role of the manifest.
        bundles_dir: the folder that holds ``blobs/`` and the bundles.

    Raises:
        ValueError: contents and manifest disagree; nothing has been written then.
    """
    if set(contents) != set(manifest.files):
        raise ValueError(
            f"the manifest has files {sorted(manifest.files)} and {sorted(contents)} were given"
        )
    for role, data in contents.items():
        if sha256(data).hexdigest() != manifest.files[role].sha256:
            raise ValueError(f"the content for {role!r} is not the one the manifest names")
    blobs = bundles_dir / BLOBS_NAME
    for role, data in contents.items():
        path = blobs / manifest.files[role].name
        if not path.exists():
            write_whole(path, data)
    folder = bundles_dir / manifest.name
    text = msgspec.json.format(msgspec.json.encode(manifest), indent=1) + b"\n"
    write_whole(folder / MANIFEST_NAME, text)
    return folder


def file_entry(data: bytes, suffix: str) -> FileEntry:
    """Return the manifest's entry for a content."""
    return FileEntry(sha256=sha256(data).hexdigest(), bytes=len(data), suffix=suffix)


def _blob_path(folder: Path, entry: FileEntry) -> Path:
    return folder.parent / BLOBS_NAME / entry.name


def _read_blob(folder: Path, manifest: Manifest, role: str) -> bytes:
    entry = manifest.files.get(role)
    if entry is None:
        roles = ", ".join(sorted(manifest.files))
        raise ConfigError(f"bundle {manifest.name!r} has no {role!r} file; it has: {roles}")
    with _open_blob(folder, manifest, role) as stream:
        data = stream.read()
    _compare(folder, manifest, role, sha256(data).hexdigest(), len(data))
    return data


def _verify_blob(folder: Path, manifest: Manifest, role: str) -> None:
    with _open_blob(folder, manifest, role) as stream:
        found = file_digest(stream, "sha256").hexdigest()
        _compare(folder, manifest, role, found, stream.tell())


@contextmanager
def _open_blob(folder: Path, manifest: Manifest, role: str) -> Iterator[BufferedReader]:
    path = _blob_path(folder, manifest.files[role])
    try:
        with path.open("rb") as stream:
            yield stream
    except OSError as error:
        raise RouterNotReady(
            f"router {manifest.name!r}: its {role} file {path} cannot be read: {error}; {_REMEDY}"
        ) from error


def _compare(folder: Path, manifest: Manifest, role: str, found: str, length: int) -> None:
    entry = manifest.files[role]
    if found != entry.sha256:
        raise RouterNotReady(
            f"router {manifest.name!r}: its {role} file {_blob_path(folder, entry)} is damaged: "
            f"SHA-256 {found} ({length} bytes), expected {entry.sha256} ({entry.bytes} bytes); "
            f"{_REMEDY}"
        )
