"""`pointsman train mf`: from data on disk to the bundle that the scorer serves, in one run.

::

    encoder → int8 ONNX graph → embeddings → clean outcomes → weights for each form of prompt
            → Platt on held-out folds → figures, percentiles, golden win rates → bundle
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pointsman.routers.base import EmbeddingRouter
from pointsman.routers.embedding import Embedder
from pointsman.routers.forms import FORMS, FormRouter
from pointsman.routers.kernel import KernelWeights
from pointsman.routers.log_odds import Platt, sigmoid
from pointsman.routers.mf import MatrixFactorizationRouter
from pointsman.training.bilinear import Examples, FitSettings, tiers_of
from pointsman.training.calibrate import HeldOut, fit_platt
from pointsman.training.datasets import Outcomes, source_weights
from pointsman.training.encoder import make_encoder, pooling_of, token_limit, tuned_head
from pointsman.training.export import installed_encoder
from pointsman.training.figures import Rate
from pointsman.training.finishing import finish, held_out_outcomes
from pointsman.training.forms import OPEN
from pointsman.training.labels import source_importance
from pointsman.training.mixture import Curriculum, Mixture, curriculum_of
from pointsman.training.preparation import prepare
from pointsman.training.settings import Balance, TrainSettings

FOLDS = 3
"""Parts by question; win rates are calibrated on the part each fit did not see."""


@dataclass(frozen=True, kw_only=True)
class MfRecipe:
    """What `train mf` does untold; docs/training-log.md says why."""

    max_tokens: int = 256
    """512 was worth 0.003 APGR on MMLU and nothing elsewhere, for twice the worst latency."""

    fit: FitSettings = field(default_factory=FitSettings)
    """Of the open form; those of the others are in `mixture`."""


def train_mf(settings: TrainSettings, recipe: MfRecipe | None = None) -> Path:
    """Train, calibrate, measure and write the bundle; return its folder.

    The same data, seed and machine give the same bundle.

    Raises:
        ConfigError: data or encoder cannot be read.
        ValueError: the fit is upside down on held-out prompts; there is nothing to ship then.
    """
    recipe = recipe or MfRecipe()
    folder = settings.encoder or installed_encoder()
    max_tokens = min(recipe.max_tokens, token_limit(folder))
    encoder = make_encoder(folder, pooling_of(folder), max_tokens)
    embedder, embeddings = encoder.embedder(), encoder.cached(settings.cache)
    material = prepare(settings)
    outcomes = material.outcomes
    examples = _examples(outcomes, embeddings.embed(outcomes.prompts), settings.balance)
    head = tuned_head(folder)
    curriculum = curriculum_of(
        outcomes,
        examples,
        replace(recipe.fit, seed=settings.seed),
        judgements=head.log_odds(examples.embeddings) if head else None,
    )
    platt, held_out = _calibrate(curriculum, outcomes, settings)
    mixture = curriculum.fit(settings.pair, "final fit").calibrated(platt)
    control = curriculum.shuffled(settings.seed).fit(settings.pair, "control on shuffled labels")

    def router(embedder: Embedder, mixture: Mixture) -> EmbeddingRouter:
        if mixture.gate is None:
            return MatrixFactorizationRouter(embedder, mixture.open, settings.pair)
        return FormRouter(embedder, mixture.gate, mixture.weights, settings.pair)

    def rate(mixture: Mixture) -> Rate:
        return lambda prompts: router(embedder, mixture).win_rates_of(embeddings.embed(prompts))

    return finish(
        settings,
        material,
        kind="mf",
        embedder=encoder.settings,
        contents={
            "encoder": encoder.served,
            "tokenizer": encoder.tokenizer,
            **_contents(mixture),
        },
        rate=rate(mixture),
        controls={"mf on shuffled labels": rate(control)},
        served=router(embedder, mixture),
        unquantized=router(encoder.unquantized(), mixture),
        held_out=held_out,
    )


def _contents(mixture: Mixture) -> dict[str, bytes]:
    """Return the mixture's files by role."""
    contents = {"weights": mixture.open.to_bytes()}
    for form, weights in zip(FORMS[1:], mixture.others, strict=False):
        shape = "kernel" if isinstance(weights, KernelWeights) else "weights"
        contents[f"{shape}_{form}"] = weights.to_bytes()
    if mixture.gate is not None:
        contents["gate"] = mixture.gate.to_bytes()
    return contents


def _examples(outcomes: Outcomes, embedded: NDArray[np.float32], balance: Balance) -> Examples:
    """Return soft labels: the strong model is needed as far as the weak one failed."""
    names = tuple(sorted({*outcomes.strong_models, *outcomes.weak_models}))
    number = {name: index for index, name in enumerate(names)}
    # A prompt counts once per source, however many pairs were tried on it.
    key = outcomes.source_index * len(outcomes.prompts) + outcomes.prompt_index
    _, inverse, counts = np.unique(key, return_inverse=True, return_counts=True)
    importance = np.asarray([source_importance(source) for source in outcomes.sources])
    importance = importance * source_weights(outcomes, balance)
    strong_index = np.asarray([number[name] for name in outcomes.strong_models])
    weak_index = np.asarray([number[name] for name in outcomes.weak_models])
    weights = importance[outcomes.source_index] / counts[inverse]
    return Examples(
        embeddings=embedded,
        prompt_index=outcomes.prompt_index,
        strong_index=strong_index,
        weak_index=weak_index,
        source_index=outcomes.source_index,
        targets=1.0 - outcomes.weak_scores,
        weights=weights,
        model_names=names,
        tiers=tiers_of(strong_index, weak_index, weights),
    )


def _calibrate(
    curriculum: Curriculum, outcomes: Outcomes, settings: TrainSettings
) -> tuple[Platt, HeldOut]:
    """Return Platt's line of the open form, and the outcomes of held-out folds under it.

    The outcome is that the weak model's answer fell short, which is what the open form was fitted
    to. That both fall short counts for the strong model; with such pairs as ties the same order of
    prompts is squeezed into fewer win rates (docs/training-log.md, 6). The other forms have the
    open form's level and spread, so its line is theirs too.
    """
    open_prompts = curriculum.forms == OPEN
    prompts, won = held_out_outcomes(outcomes, open_prompts, settings.pair)
    if not len(prompts):
        prompts, won = held_out_outcomes(outcomes, ~open_prompts, settings.pair)
    values = _held_out_log_odds(curriculum, outcomes, settings)[prompts]
    scale, bias = fit_platt(values, won, np.ones(len(won)))
    platt = Platt(scale=scale, bias=bias)
    return platt, HeldOut(rates=sigmoid(platt.apply(values)), outcomes=won)


def _held_out_log_odds(
    curriculum: Curriculum, outcomes: Outcomes, settings: TrainSettings
) -> NDArray[np.float64]:
    """Return float64[p]: the open form's log-odds, by fits that never saw the prompt.

    Each fit has its own zero, for its intercepts stay behind; `fit_open` puts it where the
    mean prompt is, so that folds can be compared.
    """
    generator = np.random.default_rng(settings.seed)
    fold_of_root = generator.integers(0, FOLDS, int(outcomes.roots.max()) + 1)
    folds = fold_of_root[outcomes.roots]
    embeddings = curriculum.examples[OPEN].embeddings
    log_odds = np.empty(len(outcomes.prompts))
    for fold in range(FOLDS):
        inside = folds == fold
        weights = curriculum.fit_open(settings.pair, f"fold {fold + 1} of {FOLDS}", ~inside)
        vector, bias = weights.collapse(settings.pair)
        log_odds[inside] = embeddings[inside].astype(np.float64) @ vector + bias
    return log_odds
