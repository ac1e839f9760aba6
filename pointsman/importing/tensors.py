"""A checkpoint's file of weights → named arrays, never by running what a pickle says."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pointsman.errors import ConfigError
from pointsman.extras import needed_from

WEIGHT_FILES = ("model.safetensors", "pytorch_model.bin")
"""In a folder, the first of these that is there."""


def weights_file(source: Path) -> Path:
    """Return the file of weights that a path means: itself, or the one in the folder.

    Raises:
        ConfigError: the folder has none.
    """
    if not source.is_dir():
        return source
    for name in WEIGHT_FILES:
        if (source / name).exists():
            return source / name
    raise ConfigError(f"{source} has neither {' nor '.join(WEIGHT_FILES)}; name the file itself")


def read_tensors(path: Path) -> dict[str, NDArray[np.float32]]:
    """Return every tensor of a file, name → float32 array.

    Args:
        path: ``.safetensors``, or else a state dict that torch saved.

    Raises:
        ConfigError: the file cannot be read, holds anything but numbers, or they are not finite.
    """
    read = _read_safetensors if path.suffix == ".safetensors" else _read_pickle
    tensors = {
        name: np.ascontiguousarray(tensor, dtype=np.float32) for name, tensor in read(path).items()
    }
    for name, tensor in tensors.items():
        if not np.isfinite(tensor).all():
            raise ConfigError(f"{path}: {name} has numbers that are not finite; fetch it again")
    return tensors


def tensor_of(
    tensors: Mapping[str, NDArray[np.float32]], names: tuple[str, ...], path: Path
) -> NDArray[np.float32]:
    """Return the tensor that has one of the names.

    Raises:
        ConfigError: there is none.
    """
    for name in names:
        if name in tensors:
            return tensors[name]
    found = ", ".join(sorted(tensors)) or "nothing"
    raise ConfigError(
        f"{path} has no {' or '.join(names)}, only {found}; it is no checkpoint of this router"
    )


def _read_safetensors(path: Path) -> dict[str, Any]:
    with needed_from("import", "reading a checkpoint"):
        import safetensors
        from safetensors.numpy import load_file
    try:
        return dict(load_file(path))
    except (OSError, safetensors.SafetensorError, TypeError, ValueError) as error:
        raise ConfigError(f"{path} cannot be read as safetensors: {error}") from error


def _read_pickle(path: Path) -> dict[str, Any]:
    with needed_from("import", "reading a checkpoint that is no safetensors file"):
        import torch
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged pickle raises whatever it comes upon
        reason = " ".join(str(error).split()) or type(error).__name__
        raise ConfigError(
            f"{path} cannot be read as weights alone: {reason}; a file that asks to run code is "
            "never run: get the checkpoint as safetensors"
        ) from error
    if not isinstance(state, dict) or not all(isinstance(t, torch.Tensor) for t in state.values()):
        raise ConfigError(f"{path} is no state dict: every value must be a tensor")
    return {str(name): tensor.float().numpy() for name, tensor in state.items()}
