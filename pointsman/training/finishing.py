"""A fitted router → its bundle: what bert, sw_ranking and causal_llm do alike at the end.

::

    held-out prompts → Platt → percentiles, golden win rates, figures → bundle
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from pointsman.errors import ConfigError
from pointsman.extras import needed_from
from pointsman.routers.base import Router
from pointsman.routers.bulk import win_rates
from pointsman.routers.bundle import read_manifest
from pointsman.routers.embedding import EmbedderSettings
from pointsman.routers.log_odds import Platt, log_odds, sigmoid
from pointsman.routing import ModelPair
from pointsman.training.augmentation import STEPS_SOURCE
from pointsman.training.bundling import write_bundle
from pointsman.training.calibrate import HeldOut, fit_platt
from pointsman.training.datasets import Outcomes
from pointsman.training.figures import Rate, figures_on, precision_figures, twin_figures
from pointsman.training.finetune import TrainingCurve
from pointsman.training.golden import GOLDEN_PROMPTS, golden_from
from pointsman.training.preparation import Material
from pointsman.training.settings import TrainSettings

if TYPE_CHECKING:  # matplotlib is installed where pictures are asked for
    from pointsman.training.report import Losses

logger = logging.getLogger(__name__)

ENOUGH_OUTCOMES = 200
"""Held-out outcomes of the training pair from which on they calibrate alone; with fewer, those of
all pairs do."""


@dataclass(frozen=True, kw_only=True)
class Calibrated:
    """Platt's line, and the outcomes that it was fitted to under it."""

    platt: Platt
    held_out: HeldOut


def calibrate(
    outcomes: Outcomes, held_out: NDArray[np.bool_], pair: ModelPair, rate: Rate
) -> Calibrated:
    """Return the line that makes win rates probabilities that the weak model falls short.

    Args:
        outcomes: what was read.
        held_out: bool[p]: prompts that the fit has not seen.
        pair: whose outcomes to calibrate on.
        rate: the router, uncalibrated, as served.

    Raises:
        ConfigError: nothing is held out, or the router is upside down there.
    """
    prompts, targets = held_out_outcomes(outcomes, held_out, pair)
    if not len(prompts):
        raise ConfigError("no outcome is held out to calibrate on; bring more data")
    used, inverse = np.unique(prompts, return_inverse=True)
    rates = rate([outcomes.prompts[prompt] for prompt in used]).astype(np.float64)
    values = log_odds(rates)[inverse.ravel()]
    # Platt's own guard against rates of 0 and 1 where few outcomes are all in order.
    wins = targets.sum()
    lowest, highest = 1.0 / (len(targets) - wins + 2.0), (wins + 1.0) / (wins + 2.0)
    smoothed = lowest + (highest - lowest) * targets
    scale, bias = fit_platt(values, smoothed, np.ones(len(values)))
    platt = Platt(scale=scale, bias=bias)
    held = HeldOut(rates=sigmoid(platt.apply(values)), outcomes=targets)
    return Calibrated(platt=platt, held_out=held)


def held_out_outcomes(
    outcomes: Outcomes, held_out: NDArray[np.bool_], pair: ModelPair
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Return prompt and target (weak falls short) of each held-out outcome to calibrate on."""
    signals = np.asarray([source == STEPS_SOURCE for source in outcomes.sources])
    usable = held_out[outcomes.prompt_index] & ~signals[outcomes.source_index]
    of_pair = usable & np.asarray(
        [
            (strong, weak) == (pair.strong, pair.weak)
            for strong, weak in zip(outcomes.strong_models, outcomes.weak_models, strict=True)
        ]
    )
    rows = of_pair if of_pair.sum() >= ENOUGH_OUTCOMES else usable
    return outcomes.prompt_index[rows], 1.0 - outcomes.weak_scores[rows]


def finish(
    settings: TrainSettings,
    material: Material,
    *,
    kind: str,
    embedder: EmbedderSettings,
    contents: Mapping[str, bytes],
    rate: Rate,
    controls: Mapping[str, Rate] | None = None,
    served: Router,
    unquantized: Router,
    held_out: HeldOut,
    curves: Sequence[TrainingCurve] = (),
) -> Path:
    """Measure a fitted router, write its bundle and, if asked for, its report; return the folder.

    Args:
        settings: where to, under which name, and whether to draw a report.
        material: what it was trained on, and the prompts it is measured on.
        kind: of router, and its name unless the settings have another.
        embedder: limits of the graph.
        contents: role → content, without the training prompts' digests.
        rate: win rates of many prompts: those of ``served``, which may be remembered.
        controls: other routers to measure beside it, by the words that tell them apart.
        served: the router exactly as it will be loaded.
        unquantized: the same weights over the graph before quantisation.
        held_out: outcomes it was calibrated on.
        curves: of its trainings, for the report.
    """
    rate = functools.cache(rate)  # the report asks again
    calibration_rates = rate(material.calibration).astype(np.float64)
    figures = figures_on(material.tests, {kind: rate, **(controls or {})})
    figures |= twin_figures(kind, settings.twins)
    figures |= precision_figures(material.tests, rate, in_parallel(unquantized))
    figures["expected calibration error, held-out prompts"] = f"{held_out.error():.3f}"
    for name, figure in figures.items():
        logger.info("%s: %s", name, figure)
    golden = golden_from(
        served=served.strong_win_rates(GOLDEN_PROMPTS),
        float32=unquantized.strong_win_rates(GOLDEN_PROMPTS),
    )
    folder = write_bundle(
        kind=kind,
        name=settings.name or kind,
        pair=settings.pair,
        embedder=embedder,
        contents={**contents, "training_prompts": material.training_prompts()},
        data=material.outcomes.describe(),
        seed=settings.seed,
        figures=figures,
        calibration=(material.calibration_description, calibration_rates),
        golden=golden,
        out=settings.out,
    )
    if settings.report:
        manifest = read_manifest(folder)
        with needed_from("eval", "--report"):
            from pointsman.training.report import TrainingReport, write_report
        report = TrainingReport(
            name=manifest.name,
            revision=manifest.revision,
            held_out=held_out,
            calibration=material.calibration_description,
            calibration_rates=calibration_rates,
            tests=[(test, rate(test.prompts).astype(np.float64)) for test in material.tests],
            curves=[line for number, curve in enumerate(curves) for line in _lines(curve, number)],
            figures=figures,
        )
        write_report(report, settings.report)
    return folder


def _lines(curve: TrainingCurve, number: int) -> Iterator[Losses]:
    from pointsman.training.report import Losses

    parts = {"trained on": curve.training_losses, "held out": curve.held_out_losses}
    for name, losses in parts.items():
        if losses:
            yield Losses(name=f"{name}, training {number + 1}", steps=curve.steps, losses=losses)


def in_parallel(router: Router) -> Rate:
    """Return what scores many prompts on all cores, with a bar."""

    def rate(prompts: Sequence[str]) -> NDArray[np.float32]:
        rates = tqdm(
            win_rates(router, prompts),
            total=len(prompts),
            desc="scoring",
            disable=None,
            leave=False,
        )
        return np.fromiter(rates, dtype=np.float32, count=len(prompts))

    return rate
