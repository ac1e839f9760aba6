"""`pointsman train mf`: from data on disk to the bundle that the scorer serves, in one run.

::

    encoder → int8 ONNX graph → embeddings → clean outcomes → bilinear form
            → Platt on held-out folds → figures, percentiles, golden win rates → bundle
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pointsman.evaluation.benchmarks import protected_prompts
from pointsman.routers.bundle import file_entry, prompt_digest, save_bundle
from pointsman.routers.embedding import Embedder
from pointsman.routers.manifest import (
    QUANTILE_COUNT,
    Calibration,
    DataSource,
    Golden,
    Manifest,
    TrainingPair,
    revision_of,
)
from pointsman.routers.mf import BilinearWeights, MatrixFactorizationRouter, sigmoid
from pointsman.routing import ModelPair
from pointsman.training.augmentation import (
    STEPS_SOURCE,
    is_form,
    protected_forms,
    with_question_forms,
    with_solution_steps,
)
from pointsman.training.bilinear import (
    Examples,
    FitSettings,
    expected_calibration_error,
    fit_bilinear,
    fit_platt,
)
from pointsman.training.datasets import (
    CALIBRATION_SOURCES,
    SOURCES,
    Outcomes,
    calibration_prompts,
    read_outcomes,
    without_protected,
)
from pointsman.training.encoder import Encoder, TrainingTexts, make_encoder
from pointsman.training.export import Pooling, installed_encoder
from pointsman.training.figures import quality_figures
from pointsman.training.golden import GOLDEN_PROMPTS, golden_from

logger = logging.getLogger(__name__)

PAIR = ModelPair(strong="gpt-4o-2024-05-13", weak="mixtral-8x7b-instruct-v0.1")
"""The pair with the most outcomes among the data that may be trained on. Of RouteLLM's pair,
gpt-4-1106-preview has none outside the prompts held out for calibration."""

POOLING = Pooling(mean_layers=(4, 2, 1), deviation_layers=(6,))
"""1536 numbers from one forward pass; chosen by leaving whole subjects out. The last layer's own
mean, trained for topic, did not help: difficulty lies lower."""

FOLDS = 5
"""Parts by question; win rates are calibrated on the part each fit did not see."""

STEPS_WEIGHT = 0.5
"""Weight of one prompt of the step signal against one with outcomes. More lifts arithmetic and
lowers knowledge questions and chat; see docs/training-log.md."""

FORM_WEIGHT = 0.3
"""Weight of another form of a question against the question as it was asked."""


@dataclass(frozen=True, kw_only=True)
class TrainSettings:
    """What `pointsman train mf` may be told, and what it does untold."""

    data: Path
    """Folder that holds ``preferences/`` and, where there are any, ``benchmarks/`` and
    ``extra/``. Benchmarks are read to keep away from them and to report figures."""

    out: Path
    """Bundles folder: the bundle is written to ``<out>/mf``, its files to ``<out>/blobs``."""

    cache: Path | None
    """Folder for embeddings between runs, about 4 kB a text; None keeps none."""

    encoder: Path = field(default_factory=installed_encoder)
    """Folder of a BERT encoder in Hugging Face's layout."""

    seed: int = 0
    pair: ModelPair = PAIR
    pooling: Pooling = POOLING
    max_tokens: int = 256
    """512 was worth 0.003 APGR on MMLU and nothing elsewhere, for twice the worst latency."""

    fit: FitSettings = field(default_factory=FitSettings)


def train_mf(settings: TrainSettings) -> Path:
    """Train, calibrate, measure and write the bundle; return its folder.

    The same data, seed and machine give the same bundle.

    Raises:
        ConfigError: data or encoder cannot be read.
        ValueError: the fit is upside down on held-out prompts; there is nothing to ship then.
    """
    fit = replace(settings.fit, seed=settings.seed)
    encoder = make_encoder(settings.encoder, settings.pooling, settings.max_tokens)
    embedder = Embedder(encoder.served, encoder.tokenizer, encoder.settings)
    embeddings = TrainingTexts(encoder, settings.cache)
    calibration = calibration_prompts(settings.data)
    outcomes = _clean_outcomes(settings, calibration, embeddings)
    examples = _examples(outcomes, embeddings.embed(outcomes.prompts))
    log_odds = _held_out_log_odds(examples, outcomes, settings.pair, fit)
    (scale, bias), error = _calibrate(log_odds, outcomes, settings.pair)
    weights = fit_bilinear(examples, fit, "final fit")
    center = float(
        examples.embeddings.mean(axis=0).astype(np.float64) @ weights.collapse(settings.pair)[0]
    )
    weights = replace(weights, scale=scale, bias=bias - scale * center)
    router = MatrixFactorizationRouter(embedder, weights, settings.pair)
    shuffled = replace(examples, targets=_shuffled(examples, outcomes, settings.seed))
    control = fit_bilinear(shuffled, fit, "control on shuffled labels")
    routers = {
        "mf": router,
        "mf on shuffled labels": MatrixFactorizationRouter(embedder, control, settings.pair),
    }
    figures = quality_figures(settings.data, embeddings.embed, routers)
    figures["expected calibration error, held-out folds of the training pair"] = f"{error:.3f}"
    for name, figure in figures.items():
        logger.info("%s: %s", name, figure)
    contents = {
        "encoder": encoder.served,
        "tokenizer": encoder.tokenizer,
        "weights": weights.to_bytes(),
        "training_prompts": b"".join(sorted({prompt_digest(text) for text in outcomes.prompts})),
    }
    rates = router.win_rates_of(embeddings.embed(calibration)).astype(np.float64)
    manifest = _manifest(
        settings,
        encoder,
        contents,
        data=outcomes.describe(),
        calibration_rates=rates,
        golden=_golden(encoder, weights, settings.pair),
        figures=figures,
    )
    return save_bundle(manifest, contents, settings.out)


def _clean_outcomes(
    settings: TrainSettings, calibration: Sequence[str], embeddings: TrainingTexts
) -> Outcomes:
    """Return everything that may be trained on, test and calibration prompts kept away from."""
    names = [source.name for source in SOURCES if _file(settings.data, source.name).exists()]
    outcomes = with_question_forms(read_outcomes(settings.data, names))
    outcomes = with_solution_steps(outcomes, settings.data, settings.pair)
    protected = protected_forms(chain(_test_prompts(settings.data), calibration))
    outcomes, dropped = without_protected(outcomes, protected, embeddings.sentences)
    logger.info(
        "prompts kept %d, dropped near test or calibration %d", len(outcomes.prompts), dropped
    )
    return outcomes


def _examples(outcomes: Outcomes, embedded: NDArray[np.float32]) -> Examples:
    """Return soft labels: the strong model is needed as far as the weak one failed."""
    names = tuple(sorted({*outcomes.strong_models, *outcomes.weak_models}))
    number = {name: index for index, name in enumerate(names)}
    # A prompt counts once per source, however many pairs were tried on it.
    key = outcomes.source_index * len(outcomes.prompts) + outcomes.prompt_index
    _, inverse, counts = np.unique(key, return_inverse=True, return_counts=True)
    importance = np.asarray([_importance(source) for source in outcomes.sources])
    return Examples(
        embeddings=embedded,
        prompt_index=outcomes.prompt_index,
        strong_index=np.asarray([number[name] for name in outcomes.strong_models]),
        weak_index=np.asarray([number[name] for name in outcomes.weak_models]),
        source_index=outcomes.source_index,
        targets=1.0 - outcomes.weak_scores,
        weights=importance[outcomes.source_index] / counts[inverse],
        model_names=names,
    )


def _importance(source: str) -> float:
    if source == STEPS_SOURCE:
        return STEPS_WEIGHT
    return FORM_WEIGHT if is_form(source) else 1.0


def _held_out_log_odds(
    examples: Examples, outcomes: Outcomes, pair: ModelPair, fit: FitSettings
) -> NDArray[np.float64]:
    """Return float64[p]: the pair's log-odds for each prompt, by a fit that never saw it.

    Relative to those of the mean embedding: each fit has its own zero, for its intercepts stay
    behind, so that raw log-odds of two fits cannot be compared.
    """
    generator = np.random.default_rng(fit.seed)
    fold_of_root = generator.integers(0, FOLDS, int(outcomes.roots.max()) + 1)
    folds = fold_of_root[outcomes.roots]
    centered = (examples.embeddings - examples.embeddings.mean(axis=0)).astype(np.float64)
    log_odds = np.empty(len(outcomes.prompts))
    for fold in range(FOLDS):
        train = examples.subset(folds[examples.prompt_index] != fold)
        weights = fit_bilinear(train, fit, f"fold {fold + 1} of {FOLDS}")
        vector, _ = weights.collapse(pair)
        log_odds[folds == fold] = centered[folds == fold] @ vector
    return log_odds


def _calibrate(
    log_odds: NDArray[np.float64], outcomes: Outcomes, pair: ModelPair
) -> tuple[tuple[float, float], float]:
    """Return Platt's (scale, bias) and the calibration error, on held-out folds.

    The outcome is that the weak model's answer fell short, which is what the form was fitted to.
    That both fall short counts for the strong model; with such pairs as ties the same order of
    prompts is squeezed into fewer win rates (docs/training-log.md, 6).
    """
    real = np.asarray(
        [
            strong == pair.strong and weak == pair.weak and outcomes.sources[source] != STEPS_SOURCE
            for strong, weak, source in zip(
                outcomes.strong_models, outcomes.weak_models, outcomes.source_index, strict=True
            )
        ]
    )
    held_out = log_odds[outcomes.prompt_index[real]]
    won = 1.0 - outcomes.weak_scores[real]
    scale, bias = fit_platt(held_out, won, np.ones(len(won)))
    return (scale, bias), expected_calibration_error(sigmoid(scale * held_out + bias), won)


def _shuffled(examples: Examples, outcomes: Outcomes, seed: int) -> NDArray[np.float64]:
    """Return the targets, permuted among the outcomes of each source."""
    generator = np.random.default_rng(seed)
    targets = examples.targets.copy()
    for source in range(len(outcomes.sources)):
        rows = np.flatnonzero(outcomes.source_index == source)
        targets[rows] = targets[generator.permutation(rows)]
    return targets


def _golden(encoder: Encoder, weights: BilinearWeights, pair: ModelPair) -> Golden:
    def rates(graph: bytes) -> NDArray[np.float32]:
        embedder = Embedder(graph, encoder.tokenizer, encoder.settings)
        return MatrixFactorizationRouter(embedder, weights, pair).strong_win_rates(GOLDEN_PROMPTS)

    return golden_from(served=rates(encoder.served), float32=rates(encoder.float32))


def _manifest(
    settings: TrainSettings,
    encoder: Encoder,
    contents: dict[str, bytes],
    *,
    data: tuple[DataSource, ...],
    calibration_rates: NDArray[np.float64],
    golden: Golden,
    figures: dict[str, str],
) -> Manifest:
    suffixes = {
        "encoder": ".onnx",
        "tokenizer": ".json",
        "weights": ".npz",
        "training_prompts": ".digests",
    }
    files = {role: file_entry(data, suffixes.get(role, "")) for role, data in contents.items()}
    pair = TrainingPair(strong=settings.pair.strong, weak=settings.pair.weak)
    quantiles = np.quantile(calibration_rates, np.linspace(0.0, 1.0, QUANTILE_COUNT))
    return Manifest(
        format_version=1,
        name="mf",
        kind="mf",
        revision=revision_of("mf", pair, encoder.settings, files),
        training_pair=pair,
        embedder=encoder.settings,
        data=data,
        seed=settings.seed,
        figures=figures,
        calibration=Calibration(
            description=f"distinct first user turns of {' and '.join(CALIBRATION_SOURCES)}",
            prompts=len(calibration_rates),
            # Quantiles may fall by a rounding error where win rates tie.
            quantiles=tuple(np.maximum.accumulate(quantiles).tolist()),
        ),
        golden=golden,
        files=files,
    )


def _file(data: Path, source: str) -> Path:
    return data / "preferences" / f"{source}.jsonl.gz"


def _test_prompts(data: Path) -> Iterator[str]:
    if (data / "benchmarks").is_dir():
        yield from protected_prompts(data)
