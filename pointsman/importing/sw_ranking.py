"""RouteLLM's data sets of battles and embeddings → a bundle of `sw_ranking`, which trains nothing.

::

    battles → Bradley-Terry over all of them → tiers of models → an index: embedding, tiers, outcome

What the bundle holds of a prompt is its embedding and, to know it again, its SHA-256; no text.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pointsman.errors import ConfigError
from pointsman.importing.battles import Battles, read_battles
from pointsman.importing.settings import LONGEST_TEXT_TOKENS, ImportSettings
from pointsman.importing.sources import local_path
from pointsman.importing.tables import read_vectors
from pointsman.importing.writing import ImportedFiles, refuse_calibration, write_imported
from pointsman.routers.bradley_terry import global_ratings, tiers_of
from pointsman.routers.bundle import prompt_digest
from pointsman.routers.embedding import EmbedderSettings
from pointsman.routers.imported import origin_of
from pointsman.routers.manifest import DataSource
from pointsman.routers.sw_ranking import SimilarityIndex

EMBEDDINGS_COLUMN = "embeddings"
"""In RouteLLM's data sets of embeddings."""


def import_sw_ranking(settings: ImportSettings) -> Path:
    """Write the bundle of some battles and their embeddings, and return its folder.

    Raises:
        ConfigError: a data set cannot be read, battles and embeddings differ in number, or nobody
            of the pair was in a battle.
    """
    refuse_calibration(settings)
    if not settings.embeddings:
        raise ConfigError(
            "sw_ranking needs the battles' embeddings: name their data sets with --embeddings"
        )
    battles = read_battles(_paths(settings, settings.sources))
    vectors = _vectors(_paths(settings, settings.embeddings))
    if len(vectors) != len(battles.prompts):
        raise ConfigError(
            f"there are {len(battles.prompts)} battles over prompts long enough and "
            f"{len(vectors)} embeddings; name both data sets whole and in the same order"
        )
    digests = {prompt_digest(prompt) for prompt in battles.prompts}
    return write_imported(
        settings,
        ImportedFiles(
            kind="sw_ranking",
            embedder=EmbedderSettings(
                model=settings.embedding_model,
                dimension=vectors.shape[1],
                max_tokens=LONGEST_TEXT_TOKENS,
            ),
            contents={
                "index": build_index(battles, vectors, settings).to_bytes(),
                "training_prompts": b"".join(sorted(digests)),
            },
            data=(
                DataSource(
                    name=origin_of(settings.sources),
                    licence="its publisher's",
                    rows=len(battles.prompts),
                    prompts=len(digests),
                ),
            ),
        ),
    )


def build_index(
    battles: Battles, vectors: NDArray[np.float32], settings: ImportSettings
) -> SimilarityIndex:
    """Return the index of n battles with float32[n, d] embeddings of their prompts.

    Raises:
        ConfigError: a model of the pair was in no battle, or there are fewer models than tiers.
    """
    names = sorted({*battles.model_a, *battles.model_b})
    number = {name: index for index, name in enumerate(names)}
    for name in (settings.pair.strong, settings.pair.weak):
        if name not in number:
            raise ConfigError(
                f"{name} was in no battle; name a pair with --strong-model and --weak-model among: "
                f"{', '.join(names)}"
            )
    first = np.asarray([number[name] for name in battles.model_a])
    second = np.asarray([number[name] for name in battles.model_b])
    ratings = global_ratings(first, second, battles.outcome, len(names), compat=settings.compat)
    tiers = tiers_of(ratings, settings.tiers)
    # Equal rows are one prompt; prompts that are equal and were embedded apart stay apart, for
    # endpoints do not always answer alike and RouteLLM takes each battle's own.
    distinct, prompt_index = np.unique(vectors, axis=0, return_inverse=True)
    return SimilarityIndex.build(
        embeddings=distinct,
        prompt_index=prompt_index.ravel(),
        first_tier=tiers[first],
        second_tier=tiers[second],
        outcome=battles.outcome,
        tier_count=settings.tiers,
        strong_tier=int(tiers[number[settings.pair.strong]]),
        weak_tier=int(tiers[number[settings.pair.weak]]),
        compat=settings.compat,
        dtype=np.float32 if settings.precision == "float32" else np.float16,
    )


def _paths(settings: ImportSettings, sources: Sequence[str]) -> list[Path]:
    return [
        local_path(source, "dataset", revision=settings.revision, endpoint=settings.endpoint)
        for source in sources
    ]


def _vectors(paths: Sequence[Path]) -> NDArray[np.float32]:
    parts = [read_vectors(path, EMBEDDINGS_COLUMN) for path in paths]
    widths = [part.shape[1] for part in parts]
    if len(set(widths)) != 1:
        raise ConfigError(f"the data sets have embeddings of {widths} numbers; name one model's")
    return np.concatenate(parts)
