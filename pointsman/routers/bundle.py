"""A router on disk: a manifest, and content-addressed files that bundles share.

::

    <bundles>/blobs/<sha256><suffix>     encoder graph, tokenizer, weights, prompt hashes
    <bundles>/<name>/manifest.json       which of them make up this router, and what it is

Two routers over one encoder hold it once. Every file is checked when it is read, and a bundle
appears by one rename, so an interrupted save leaves the old bundle or the new, never a mixture.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
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


@dataclass(frozen=True, kw_only=True, eq=False)
class Bundle:
    """A bundle whose scoring files have been read and verified."""

    manifest: Manifest
    contents: Mapping[str, bytes]
    """Role → content. Provenance files stay on disk: `read_file` reads them."""

    folder: Path
    """The folder that holds the manifest."""

    @property
    def quantiles(self) -> NDArray[np.float64]:
        """Return float64[1001]: win rates at the calibration set's 0, 0.1, ..., 100 %."""
        return np.asarray(self.manifest.calibration.quantiles, dtype=np.float64)

    def percentile(self, strong_win_rate: float) -> float:
        """Return the percentage of calibration prompts at or below this rate, in [0, 100]."""
        return percentile_among(self.quantiles, strong_win_rate)

    def check_golden(self, router: Router) -> GoldenReport:
        """Score the golden prompts with ``router`` on this machine and compare."""
        return check_golden(self.manifest.name, self.manifest.golden, router)

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
    # The training prompts' digests play no part in scoring, and starting need not wait for them.
    contents = {
        role: _read_blob(folder, manifest, role)
        for role in manifest.files
        if role not in PROVENANCE_ROLES
    }
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


def _read_blob(folder: Path, manifest: Manifest, role: str) -> bytes:
    entry = manifest.files.get(role)
    if entry is None:
        roles = ", ".join(sorted(manifest.files))
        raise ConfigError(f"bundle {manifest.name!r} has no {role!r} file; it has: {roles}")
    path = folder.parent / BLOBS_NAME / entry.name
    remedy = "restore it from the package or make the bundle again with `pointsman train`"
    try:
        data = path.read_bytes()
    except OSError as error:
        raise RouterNotReady(
            f"router {manifest.name!r}: its {role} file {path} cannot be read: {error}; {remedy}"
        ) from error
    found = sha256(data).hexdigest()
    if found != entry.sha256:
        raise RouterNotReady(
            f"router {manifest.name!r}: its {role} file {path} is damaged: SHA-256 {found} "
            f"({len(data)} bytes), expected {entry.sha256} ({entry.bytes} bytes); {remedy}"
        )
    return data
