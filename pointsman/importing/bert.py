"""RouteLLM's `bert` checkpoint → a bundle: a sequence classifier of three labels."""

from __future__ import annotations

from pathlib import Path

import msgspec
from transformers import AutoModelForSequenceClassification

from pointsman.errors import ConfigError
from pointsman.importing.checkpoints import checkpoint_folders, read_model, read_tokenizer
from pointsman.importing.graphs import export_graph
from pointsman.importing.settings import ImportSettings
from pointsman.importing.writing import ImportedFiles, write_imported
from pointsman.routers.bert import ClassifierHead
from pointsman.routers.embedding import EmbedderSettings
from pointsman.training.encoder import token_limit
from pointsman.training.export_classifier import CLASSIFIER_OUTPUTS, ClassifierFeatures

LABELS = 3
"""The strong model wins, a tie, the weak model wins."""

QUANTISED = ("MatMul", "Gather")
"""The operators that hold XLM-RoBERTa's weights; its table of a quarter million tokens is most of
them."""


def import_bert(settings: ImportSettings) -> Path:
    """Write the bundle of a sequence classifier and return its folder.

    Raises:
        ConfigError: the folder holds no classifier of three labels, or no tokenizer.
    """
    folder, tokenizer_folder = checkpoint_folders(settings)
    tokenizer = read_tokenizer(tokenizer_folder).to_str().encode("utf-8")
    model = read_model(AutoModelForSequenceClassification, folder)
    if model.config.num_labels != LABELS:
        raise ConfigError(
            f"{folder}: the classifier has {model.config.num_labels} labels and `bert` needs "
            f"{LABELS}: the strong model wins, a tie, the weak model wins"
        )
    max_tokens = int(min(token_limit(folder), _longest_text(tokenizer_folder)))
    module = ClassifierFeatures(model)
    weights, bias = module.head()
    shared = {
        "tokenizer": tokenizer,
        "head": ClassifierHead(weights=weights, bias=bias).to_bytes(),
    }
    served, full = export_graph(module, CLASSIFIER_OUTPUTS, settings.precision, QUANTISED)
    return write_imported(
        settings,
        ImportedFiles(
            kind="bert",
            embedder=EmbedderSettings(max_tokens=max_tokens, dimension=weights.shape[1]),
            contents={**served.roles("encoder"), **shared},
            float32=None if full is None else {**full.roles("encoder"), **shared},
        ),
    )


class _TokenizerConfig(msgspec.Struct):
    model_max_length: float = float("inf")
    """Where nobody set it, transformers writes 1e30."""


def _longest_text(folder: Path) -> float:
    """Return what the tokenizer was told to cut texts to, infinity where nothing was said."""
    path = folder / "tokenizer_config.json"
    if not path.exists():
        return float("inf")
    try:
        return msgspec.json.decode(path.read_bytes(), type=_TokenizerConfig).model_max_length
    except (OSError, msgspec.DecodeError) as error:
        raise ConfigError(f"{path} cannot be read: {error}") from error
