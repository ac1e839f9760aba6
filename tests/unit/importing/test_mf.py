"""RouteLLM's `mf`: the bundle gives the formula's numbers, and a wrong checkpoint one line."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from pointsman.errors import ConfigError
from pointsman.importing.mf import import_mf
from pointsman.importing.model_names import ROUTELLM_MODELS
from pointsman.routers.bundle import read_manifest
from pointsman.routers.registry import load_router
from pointsman.routing import ModelPair

from .conftest import EndpointEmbedder, files_in, unit_vector

pytestmark = [pytest.mark.train, pytest.mark.usefixtures("torch_installed")]

Tensors = dict[str, NDArray[np.float32]]
PROMPTS = ["", "hi", "Prove that there is no largest prime.", "雨" * 300]


def formula(tensors: Tensors, strong: int, weak: int, embedding: NDArray[np.float32]) -> float:
    """As RouteLLM's model computes it, in float64."""
    models = tensors["P.weight"][[strong, weak]].astype(np.float64)
    models /= np.linalg.norm(models, axis=1, keepdims=True)
    projected = tensors["text_proj.0.weight"].astype(np.float64) @ embedding.astype(np.float64)
    logits = (models * projected) @ tensors["classifier.0.weight"][0].astype(np.float64)
    return float(1.0 / (1.0 + np.exp(logits[1] - logits[0])))


def save(tensors: Tensors, path: Path) -> Path:
    """Writes a checkpoint in the format that the name tells."""
    import torch
    from safetensors.numpy import save_file

    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".safetensors":
        save_file(tensors, path)
    else:
        torch.save({name: torch.from_numpy(tensor) for name, tensor in tensors.items()}, path)
    return path


@pytest.mark.parametrize("name", ["model.safetensors", "pytorch_model.bin", "mf_model.pt"])
@pytest.mark.parametrize(
    ("pair", "rows"),
    [
        (ModelPair(strong="gpt-4-1106-preview", weak="mixtral-8x7b-instruct-v0.1"), (24, 36)),
        (ModelPair(strong="claude-1", weak="zephyr-7b-beta"), (5, 63)),
    ],
)
def test_the_bundle_gives_routellms_numbers(
    tmp_path: Path,
    settings: Callable[..., Any],
    mf_tensors: Tensors,
    name: str,
    pair: ModelPair,
    rows: tuple[int, int],
) -> None:
    """To 1e-5, for any pair of the 64 models and any format of the file."""
    path = save(mf_tensors, tmp_path / "checkpoint" / name)
    source = path if path.suffix == ".pt" else path.parent
    folder = import_mf(settings(source, pair=pair))
    embedder = EndpointEmbedder(read_manifest(folder).embedder)
    assert (embedder.settings.model, embedder.settings.dimension) == (
        "text-embedding-3-small",
        1536,
    )
    router = load_router("imported", bundle=folder, embedder=embedder)
    assert router.training_pair == pair
    expected = [formula(mf_tensors, *rows, unit_vector(prompt, 1536)) for prompt in PROMPTS]
    np.testing.assert_allclose(router.router.strong_win_rates(PROMPTS), expected, atol=1e-5)
    assert 0.01 < min(expected) < max(expected) < 0.99


def test_the_names_that_training_writes_are_read_too(
    tmp_path: Path, settings: Callable[..., Any], mf_tensors: Tensors
) -> None:
    """RouteLLM's trainer has one layer where its router has a list of one."""
    renamed = {name.replace(".0.", "."): tensor for name, tensor in mf_tensors.items()}
    first = import_mf(settings(save(mf_tensors, tmp_path / "a" / "model.safetensors")))
    second = import_mf(settings(save(renamed, tmp_path / "b" / "model.safetensors"), name="other"))
    assert read_manifest(first).files["weights"] == read_manifest(second).files["weights"]


def test_the_names_are_routellms() -> None:
    """64 of them, in the order of its table, whose documented places these are."""
    places = {
        "RWKV-4-Raven-14B": 0,
        "claude-1": 5,
        "gpt-3.5-turbo-0613": 19,
        "gpt-4-0613": 23,
        "gpt-4-1106-preview": 24,
        "llama-2-70b-chat": 30,
        "mistral-medium": 35,
        "mixtral-8x7b-instruct-v0.1": 36,
        "vicuna-13b": 56,
        "yi-34b-chat": 61,
        "zephyr-7b-beta": 63,
    }
    assert {name: ROUTELLM_MODELS.index(name) for name in places} == places
    assert len(ROUTELLM_MODELS) == 64
    assert list(ROUTELLM_MODELS) == sorted(set(ROUTELLM_MODELS))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"P.weight": None}, r"has no P\.weight, only classifier\.0\.weight, text_proj"),
        ({"text_proj.0.weight": None}, r"no text_proj\.0\.weight or text_proj\.weight"),
        ({"P.weight": (63, 128)}, r"P\.weight is 63 by 128 and must be 64 by 128"),
        ({"P.weight": (64, 100)}, r"text_proj\.0\.weight is 128 by 1536 and must be 100 by 1536"),
        ({"classifier.0.weight": (3, 128)}, "is 3 by 128 and must be 1 by 128"),
        ({"classifier.0.weight": (128,)}, "is 128 and must be 1 by 128"),
    ],
)
def test_a_wrong_checkpoint_is_one_line_and_writes_nothing(
    tmp_path: Path,
    settings: Callable[..., Any],
    mf_tensors: Tensors,
    changes: dict[str, tuple[int, ...] | None],
    said: str,
) -> None:
    """What is missing, or both shapes."""
    tensors = dict(mf_tensors)
    for name, shape in changes.items():
        if shape is None:
            del tensors[name]
        else:
            tensors[name] = np.ones(shape, dtype=np.float32)
    path = save(tensors, tmp_path / "model.safetensors")
    with pytest.raises(ConfigError, match=said) as refused:
        import_mf(settings(path))
    assert str(refused.value).startswith(str(path))
    assert "\n" not in str(refused.value)
    assert files_in(tmp_path / "bundles") == []


def test_a_model_without_a_vector_is_refused(
    tmp_path: Path, settings: Callable[..., Any], mf_tensors: Tensors
) -> None:
    """RouteLLM answers a KeyError; newer models are none of its 64."""
    path = save(mf_tensors, tmp_path / "model.safetensors")
    with pytest.raises(ConfigError, match="no vector for model 'gpt-4o'; trained models: RWKV"):
        import_mf(settings(path, pair=ModelPair(strong="gpt-4o", weak="claude-1")))
    assert files_in(tmp_path / "bundles") == []


def test_prompts_to_calibrate_on_are_refused(
    tmp_path: Path, settings: Callable[..., Any], mf_tensors: Tensors
) -> None:
    """An import calls no endpoint."""
    path = save(mf_tensors, tmp_path / "model.safetensors")
    with pytest.raises(ConfigError, match="embedded by text-embedding-3-small at an endpoint"):
        import_mf(settings(path, calibrate=tmp_path / "prompts.jsonl"))
