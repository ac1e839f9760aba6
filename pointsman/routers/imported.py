"""Bundles that `pointsman import` made, found again by the checkpoint that they came from."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from pointsman.routers.bundle import MANIFEST_NAME, read_manifest
from pointsman.routing import ModelPair

IMPORTED_FROM = "imported from"
"""Under this name a manifest's figures say what the bundle was made of."""

BUNDLES_FOLDER = "bundles"
"""Beside a configuration file, the folder in which imported bundles are looked for."""


def origin_of(sources: Sequence[str]) -> str:
    """Return how a bundle calls what it was made of: names on the hub, or the last folders.

    A bundle travels, and where its source lay on one machine is nobody's business.
    """
    return ", ".join(_shown(source) for source in sources)


def imported_bundle(
    folder: Path, kind: str, sources: Sequence[str], pair: ModelPair
) -> Path | None:
    """Return the folder of the bundle of this kind that was made of these sources for this pair.

    Args:
        folder: a bundles folder; need not exist.
        kind: ``mf``, ``sw_ranking``, ``bert`` or ``causal_llm``.
        sources: as `pointsman import` was given them.
        pair: the model pair it must speak of.

    Raises:
        ConfigError: a manifest in the folder cannot be read.
    """
    for path in sorted(folder.glob(f"*/{MANIFEST_NAME}")):
        manifest = read_manifest(path.parent)
        trained = ModelPair(strong=manifest.training_pair.strong, weak=manifest.training_pair.weak)
        origin = manifest.figures.get(IMPORTED_FROM)
        if (manifest.kind, origin, trained) == (kind, origin_of(sources), pair):
            return path.parent
    return None


def _shown(source: str) -> str:
    path = Path(source).expanduser()
    return path.resolve().name if path.exists() else source
