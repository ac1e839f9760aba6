"""The shipped mf router, opened once, and a small bundle of plain bytes for the storage tests."""

from pathlib import Path

import msgspec
import pytest

from pointsman.routers.bundle import Bundle, file_entry, load_bundle, save_bundle
from pointsman.routers.embedding import Embedder, EmbedderSettings
from pointsman.routers.manifest import (
    Calibration,
    Golden,
    GoldenCase,
    Manifest,
    TrainingPair,
    revision_of,
)
from pointsman.routers.registry import SHIPPED_BUNDLES, LoadedRouter, load_router

CONTENTS = {
    "encoder": b"an encoder",
    "tokenizer": b"{}",
    "weights": b"some weights",
    "training_prompts": bytes(range(64)),
}


@pytest.fixture(scope="session")
def shipped_bundle() -> Bundle:
    """The mf bundle that comes with the package."""
    return load_bundle(SHIPPED_BUNDLES / "mf")


@pytest.fixture(scope="session")
def shipped_router() -> LoadedRouter:
    """The mf router as the scorer loads it."""
    return load_router("mf")


@pytest.fixture(scope="session")
def embedder(shipped_bundle: Bundle) -> Embedder:
    """The shipped encoder."""
    return Embedder(
        shipped_bundle.read_file("encoder"),
        shipped_bundle.read_file("tokenizer"),
        shipped_bundle.manifest.embedder,
    )


@pytest.fixture
def manifest() -> Manifest:
    """A manifest for `CONTENTS`, calibrated on win rates spread evenly over [0, 1]."""
    files = {role: file_entry(data, ".bin") for role, data in CONTENTS.items()}
    pair = TrainingPair(strong="big", weak="small")
    settings = EmbedderSettings(max_tokens=16, dimension=4)
    return Manifest(
        format_version=1,
        name="toy",
        kind="mf",
        revision=revision_of("mf", pair, settings, files),
        training_pair=pair,
        embedder=settings,
        data=(),
        seed=1,
        figures={},
        calibration=Calibration(
            description="none",
            prompts=0,
            quantiles=tuple(step / 1000 for step in range(1001)),
        ),
        golden=Golden(
            cases=(
                GoldenCase(prompt="easy", strong_win_rate=0.25),
                GoldenCase(prompt="hard", strong_win_rate=0.75),
            ),
            tolerance=0.01,
            gross_difference=0.1,
            how="by hand",
        ),
        files=files,
    )


@pytest.fixture
def saved(manifest: Manifest, tmp_path: Path) -> Path:
    """The toy bundle's folder."""
    return save_bundle(manifest, CONTENTS, tmp_path)


@pytest.fixture
def rewrite(saved: Path):
    """Change fields of the saved manifest as an editor would, revision untouched."""

    def change(**fields: object) -> None:
        path = saved / "manifest.json"
        path.write_bytes(msgspec.json.encode({**msgspec.json.decode(path.read_bytes()), **fields}))

    return change
