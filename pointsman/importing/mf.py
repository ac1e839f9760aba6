"""RouteLLM's `mf` checkpoint → a bundle: three matrices, renamed and checked."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from pointsman.errors import ConfigError
from pointsman.importing.model_names import ROUTELLM_MODELS
from pointsman.importing.settings import LONGEST_TEXT_TOKENS, ImportSettings
from pointsman.importing.sources import local_path
from pointsman.importing.tensors import read_tensors, tensor_of, weights_file
from pointsman.importing.writing import ImportedFiles, refuse_calibration, write_imported
from pointsman.routers.embedding import EmbedderSettings
from pointsman.routers.mf import BilinearWeights


def import_mf(settings: ImportSettings) -> Path:
    """Write the bundle of an `mf` checkpoint and return its folder.

    Its prompts must be embedded by the model that it was trained on, which the bundle names and
    the configuration says where to find.

    Raises:
        ConfigError: the checkpoint is not one of `mf`, or knows nothing of the pair's models.
    """
    refuse_calibration(settings)
    path = weights_file(
        local_path(
            settings.sources[0], "model", revision=settings.revision, endpoint=settings.endpoint
        )
    )
    weights = read_mf(path)
    weights.collapse(settings.pair)  # refuses a model it has no vector of
    return write_imported(
        settings,
        ImportedFiles(
            kind="mf",
            embedder=EmbedderSettings(
                model=settings.embedding_model,
                dimension=weights.projection.shape[1],
                max_tokens=LONGEST_TEXT_TOKENS,
            ),
            contents={"weights": weights.to_bytes()},
        ),
    )


def read_mf(path: Path) -> BilinearWeights:
    """Return the bilinear form in a file of weights.

    ``P.weight`` float[m, k], ``text_proj.0.weight`` float[k, d] (``text_proj.weight`` where
    training wrote it) and ``classifier.0.weight`` float[1, k]: RouteLLM's are (64, 128),
    (128, 1536) and (1, 128).

    Raises:
        ConfigError: a matrix is missing, has another shape, or m is not the number of names.
    """
    tensors = read_tensors(path)
    vectors = tensor_of(tensors, ("P.weight",), path)  # (m, k)
    projection = tensor_of(tensors, ("text_proj.0.weight", "text_proj.weight"), path)  # (k, d)
    classifier = tensor_of(tensors, ("classifier.0.weight", "classifier.weight"), path)  # (1, k)
    models, rank = len(ROUTELLM_MODELS), vectors.shape[-1]
    dimension = projection.shape[-1]
    for name, matrix, shape in (
        ("P.weight", vectors, (models, rank)),
        ("text_proj.0.weight", projection, (rank, dimension)),
        ("classifier.0.weight", classifier, (1, rank)),
    ):
        if matrix.shape != shape:
            raise ConfigError(
                f"{path}: {name} is {_shown(matrix.shape)} and must be {_shown(shape)}: a vector "
                f"of {rank} numbers for each of RouteLLM's {models} models"
            )
    return BilinearWeights(
        model_names=ROUTELLM_MODELS,
        model_vectors=vectors,
        projection=projection,
        classifier=np.ravel(classifier),
    )


def _shown(shape: tuple[int, ...]) -> str:
    return " by ".join(map(str, shape))
