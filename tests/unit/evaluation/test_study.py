"""Everything about some routers on one benchmark, degenerate benchmarks too."""

import math
from dataclasses import replace
from pathlib import Path

import msgspec
import numpy as np
import pytest

from pointsman.evaluation.benchmarks import PERCENT_RIGHT, Benchmark, load_benchmark
from pointsman.evaluation.controls import ALWAYS_STRONG, ALWAYS_WEAK, LENGTH, ORACLE, RANDOM
from pointsman.evaluation.costs import Costs
from pointsman.evaluation.methods import METRIC_MODES, Method, MetricMode
from pointsman.evaluation.metrics import apgr
from pointsman.evaluation.notes import ScoredRouter
from pointsman.evaluation.study import StudySettings, study
from pointsman.routing import ModelPair

COUNT = 60
GENERATOR = np.random.default_rng(0)
WEAK = 100.0 * (GENERATOR.random(COUNT) < 0.5)
BENCHMARK = Benchmark(
    name="own",
    prompts=tuple(f"{number:02}" + "x" * (number % 7) for number in range(COUNT)),
    pair=ModelPair(strong="big", weak="small"),
    unit=PERCENT_RIGHT,
    weak_scores=WEAK,
    strong_scores=np.full(COUNT, 100.0),
)
GOOD = ScoredRouter(
    name="good", revision="1", rates=GENERATOR.random(COUNT) - 0.004 * WEAK + 0.4, trained_on=0
)
QUICK = StudySettings(samples=100)


def of_size(count: int, **columns: np.ndarray) -> Benchmark:
    """The first prompts of the benchmark."""
    return replace(
        BENCHMARK,
        prompts=BENCHMARK.prompts[:count],
        weak_scores=columns.get("weak", WEAK[:count]),
        strong_scores=columns.get("strong", np.full(count, 100.0)),
    )


def test_every_control_stands_beside_the_routers() -> None:
    """A figure without its controls says nothing."""
    result = study(BENCHMARK, [GOOD], QUICK).result
    names = [control.name for control in result.controls]
    assert names == [RANDOM, ALWAYS_WEAK, ALWAYS_STRONG, LENGTH, ORACLE, "good shuffled"]
    assert result.weak_score == WEAK.mean()
    assert result.strong_score == 100.0


def test_a_good_router_is_told_from_chance_and_length() -> None:
    """The verdicts read the paired intervals."""
    router = study(BENCHMARK, [GOOD], QUICK).result.routers[0]
    assert [verdict.outcome for verdict in router.verdicts] == ["beats", "beats"]
    assert router.verdicts[0].difference.value == pytest.approx(router.apgr.value - 0.5)


def test_the_length_itself_does_not_beat_length() -> None:
    """Paired on the same resamples, equal orders differ by nothing at all."""
    lengths = np.asarray([len(prompt) / 10 for prompt in BENCHMARK.prompts])
    router = ScoredRouter(name="copy", revision="1", rates=lengths)
    difference = study(BENCHMARK, [router], QUICK).result.routers[0].verdicts[1].difference
    assert (difference.low, difference.value, difference.high) == (0.0, 0.0, 0.0)


def test_routellms_mode_gives_routellms_apgr() -> None:
    """The figure that bundles' manifests carry."""
    settings = StudySettings(method=Method(mode="routellm"), samples=20)
    router = study(BENCHMARK, [GOOD], settings).result.routers[0]
    assert router.apgr.value == apgr(GOOD.rates, WEAK, BENCHMARK.strong_scores)


@pytest.mark.parametrize("mode", METRIC_MODES)
@pytest.mark.parametrize(
    "benchmark",
    [
        of_size(1),
        of_size(1, weak=np.zeros(1)),
        of_size(2),
        of_size(8, weak=np.full(8, 100.0)),
        of_size(8, weak=np.full(8, 100.0), strong=np.zeros(8)),
    ],
    ids=["one-equal", "one", "two", "equal", "strong-is-worse"],
)
def test_degenerate_benchmarks_never_crash(benchmark: Benchmark, mode: MetricMode) -> None:
    """What is undefined is NaN, JSON stays strict, and the constant router is named."""
    count = len(benchmark.prompts)
    constant = ScoredRouter(name="flat", revision="1", rates=np.full(count, 0.5))
    settings = StudySettings(method=Method(mode=mode), samples=30)
    found = study(benchmark, [constant], settings)
    value = found.result.routers[0].apgr.value
    assert math.isnan(value) or value == pytest.approx(0.5)
    assert msgspec.json.decode(msgspec.json.encode(found.result))["benchmark"] == "own"
    assert any("few prompts" in note for note in found.result.notes)
    assert (count == 1) != any("same win rate" in note for note in found.result.notes)


def test_equal_models_are_said_to_be_equal() -> None:
    """Undefined figures come with the reason."""
    result = study(of_size(40, weak=np.full(40, 100.0)), [], QUICK).result
    assert result.notes == [
        "both models do equally well on every prompt: there is nothing to route for"
    ]


def test_a_gap_that_may_be_none_is_doubted() -> None:
    """PGR divides by it."""
    alternating = 100.0 * (np.arange(40) % 2)
    strong = alternating[::-1].copy()
    strong[0] = 100.0
    result = study(of_size(40, weak=alternating, strong=strong), [], QUICK).result
    assert "not shown to differ from zero" in result.notes[0]


def test_prompts_that_come_again_are_told() -> None:
    """Rows of one prompt are not independent, and the bootstrap takes them for it."""
    again = replace(BENCHMARK, prompts=BENCHMARK.prompts[:20] * 3)
    assert study(again, [], QUICK).result.notes == [
        "60 rows hold only 20 different prompts: intervals resample rows and are too narrow"
    ]


def test_a_worse_strong_model_is_pointed_out() -> None:
    """Probably the two were swapped."""
    router = replace(GOOD, rates=GOOD.rates[:40])
    worse = of_size(40, weak=np.full(40, 100.0), strong=np.zeros(40))
    result = study(worse, [router], QUICK).result
    assert "swap --strong-model" in result.notes[0]
    assert {verdict.outcome for verdict in result.routers[0].verdicts} == {"undefined"}


def test_training_on_the_test_is_told() -> None:
    """A figure on known prompts is no figure."""
    cheat = ScoredRouter(name="cheat", revision="1", rates=GOOD.rates, trained_on=3)
    assert study(BENCHMARK, [cheat], QUICK).result.notes == [
        "cheat trained on 3 of these 60 prompts: its figures here are too good"
    ]


def test_a_router_that_draws_anew_is_told() -> None:
    """Otherwise nobody understands why two runs differ."""
    fickle = ScoredRouter(name="r", revision="random", rates=GOOD.rates, repeatable=False)
    assert "another run may give other figures" in study(BENCHMARK, [fickle], QUICK).result.notes[0]


def test_costs_add_an_area_over_cost() -> None:
    """For routers, length, oracle, and the mix they have to beat."""
    costs = Costs(weak=np.zeros(COUNT), strong=np.ones(COUNT), source="by hand")
    result = study(BENCHMARK, [GOOD], QUICK, costs=costs).result
    random_mix = result.controls[0].aiq
    assert result.costs is not None
    assert result.costs.strong_cost == 1.0
    assert random_mix == pytest.approx((WEAK.mean() + 100.0) / 2)
    assert result.routers[0].aiq is not None
    assert result.routers[0].aiq > random_mix


def test_two_studies_are_equal_to_the_last_bit() -> None:
    """So are the reports made from them."""
    one, two = (study(BENCHMARK, [GOOD], QUICK).result for _ in range(2))
    assert msgspec.json.encode(one) == msgspec.json.encode(two)


@pytest.mark.parametrize(("name", "oracle_score"), [("mmlu", 85.873), ("gsm8k", 92.961)])
def test_the_oracles_best_is_known(data_folder: Path, name: str, oracle_score: float) -> None:
    """The ceiling that RouteLLM's files have, reached somewhere on the oracle's curve."""
    found = study(load_benchmark(name, data_folder), [], StudySettings(samples=1))
    assert found.curves[ORACLE].qualities.max() == pytest.approx(oracle_score, abs=5e-4)
    random_mix = found.result.controls[0]
    assert random_mix.apgr.value == pytest.approx(0.5, abs=0.02)
