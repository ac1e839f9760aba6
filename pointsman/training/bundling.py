"""A fitted router → its bundle on disk: what every training and every import ends with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pointsman.errors import ConfigError
from pointsman.routers.bundle import file_entry, save_bundle
from pointsman.routers.embedding import EmbedderSettings
from pointsman.routers.manifest import (
    QUANTILE_COUNT,
    Calibration,
    DataSource,
    Golden,
    Manifest,
    TrainingPair,
    revision_of,
)
from pointsman.routing import ModelPair

SUFFIXES = {
    "encoder": ".onnx",
    "encoder_data": ".data",
    "decoder": ".onnx",
    "decoder_data": ".data",
    "tokenizer": ".json",
    "weights": ".npz",
    "weights_exam": ".npz",
    "kernel_exam": ".npz",
    "weights_problem": ".npz",
    "gate": ".npz",
    "index": ".npz",
    "head": ".npz",
    "format": ".json",
    "training_prompts": ".digests",
}
"""Role → ending of its file's name, for people who look into the folder."""


def write_bundle(
    *,
    kind: str,
    name: str,
    pair: ModelPair,
    embedder: EmbedderSettings,
    contents: Mapping[str, bytes],
    data: Sequence[DataSource],
    seed: int,
    figures: Mapping[str, str],
    calibration: tuple[str, NDArray[np.float64]] | None,
    golden: Golden | None,
    out: Path,
) -> Path:
    """Write ``<out>/<name>/manifest.json`` and the files it names, and return the bundle's folder.

    The same arguments give the same bytes. Whatever interrupts, the folder holds the old bundle
    or the new one.

    Args:
        kind: which built-in kind reads the files.
        name: of the bundle, [a-z0-9_]+.
        pair: whose win rates it serves.
        embedder: limits of the graph, or the model behind an endpoint.
        contents: role → content, see `Manifest.files`.
        data: what it was trained on.
        seed: of the fit.
        figures: quality as text, by what was measured.
        calibration: which prompts that it never saw, in words, and float64[n], its win rates over
            them; None where there are none.
        golden: golden win rates; None where they cannot be computed.
        out: the bundles folder.

    Raises:
        ConfigError: the folder cannot be written to.
        ValueError: a win rate is not in [0, 1], or there are none to calibrate by.
    """
    files = {
        role: file_entry(content, SUFFIXES.get(role, "")) for role, content in contents.items()
    }
    training_pair = TrainingPair(strong=pair.strong, weak=pair.weak)
    manifest = Manifest(
        format_version=1,
        name=name,
        kind=kind,
        revision=revision_of(kind, training_pair, embedder, files),
        training_pair=training_pair,
        embedder=embedder,
        data=tuple(data),
        seed=seed,
        figures=dict(figures),
        calibration=_calibration(*calibration) if calibration else None,
        golden=golden,
        files=files,
    )
    try:
        return save_bundle(manifest, contents, out)
    except OSError as error:
        raise ConfigError(
            f"the bundle {name!r} cannot be written to {out}: {error}; name another folder with "
            "--out"
        ) from error


def _calibration(description: str, rates: NDArray[np.float64]) -> Calibration:
    if not len(rates) or not np.all((rates >= 0.0) & (rates <= 1.0)):  # NaN fails here too
        raise ValueError(
            f"percentiles need win rates in [0, 1]; the {len(rates)} over {description} range "
            f"from {rates.min(initial=np.inf):g} to {rates.max(initial=-np.inf):g}"
        )
    quantiles = np.quantile(rates, np.linspace(0.0, 1.0, QUANTILE_COUNT))
    return Calibration(
        description=description,
        prompts=len(rates),
        # Quantiles may fall by a rounding error where win rates tie.
        quantiles=tuple(np.maximum.accumulate(quantiles).tolist()),
    )
