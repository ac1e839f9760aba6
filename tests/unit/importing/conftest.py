"""Checkpoints of RouteLLM's shapes, made on the spot from seeded random numbers."""

import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.conftest import missing

PAIR = ("gpt-4-1106-preview", "mixtral-8x7b-instruct-v0.1")
WORDS = (
    "what is the sum of two and three prove that every prime above is odd write a poem about rain "
    "explain how tides work in simple words sort list function python"
)


@pytest.fixture(scope="session")
def torch_installed() -> None:
    """Skips without torch and transformers; fails in CI, where they must be there."""
    _needed("torch", "transformers", "onnx")


@pytest.fixture(scope="session")
def parquet_installed() -> None:
    """Skips without pyarrow; fails in CI."""
    _needed("pyarrow")


def _needed(*modules: str) -> None:
    if absent := [name for name in modules if importlib.util.find_spec(name) is None]:
        missing(", ".join(absent), "pip install 'pointsman[import]'")


@pytest.fixture
def mf_tensors() -> dict[str, NDArray[np.float32]]:
    """An `mf` checkpoint's matrices, under the names that RouteLLM gives them."""
    generator = np.random.default_rng(0)
    shapes = {
        "P.weight": (64, 128),
        "text_proj.0.weight": (128, 1536),
        "classifier.0.weight": (1, 128),
    }
    return {
        name: generator.normal(size=shape).astype(np.float32) * 0.3
        for name, shape in shapes.items()
    }


class EndpointEmbedder:
    """Embeds as an endpoint would: a unit vector that a text's bytes decide."""

    def __init__(self, settings: Any) -> None:
        self.settings = settings

    def embed(self, texts: Any) -> NDArray[np.float32]:
        """Returns float32[n, d]."""
        return np.stack([unit_vector(text, self.settings.dimension) for text in texts])


def unit_vector(text: str, dimension: int) -> NDArray[np.float32]:
    """Returns float32[d], of length 1, the same for the same text."""
    generator = np.random.default_rng(list(text.encode()) or [0])
    vector = generator.normal(size=dimension) + 0.3  # similarities of one sign, as real ones are
    return (vector / np.linalg.norm(vector)).astype(np.float32)


def files_in(folder: Path) -> list[str]:
    """Returns every file under a folder that may not exist, without temporary names."""
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


@pytest.fixture
def settings(tmp_path: Path) -> Callable[..., Any]:
    """Returns import settings that write into the test's own folder."""
    from pointsman.importing.settings import ImportSettings

    def make(*sources: Path | str, name: str = "imported", **changes: Any) -> Any:
        return ImportSettings(
            sources=tuple(map(str, sources)), out=tmp_path / "bundles", name=name, **changes
        )

    return make
