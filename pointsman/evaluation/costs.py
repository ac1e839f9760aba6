"""Quality over cost instead of over strong share: what calls cost, and RouterBench's area.

A call to a cheap model saves more on a long prompt than on a short one, which strong share does
not see.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pointsman.errors import ConfigError
from pointsman.evaluation.benchmarks import Benchmark
from pointsman.evaluation.methods import Outcomes
from pointsman.evaluation.metrics import gains_at_cuts
from pointsman.models_file import ModelsFile
from pointsman.prices import CHARACTERS_PER_TOKEN
from pointsman.routing import quote

OUTPUT_TOKENS = 264
"""Tokens of an answer, on average, that RouteLLM's paper reckons with (arXiv:2406.18665)."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Costs:
    """What both models' answers cost."""

    weak: NDArray[np.float64]
    """float64[n], US dollars."""
    strong: NDArray[np.float64]
    """float64[n], US dollars."""
    source: str
    """How they are known, in words."""


def known_costs(
    benchmark: Benchmark, models: ModelsFile | None, *, output_tokens: int = OUTPUT_TOKENS
) -> Costs | None:
    """Returns what the benchmark's answers cost, or an estimate by the models' prices, or None.

    Raises:
        ConfigError: The benchmark has no costs and the models file lacks one of its models.
    """
    if benchmark.weak_costs is not None and benchmark.strong_costs is not None:
        return Costs(
            weak=benchmark.weak_costs, strong=benchmark.strong_costs, source="as the data says"
        )
    if models is None:
        return None
    return Costs(
        weak=_estimated(benchmark.pair.weak, benchmark, models, output_tokens),
        strong=_estimated(benchmark.pair.strong, benchmark, models, output_tokens),
        source=f"an estimate: list prices, {CHARACTERS_PER_TOKEN} characters of prompt a token, "
        f"{output_tokens} tokens an answer",
    )


def _estimated(
    model: str, benchmark: Benchmark, models: ModelsFile, output_tokens: int
) -> NDArray[np.float64]:
    settings = models.models.get(model)
    if settings is None:
        raise ConfigError(
            f"the models file has no model {quote(model)}, whose answers {benchmark.name} grades; "
            f"add it with its prices, beside {', '.join(map(quote, models.models))}"
        )
    input_tokens = np.asarray([len(p) / CHARACTERS_PER_TOKEN for p in benchmark.prompts])
    return (
        input_tokens * settings.input_price_per_million
        + output_tokens * settings.output_price_per_million
    ) / 1e6


def aiq(rates: NDArray[np.float64], outcomes: Outcomes, costs: Costs) -> float:
    """Returns RouterBench's average improvement in quality, in the unit of the scores.

    AIQ = 1 / (c_max - c_min) * integral from c_min to c_max of q(c) dc (Hu et al. 2024,
    arXiv:2403.12031), where c is the mean cost of a call, c_min and c_max are those of always weak
    and always strong, and q is the non-decreasing convex hull of the router's points: the best
    quality that mixing thresholds reaches for the money, or for less. The hull is chosen on the
    prompts it is measured on, so compare with the mix of both models alone, `mixed_aiq`.

    NaN where the strong model does not cost more.

    Args:
        rates: float64[n], win rates.
        outcomes: n prompts' scores.
        costs: n prompts' costs.
    """
    n = len(rates)
    _, gains = gains_at_cuts(rates, outcomes.strong - outcomes.weak)
    _, dearer = gains_at_cuts(rates, costs.strong - costs.weak)
    points = np.stack(
        [costs.weak.mean() + dearer / n, outcomes.weak.mean() + gains / n], axis=1
    )  # (k, 2)
    return _hull_mean(points, float(costs.weak.mean()), float(costs.strong.mean()))


def mixed_aiq(outcomes: Outcomes, costs: Costs) -> float:
    """Returns AIQ of both models alone, mixed by chance: RouterBench's zero router."""
    return aiq(np.zeros(len(outcomes)), outcomes, costs)


def _hull_mean(points: NDArray[np.float64], lowest: float, highest: float) -> float:
    if not highest > lowest:
        return float("nan")
    hull = _upper_hull(points)
    costs, qualities = hull[:, 0], np.maximum.accumulate(hull[:, 1])
    inside = costs[(costs > lowest) & (costs < highest)]
    grid = np.concatenate([[lowest], inside, [highest]])
    heights = np.interp(grid, costs, qualities)
    return float(np.sum(np.diff(grid) * (heights[:-1] + heights[1:]) / 2.0) / (highest - lowest))


def _upper_hull(points: NDArray[np.float64]) -> NDArray[np.float64]:
    """Returns the corners of the upper convex hull from left to right: one for each cost."""
    hull: list[tuple[float, float]] = []
    for x, y in sorted(map(tuple, points.tolist())):
        if hull and hull[-1][0] == x:
            hull.pop()  # the same cost and no better: sorted by quality
        while len(hull) > 1 and _turns_left(hull[-2], hull[-1], (x, y)):
            hull.pop()
        hull.append((x, y))
    return np.asarray(hull)


def _turns_left(
    first: tuple[float, float], middle: tuple[float, float], last: tuple[float, float]
) -> bool:
    """Returns whether the middle point lies on or under the line between the others."""
    return (middle[0] - first[0]) * (last[1] - first[1]) >= (middle[1] - first[1]) * (
        last[0] - first[0]
    )
