"""`pointsman train sw_ranking`: every logged outcome becomes a weighted battle of two models.

::

    encoder → int8 ONNX graph → embeddings → clean outcomes → map to few numbers
            → battles, tiers of models → index → Platt on held-out prompts → bundle

Nothing is fitted per request but the Bradley-Terry ratings of the tiers, by the battles of the
prompts that resemble the one that is asked.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pointsman.errors import ConfigError
from pointsman.routers.bradley_terry import FIRST_WON, SECOND_WON, global_ratings, tiers_of
from pointsman.routers.sw_ranking import SimilarityIndex, SimilarityRouter
from pointsman.routing import ModelPair
from pointsman.training.datasets import Outcomes, source_weights
from pointsman.training.encoder import make_encoder, pooling_of, token_limit
from pointsman.training.export import installed_encoder
from pointsman.training.figures import Rate
from pointsman.training.finishing import calibrate, finish
from pointsman.training.labels import held_out_prompts, label_prompts, source_importance
from pointsman.training.preparation import prepare
from pointsman.training.projection import ProjectionSettings, fit_projection
from pointsman.training.settings import Balance, TrainSettings

KIND = "sw_ranking"

STRONG_SHARE = 0.7
"""Of the battles of each source, won by the strong models. Well above half, so that strong and weak
models stand in tiers of their own; Platt's line puts the win rates where they belong."""


@dataclass(frozen=True, kw_only=True)
class RankingRecipe:
    """What `train sw_ranking` does untold; docs/training-log.md says why."""

    projection: ProjectionSettings = field(default_factory=ProjectionSettings)

    sharpness: float = 3.0
    """How much more the nearest prompts weigh: the most similar one weighs 10^sharpness times as
    much as one without likeness. RouteLLM's is 1."""

    tiers: int = 10
    """Groups of models, best first, whose members share a rating; fewer where models are few."""

    held_out_fraction: float = 0.1
    """Part of the questions that calibrates; the index that is served holds them too."""

    max_tokens: int = 256
    """512 was worth 0.003 APGR on MMLU and nothing elsewhere, for twice the worst latency."""


def train_sw_ranking(settings: TrainSettings, recipe: RankingRecipe | None = None) -> Path:
    """Build, calibrate, measure and write the bundle; return its folder.

    The same data and machine give the same bundle; the seed only says what calibrates.

    Raises:
        ConfigError: data or encoder cannot be read, or the pair is not among the data's models.
        ValueError: the router is upside down on held-out prompts; there is nothing to ship then.
    """
    recipe = recipe or RankingRecipe()
    folder = settings.encoder or installed_encoder()
    max_tokens = min(recipe.max_tokens, token_limit(folder))
    encoder = make_encoder(folder, pooling_of(folder), max_tokens)
    embedder, embeddings = encoder.embedder(), encoder.cached(settings.cache)
    material = prepare(settings)
    outcomes = material.outcomes
    held_out = held_out_prompts(outcomes, recipe.held_out_fraction, settings.seed)

    def rate(index: SimilarityIndex) -> Rate:
        router = SimilarityRouter(embedder, index)
        return lambda prompts: router.win_rates_of(embeddings.embed(prompts))

    rest = outcomes.keep_prompts(~held_out)
    partial = build_index(
        rest, embeddings.embed(rest.prompts), settings.pair, recipe, settings.balance
    )
    calibrated = calibrate(outcomes, held_out, settings.pair, rate(partial))
    whole = build_index(
        outcomes, embeddings.embed(outcomes.prompts), settings.pair, recipe, settings.balance
    )
    index = replace(whole, platt=calibrated.platt)
    return finish(
        settings,
        material,
        kind=KIND,
        embedder=encoder.settings,
        contents={
            "encoder": encoder.served,
            "tokenizer": encoder.tokenizer,
            "index": index.to_bytes(),
        },
        rate=rate(index),
        served=SimilarityRouter(embedder, index),
        unquantized=SimilarityRouter(encoder.unquantized(), index),
        held_out=calibrated.held_out,
    )


def build_index(
    outcomes: Outcomes,
    embeddings: NDArray[np.float32],
    pair: ModelPair,
    recipe: RankingRecipe,
    balance: Balance = "none",
) -> SimilarityIndex:
    """Return the uncalibrated index of these outcomes.

    Args:
        outcomes: n outcomes over p prompts.
        embeddings: float32[p, d].
        pair: whose tiers are compared.
        recipe: map, sharpness, tiers.
        balance: how sources of unlike size share the battles.

    Raises:
        ConfigError: a model of the pair has no outcomes.
    """
    battles = soft_battles(outcomes, balance)
    names, numbers = np.unique([*battles.strong_models, *battles.weak_models], return_inverse=True)
    count = len(names)
    first, second = np.split(numbers.ravel(), 2)
    # Each battle twice: as the strong model's win by one weight, as the weak one's by the other.
    first, second = np.tile(first, 2), np.tile(second, 2)
    outcome = np.repeat([FIRST_WON, SECOND_WON], len(battles.prompt_index))
    weights = np.concatenate([battles.strong_weights, battles.weak_weights])
    ratings = global_ratings(first, second, outcome, count, weights=weights)
    tier_count = min(recipe.tiers, count)
    tiers = tiers_of(ratings, tier_count)
    known = dict(zip(names.tolist(), tiers.tolist(), strict=True))
    for model in (pair.strong, pair.weak):
        if model not in known:
            raise ConfigError(
                f"no outcome of {model!r}; the data has: {', '.join(known)}; name the pair with "
                "--strong-model and --weak-model"
            )
    projection = fit_projection(embeddings, levelled_difficulty(outcomes), recipe.projection)
    return SimilarityIndex.build(
        embeddings=embeddings,
        prompt_index=np.tile(battles.prompt_index, 2),
        first_tier=tiers[first],
        second_tier=tiers[second],
        outcome=outcome,
        tier_count=tier_count,
        strong_tier=known[pair.strong],
        weak_tier=known[pair.weak],
        weights=weights,
        mean=projection.mean,
        projection=projection.matrix,
        sharpness=recipe.sharpness,
    )


@dataclass(frozen=True, kw_only=True, eq=False)
class SoftBattles:
    """n battles of two models over a prompt each, by weight."""

    prompt_index: NDArray[np.int64]
    """int64[n]."""

    strong_models: tuple[str, ...]
    weak_models: tuple[str, ...]

    strong_weights: NDArray[np.float64]
    """float64[n]: how much it counts as a win of the strong model."""

    weak_weights: NDArray[np.float64]
    """float64[n]: how much it counts as a win of the weak one."""


def soft_battles(outcomes: Outcomes, balance: Balance = "none") -> SoftBattles:
    """Return the outcomes as battles that the strong model wins as far as the weak one falls short.

    Sources differ in how hard they are as a whole, which says nothing about their prompts: the
    weights are shifted so that the strong models win `STRONG_SHARE` of each.
    """
    key = outcomes.source_index * len(outcomes.prompts) + outcomes.prompt_index
    _, inverse, counts = np.unique(key, return_inverse=True, return_counts=True)
    importance = np.asarray([source_importance(source) for source in outcomes.sources])
    importance = importance * source_weights(outcomes, balance)
    weights = importance[outcomes.source_index] / counts[inverse.ravel()]  # once per source
    strong, weak = weights * (1.0 - outcomes.weak_scores), weights * outcomes.weak_scores
    for source in range(len(outcomes.sources)):
        rows = outcomes.source_index == source
        won, lost = strong[rows].sum(), weak[rows].sum()
        if won > 0 and lost > 0:
            strong[rows] *= STRONG_SHARE * (won + lost) / won
            weak[rows] *= (1.0 - STRONG_SHARE) * (won + lost) / lost
    return SoftBattles(
        prompt_index=outcomes.prompt_index,
        strong_models=outcomes.strong_models,
        weak_models=outcomes.weak_models,
        strong_weights=strong,
        weak_weights=weak,
    )


def levelled_difficulty(outcomes: Outcomes) -> NDArray[np.float64]:
    """Return float64[p]: how surely weak models fall short on each prompt, less its source's mean.

    A prompt of several sources gets the mean of them.
    """
    labels = label_prompts(outcomes)
    values = labels.weak_fails.astype(np.float64)
    for source in np.unique(labels.source_index):
        rows = labels.source_index == source
        values[rows] -= values[rows].mean()
    total = np.bincount(labels.prompt_index, values, minlength=len(outcomes.prompts))
    return total / np.bincount(labels.prompt_index, minlength=len(outcomes.prompts))
