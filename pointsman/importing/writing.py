"""What every import ends with: the router is tried out, then its bundle is written."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from msgspec import structs
from numpy.typing import NDArray
from tqdm import tqdm

from pointsman.errors import ConfigError
from pointsman.importing.settings import ImportSettings
from pointsman.routers.base import Router
from pointsman.routers.bulk import win_rates
from pointsman.routers.embedding import EmbedderSettings
from pointsman.routers.imported import IMPORTED_FROM, origin_of
from pointsman.routers.manifest import DataSource, Golden
from pointsman.routers.registry import load_router
from pointsman.rows import read_rows
from pointsman.training.bundling import write_bundle
from pointsman.training.golden import GOLDEN_PROMPTS, golden_from

LARGEST_DISTANCE = 0.2
"""In win rate, between int8 and float32 over the golden prompts. Of MiniLM's routers it is 0.04;
beyond this, a threshold chosen for one says nothing about the other."""

_SAME = "served in float32; the limits are the smallest that tell two routers apart"


@dataclass(frozen=True, kw_only=True, eq=False)
class ImportedFiles:
    """The parts of a bundle that its checkpoint decides."""

    kind: str
    """Which built-in kind reads the files."""

    embedder: EmbedderSettings
    contents: Mapping[str, bytes]
    """Role → content, as served."""

    float32: Mapping[str, bytes] | None = None
    """The same in full precision: how far the two are apart is the tolerance of the golden win
    rates. None where there is nothing to score golden prompts with, or it would take minutes."""

    data: tuple[DataSource, ...] = ()
    """What is known of the data that the checkpoint was trained on."""


def write_imported(settings: ImportSettings, files: ImportedFiles) -> Path:
    """Write the bundle and return its folder.

    A router with an encoder of its own is loaded and scores before anything is written.

    Raises:
        ConfigError: the router cannot be loaded, int8 makes another router of it, or the prompts to
            calibrate on cannot be read.
    """
    golden, calibration = None, None
    if files.float32 is not None or settings.calibrate is not None:
        with tempfile.TemporaryDirectory() as folder:
            served = _loaded(settings, files, files.contents, Path(folder) / "served")
            if files.float32 is not None:
                full = _loaded(settings, files, files.float32, Path(folder) / "float32")
                golden = _golden(served, full)
            if settings.calibrate is not None:
                calibration = _calibration(settings.calibrate, served)
    return _write(
        settings, files, files.contents, settings.out, golden=golden, calibration=calibration
    )


def refuse_calibration(settings: ImportSettings) -> None:
    """Refuse to calibrate a router whose prompts are embedded elsewhere.

    Raises:
        ConfigError: prompts to calibrate on are named.
    """
    if settings.calibrate is not None:
        raise ConfigError(
            f"--calibrate {settings.calibrate}: this router's prompts are embedded by "
            f"{settings.embedding_model} at an endpoint, which an import does not call; import it "
            "without, and choose thresholds with `pointsman calibrate`"
        )


def _write(
    settings: ImportSettings,
    files: ImportedFiles,
    contents: Mapping[str, bytes],
    out: Path,
    *,
    golden: Golden | None = None,
    calibration: tuple[str, NDArray[np.float64]] | None = None,
) -> Path:
    return write_bundle(
        kind=files.kind,
        name=settings.name,
        pair=settings.pair,
        embedder=files.embedder,
        contents=contents,
        data=files.data,
        seed=0,
        figures=_figures(settings),
        calibration=calibration,
        golden=golden,
        out=out,
    )


def _figures(settings: ImportSettings) -> dict[str, str]:
    origin = origin_of((*settings.sources, *settings.embeddings))
    revision = {"imported revision": settings.revision} if settings.revision else {}
    return {IMPORTED_FROM: origin, **revision}


def _loaded(
    settings: ImportSettings, files: ImportedFiles, contents: Mapping[str, bytes], folder: Path
) -> Router:
    bundle = _write(settings, files, contents, folder)
    return load_router(settings.name, bundle=bundle).router


def _golden(served: Router, full: Router) -> Golden:
    rates = _rates(served, GOLDEN_PROMPTS, "golden prompts")
    expected = _rates(full, GOLDEN_PROMPTS, "golden prompts, float32")
    distance = float(np.abs(rates - expected).max())
    if distance == 0.0:
        return structs.replace(golden_from(served=rates, float32=expected), how=_SAME)
    if distance > LARGEST_DISTANCE:
        raise ConfigError(
            f"int8 weights move a win rate by {distance:.2f}, which is another router; import it "
            "with --precision float32"
        )
    return golden_from(served=rates, float32=expected)


def _rates(router: Router, prompts: Sequence[str], description: str) -> NDArray[np.float32]:
    rates = win_rates(router, prompts)
    shown = tqdm(
        rates, total=len(prompts), desc=description, unit="prompt", disable=None, leave=False
    )
    return np.fromiter(shown, dtype=np.float32, count=len(prompts))


def _calibration(path: Path, router: Router) -> tuple[str, NDArray[np.float64]]:
    prompts = list(dict.fromkeys(row.text("prompt") for row in read_rows(str(path))))
    if not prompts:
        raise ConfigError(f"{path}: there is no prompt to calibrate on")
    rates = _rates(router, prompts, "calibrating").astype(np.float64)
    return f"distinct prompts of {path.name}", rates
