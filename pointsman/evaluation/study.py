"""Win rates of some routers on one benchmark → every figure, control, verdict and warning."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from pointsman.evaluation.benchmarks import Benchmark
from pointsman.evaluation.controls import (
    ALWAYS_STRONG,
    ALWAYS_WEAK,
    CHANCE,
    DESCRIPTIONS,
    LENGTH,
    ORACLE,
    RANDOM,
    mean_curve,
    oracle,
    prompt_lengths,
    random_draws,
    shuffles,
    spread,
    verdict,
)
from pointsman.evaluation.costs import Costs, aiq, mixed_aiq
from pointsman.evaluation.methods import CPT_TARGETS, Method, Outcomes
from pointsman.evaluation.metrics import (
    SAMPLES,
    Curve,
    Interval,
    apgr_of,
    auc_of,
    interpolated_cpt,
    percentile_interval,
)
from pointsman.evaluation.notes import (
    ScoredRouter,
    notes_on_outcomes,
    notes_on_prompts,
    notes_on_routers,
)
from pointsman.evaluation.results import (
    ControlResult,
    CostBasis,
    Line,
    Pair,
    Result,
    RouterResult,
)

_NAN = float("nan")
_UNDEFINED = Interval(value=_NAN, low=_NAN, high=_NAN)


@dataclass(frozen=True, kw_only=True)
class StudySettings:
    """How to measure."""

    method: Method = field(default_factory=Method)
    seed: int = 0
    """Of the draws, the shuffles and the resamples."""
    random_draws: int = 10
    samples: int = SAMPLES


@dataclass(frozen=True, kw_only=True, eq=False)
class Study:
    """Everything that is known of some routers on one benchmark."""

    result: Result
    curves: Mapping[str, Curve]
    """Name of a router, `LENGTH` or `ORACLE` → its curve."""


def study(
    benchmark: Benchmark,
    routers: Sequence[ScoredRouter],
    settings: StudySettings,
    *,
    costs: Costs | None = None,
) -> Study:
    """Returns the figures of the routers, and of the controls on the same prompts.

    The same arguments give the same values to the last bit.
    """
    outcomes = Outcomes(
        weak=np.asarray(benchmark.weak_scores, dtype=np.float64),
        strong=np.asarray(benchmark.strong_scores, dtype=np.float64),
    )
    bench = _Bench(outcomes=outcomes, settings=settings, costs=costs)
    length = prompt_lengths(benchmark.prompts)
    best = oracle(outcomes)
    columns = [length, best, *(router.rates for router in routers)]
    sampled = settings.method.apgr_samples(
        columns, outcomes, seed=settings.seed, samples=settings.samples
    )
    controls = [
        bench.random_mix(),
        *bench.constants(),
        bench.control(LENGTH, length, sampled[0]),
        bench.control(ORACLE, best, sampled[1]),
        *(bench.shuffled(router) for router in routers),
    ]
    result = Result(
        benchmark=_encodable(benchmark.name),
        unit=_encodable(benchmark.unit),
        prompts=len(outcomes),
        pair=Pair(strong=_encodable(benchmark.pair.strong), weak=_encodable(benchmark.pair.weak)),
        weak_score=float(outcomes.weak.mean()),
        strong_score=float(outcomes.strong.mean()),
        mode=settings.method.mode,
        seed=settings.seed,
        edges=settings.method.edges,
        bootstrap_samples=settings.samples,
        random_draws=settings.random_draws,
        routers=[
            bench.router(router, sampled[2 + index], length, sampled[0])
            for index, router in enumerate(routers)
        ],
        controls=controls,
        costs=_basis(costs),
        notes=[
            *benchmark.notes,
            *notes_on_outcomes(outcomes),
            *notes_on_prompts(benchmark.prompts),
            *notes_on_routers(routers),
        ],
    )
    curves = zip(
        [LENGTH, ORACLE, *(router.name for router in routers)],
        [settings.method.curve(rates, outcomes) for rates in columns],
        strict=True,
    )
    return Study(result=result, curves=dict(curves))


@dataclass(frozen=True, kw_only=True, eq=False)
class _Bench:
    """One benchmark, ready to measure whatever orders its prompts."""

    outcomes: Outcomes
    settings: StudySettings
    costs: Costs | None

    def apgr(self, rates: NDArray[np.float64]) -> float:
        return apgr_of(self.settings.method.curve(rates, self.outcomes))

    def cpt(self, rates: NDArray[np.float64]) -> dict[str, float]:
        method = self.settings.method
        return {str(x): method.cpt(x / 100, rates, self.outcomes) for x in CPT_TARGETS}

    def aiq(self, rates: NDArray[np.float64]) -> float | None:
        return None if self.costs is None else aiq(rates, self.outcomes, self.costs)

    def router(
        self,
        router: ScoredRouter,
        sampled: NDArray[np.float64],
        length: NDArray[np.float64],
        length_sampled: NDArray[np.float64],
    ) -> RouterResult:
        value = self.apgr(router.rates)
        to_length = value - self.apgr(length)
        gap = self.outcomes.gap
        return RouterResult(
            name=router.name,
            revision=router.revision,
            apgr=percentile_interval(value, sampled),
            auc=auc_of(self.settings.method.curve(router.rates, self.outcomes)),
            cpt=self.cpt(router.rates),
            aiq=self.aiq(router.rates),
            verdicts=[
                verdict(router.name, RANDOM, value - CHANCE, sampled - CHANCE, gap),
                verdict(router.name, LENGTH, to_length, sampled - length_sampled, gap),
            ],
            trained_on=router.trained_on,
            thresholds=self.lines(router.rates),
        )

    def lines(self, rates: NDArray[np.float64]) -> list[Line]:
        count = len(self.outcomes)
        return [
            Line(
                threshold=threshold,
                score=score,
                strong_calls=calls,
                weak_calls=count - calls,
                strong_share=calls / count,
            )
            for threshold, calls, score in self.settings.method.lines(rates, self.outcomes)
        ]

    def control(
        self, name: str, rates: NDArray[np.float64], sampled: NDArray[np.float64]
    ) -> ControlResult:
        return ControlResult(
            name=name,
            description=DESCRIPTIONS[name],
            apgr=percentile_interval(self.apgr(rates), sampled),
            auc=auc_of(self.settings.method.curve(rates, self.outcomes)),
            cpt=self.cpt(rates),
            aiq=self.aiq(rates),
        )

    def constants(self) -> list[ControlResult]:
        """Returns both models alone: one point each, under which there is no area of PGR."""
        sides = ((ALWAYS_WEAK, self.outcomes.weak, 0.0), (ALWAYS_STRONG, self.outcomes.strong, 1.0))
        return [
            ControlResult(
                name=name,
                description=DESCRIPTIONS[name],
                apgr=_UNDEFINED,
                auc=float(scores.mean()),
                cpt={str(target): _NAN for target in CPT_TARGETS},
                score=float(scores.mean()),
                strong_share=share,
            )
            for name, scores, share in sides
        ]

    def random_mix(self) -> ControlResult:
        settings = self.settings
        drawn = list(random_draws(len(self.outcomes), settings.random_draws, settings.seed))
        mixed = None if self.costs is None else mixed_aiq(self.outcomes, self.costs)
        return self._of_draws(RANDOM, DESCRIPTIONS[RANDOM], drawn, mixed)

    def shuffled(self, router: ScoredRouter) -> ControlResult:
        settings = self.settings
        drawn = list(shuffles(router.rates, settings.random_draws, settings.seed))
        description = f"the win rates of {router.name} dealt out at random; mean and range"
        return self._of_draws(f"{router.name} shuffled", description, drawn, None)

    def _of_draws(
        self,
        name: str,
        description: str,
        drawn: Sequence[NDArray[np.float64]],
        aiq_: float | None,
    ) -> ControlResult:
        method = self.settings.method
        curves = [method.curve(rates, self.outcomes) for rates in drawn]
        values = [apgr_of(curve) for curve in curves]
        aucs = [auc_of(curve) for curve in curves]
        if method.mode == "routellm":  # it averages the curves first, and then measures
            mean = mean_curve(curves)
            value, auc = apgr_of(mean), auc_of(mean)
            cpt = {str(target): interpolated_cpt(target / 100, mean) for target in CPT_TARGETS}
        else:
            value, auc = float(np.mean(values)), float(np.mean(aucs))
            shares = [self.cpt(rates) for rates in drawn]
            cpt = {key: float(np.mean([share[key] for share in shares])) for key in shares[0]}
        return ControlResult(
            name=name,
            description=description,
            apgr=spread(value, values),
            auc=auc,
            cpt=cpt,
            aiq=aiq_,
        )


def _encodable(text: str) -> str:
    """Returns text that every file can hold: file names may carry bytes that are no characters."""
    return text.encode("utf-8", "replace").decode("utf-8")


def _basis(costs: Costs | None) -> CostBasis | None:
    if costs is None:
        return None
    return CostBasis(
        source=costs.source,
        weak_cost=float(costs.weak.mean()),
        strong_cost=float(costs.strong.mean()),
    )
