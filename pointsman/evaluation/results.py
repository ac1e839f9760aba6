"""What an evaluation comes to, as typed values: JSON is these structs, encoded.

Strong shares and CPT are in [0, 1], scores in the benchmark's unit, costs in US dollars. A figure
that is undefined is NaN here and null in JSON.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from pointsman.evaluation.methods import MetricMode
from pointsman.evaluation.metrics import Interval

Outcome = Literal["beats", "worse", "no difference shown", "undefined"]


class Figures(msgspec.Struct, frozen=True, kw_only=True):
    """What one way of ordering the prompts is worth."""

    name: str
    apgr: Interval
    """Area under PGR; of controls that are drawn, the mean and the range of the draws."""
    auc: float
    """Area under the score over strong share, in the benchmark's unit."""
    cpt: dict[str, float]
    """Percent of the gap between the models → strong share that reaches it."""
    aiq: float | None = None
    """RouterBench's area over cost, in the benchmark's unit; None where costs are unknown."""


class Line(msgspec.Struct, frozen=True, kw_only=True):
    """One threshold and what it does."""

    threshold: float
    score: float
    strong_calls: int
    weak_calls: int
    strong_share: float


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """Whether a router is better than a control, by a paired bootstrap over prompts."""

    against: str
    outcome: Outcome
    difference: Interval
    """Of APGR, router minus control; says nothing where the outcome is undefined."""
    text: str
    """The same in one sentence."""


class RouterResult(Figures, frozen=True, kw_only=True):
    """One router."""

    revision: str
    verdicts: list[Verdict]
    trained_on: int | None
    """How many of the benchmark's prompts the router trained on; None where nobody knows."""
    thresholds: list[Line]


class ControlResult(Figures, frozen=True, kw_only=True):
    """One control: what costs nothing to do instead."""

    description: str
    score: float | None = None
    """Of a control that is one point and no curve."""
    strong_share: float | None = None
    """Likewise."""


class CostBasis(msgspec.Struct, frozen=True, kw_only=True):
    """What a call costs on average, and how that is known."""

    source: str
    weak_cost: float
    strong_cost: float


class Pair(msgspec.Struct, frozen=True, kw_only=True):
    """The two models whose answers were graded."""

    strong: str
    weak: str


class Result(msgspec.Struct, frozen=True, kw_only=True):
    """All that is known of some routers on one benchmark."""

    benchmark: str
    unit: str
    prompts: int
    pair: Pair
    weak_score: float
    strong_score: float
    mode: MetricMode
    seed: int
    edges: int
    """Quantile edges of the threshold lines, and in RouteLLM's mode of the curve."""
    bootstrap_samples: int
    random_draws: int
    routers: list[RouterResult]
    controls: list[ControlResult]
    costs: CostBasis | None
    notes: list[str]
    """What a reader should know before believing the figures."""
