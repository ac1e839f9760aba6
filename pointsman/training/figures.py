"""A trained router → the figures of its manifest, with intervals and beside their controls."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pointsman.errors import ConfigError
from pointsman.evaluation.benchmarks import BENCHMARKS, Benchmark, load_benchmark
from pointsman.evaluation.metrics import Interval, apgr, bootstrap_apgr
from pointsman.evaluation.preferences import preference_benchmark
from pointsman.routers.bundle import read_manifest
from pointsman.training.benchmark_labels import MMLU_SOURCE
from pointsman.training.datasets import CALIBRATION_SOURCES

Rate = Callable[[Sequence[str]], NDArray[np.float32] | NDArray[np.float64]]
"""n prompts → float[n], strong win rates."""

_NUMBER = re.compile(r"[0-9]*\.[0-9]+")

PRECISION_PROMPTS = 1500
"""Prompts of a test set that are scored in both precisions; float32 takes twice as long."""

RANDOM_DRAWS = 400
"""Draws of the random control: their mean, and where 95 % of them lie, tell what luck can do."""


def figures_on(tests: Sequence[Benchmark], rates: Mapping[str, Rate]) -> dict[str, str]:
    """Return APGR with 95 % bootstrap intervals over prompts, as text by what was measured.

    Prompt length alone and random win rates stand beside.

    Args:
        tests: test sets that nothing was trained on.
        rates: what to measure, by the words that tell it apart.
    """
    figures: dict[str, str] = {}
    for test in tests:
        found = {name: rate(test.prompts).astype(np.float64) for name, rate in rates.items()}
        found["prompt length"] = np.asarray([float(len(prompt)) for prompt in test.prompts])
        for name, values in found.items():
            interval = bootstrap_apgr(values, test.weak_scores, test.strong_scores, seed=0)
            figures[f"APGR {test.name}, {name}"] = str(interval)
        figures[f"APGR {test.name}, random (mean and range of draws)"] = str(_random_draws(test))
    return figures


def precision_figures(
    tests: Sequence[Benchmark], served: Rate, unquantized: Rate
) -> dict[str, str]:
    """Return what int8 costs, as text by test set: APGR before and after, and Spearman's rank.

    Args:
        tests: of each at most `PRECISION_PROMPTS` are scored, evenly spread.
        served: the router as it is served.
        unquantized: the same weights over the float32 graph.
    """
    figures: dict[str, str] = {}
    for test in tests:
        rows = np.unique(
            np.linspace(0, len(test.prompts) - 1, PRECISION_PROMPTS).round().astype(np.int64)
        )
        prompts = tuple(test.prompts[row] for row in rows)
        rates = [rate(prompts).astype(np.float64) for rate in (served, unquantized)]
        weak, strong = test.weak_scores[rows], test.strong_scores[rows]
        after, before = (apgr(values, weak, strong) for values in rates)
        if len(rows) < 2:
            continue  # one prompt has no rank
        first, second = (values.argsort().argsort() for values in rates)
        agreement = np.corrcoef(first, second)[0, 1]
        figures[f"int8 and float32 on {len(rows)} prompts of {test.name}"] = (
            f"APGR {after:.3f} and {before:.3f}, Spearman {agreement:.4f}"
        )
    return figures


def twin_figures(kind: str, twins: Sequence[Path]) -> dict[str, str]:
    """Return what twins reach on MMLU, for a router that was trained on all of its labels.

    A twin is the same router trained by the same recipe on fewer labels. Twins with as many labels,
    to the nearest hundred, differ in which ones; their figures and intervals are averaged. (Of
    those drawn, the ones that nearly equal another question of the test set are left out.)

    Args:
        kind: of the router.
        twins: folders of bundles.

    Raises:
        ConfigError: a folder holds no bundle, or one without a figure on MMLU.
    """
    by_labels: defaultdict[int, list[tuple[float, ...]]] = defaultdict(list)
    for folder in twins:
        manifest = read_manifest(folder)
        claim = manifest.figures.get(f"APGR mmlu, {kind}")
        if claim is None:
            raise ConfigError(f"the twin {folder} has no figure on MMLU for {kind}")
        labels = sum(source.rows for source in manifest.data if source.name == MMLU_SOURCE)
        by_labels[round(labels, -2)].append(
            tuple(float(number) for number in _NUMBER.findall(claim)[:3])
        )
    figures = {}
    for labels, found in sorted(by_labels.items()):
        value, low, high = np.mean(found, axis=0)
        of = f", mean of {len(found)} draws" if len(found) > 1 else ""
        some = f"about {labels}" if labels else "none"
        name = f"APGR mmlu, {kind} twin trained on {some} of its labels{of}"
        figures[name] = str(Interval(value=float(value), low=float(low), high=float(high)))
    return figures


def held_out_sets(data: Path) -> list[Benchmark]:
    """Return the benchmarks that ``data`` has, and judged chats; trainings keep away from both.

    Args:
        data: the folder that holds ``benchmarks/`` and ``preferences/``.

    Raises:
        ConfigError: the chats cannot be read, or a benchmark is damaged.
    """
    found = []
    for name in BENCHMARKS:
        try:
            found.append(load_benchmark(name, data))
        except ConfigError as error:
            # A data folder need not hold them; what it holds must be whole.
            if not isinstance(error.__cause__, FileNotFoundError):
                raise
    chats = [preference_benchmark(source, data) for source in CALIBRATION_SOURCES]
    return found + [replace(chat, name=f"judged chat {chat.name}") for chat in chats]


def _random_draws(test: Benchmark) -> Interval:
    generator = np.random.default_rng(0)
    values = [
        apgr(generator.random(len(test.prompts)), test.weak_scores, test.strong_scores)
        for _ in range(RANDOM_DRAWS)
    ]
    low, high = np.quantile(values, [0.025, 0.975])
    return Interval(value=float(np.mean(values)), low=float(low), high=float(high))
