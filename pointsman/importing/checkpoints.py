"""Models and tokenizers in Hugging Face's layout, read whole or refused in one line."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import safetensors
import torch
from tokenizers import Tokenizer
from transformers import AutoTokenizer, PreTrainedModel
from transformers.utils import logging as transformers_logging

from pointsman.errors import ConfigError
from pointsman.importing.settings import ImportSettings
from pointsman.importing.sources import local_path

TOKENIZER_FILE = "tokenizer.json"

_UNREADABLE = (
    *(OSError, ValueError, KeyError, RuntimeError, ImportError, pickle.UnpicklingError),
    safetensors.SafetensorError,
)
"""What transformers raises where a folder is not what it should be."""


def checkpoint_folders(settings: ImportSettings) -> tuple[Path, Path]:
    """Return the folder of a checkpoint and that of its tokenizer, the same unless told otherwise.

    Raises:
        ConfigError: one of them is not to be had.
    """
    where = {"endpoint": settings.endpoint}
    folder = local_path(settings.sources[0], "model", revision=settings.revision, **where)
    if settings.tokenizer is None:
        return folder, folder
    return folder, local_path(settings.tokenizer, "tokenizer", **where)


def read_model(auto_class: Any, folder: Path) -> PreTrainedModel:
    """Return the model in ``folder``, float32, in evaluation mode, never with the folder's code.

    Args:
        auto_class: ``AutoModelForCausalLM`` or a class like it.
        folder: config.json and weights; pickled weights are read as numbers only.

    Raises:
        ConfigError: something is missing, damaged or of another shape.
    """
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    try:
        model, found = auto_class.from_pretrained(
            folder, local_files_only=True, dtype=torch.float32, output_loading_info=True
        )
    except _UNREADABLE as error:
        reason = " ".join(str(error).split())
        raise ConfigError(f"{folder} holds no model that can be read: {reason}") from error
    # transformers starts what it does not find from random numbers, and only warns.
    if missing := sorted(found["missing_keys"]):
        raise ConfigError(
            f"{folder}: the weights have no {missing[0]}"
            + (f" and {len(missing) - 1} more" if missing[1:] else "")
            + "; it is no checkpoint of this router, or not all of it was downloaded"
        )
    return model.eval()


def read_tokenizer(folder: Path) -> Tokenizer:
    """Return the tokenizer in ``folder``: its tokenizer.json, or what transformers makes of others.

    Raises:
        ConfigError: there is none.
    """
    path = folder / TOKENIZER_FILE
    try:
        if path.exists():
            return Tokenizer.from_file(str(path))
        made = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    except Exception as error:  # the Rust library raises bare Exception
        reason = " ".join(str(error).split())
        raise ConfigError(
            f"{folder} holds no tokenizer that can be read: {reason}; name a folder that does with "
            "--tokenizer"
        ) from error
    tokenizer: Tokenizer = made.backend_tokenizer
    return tokenizer
