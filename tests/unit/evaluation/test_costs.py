"""Quality over cost, against hulls drawn by hand."""

from dataclasses import replace

import numpy as np
import pytest

from pointsman.errors import ConfigError
from pointsman.evaluation.benchmarks import Benchmark
from pointsman.evaluation.costs import Costs, aiq, known_costs, mixed_aiq
from pointsman.evaluation.methods import Outcomes
from pointsman.models_file import ModelSettings, ModelsFile, ProviderSettings
from pointsman.routing import ModelPair

OUTCOMES = Outcomes(weak=np.asarray([0.0, 0.0, 1.0, 1.0]), strong=np.ones(4))
COSTS = Costs(weak=np.zeros(4), strong=np.ones(4), source="by hand")
BENCHMARK = Benchmark(
    name="own",
    prompts=("abcd", "abcdefgh"),
    pair=ModelPair(strong="big", weak="small"),
    unit="percent right",
    weak_scores=np.zeros(2),
    strong_scores=np.ones(2),
)
MODELS = ModelsFile(
    providers={"p": ProviderSettings(base_url="http://localhost")},
    models={
        "big": ModelSettings(
            provider="p", input_price_per_million=10.0, output_price_per_million=30.0
        ),
        "small": ModelSettings(provider="p", output_price_per_million=1.0),
    },
)


def test_aiq_of_a_perfect_order_by_hand() -> None:
    """From (0, .5) up to (.5, 1), then flat: .75 over the first half, 1 over the second."""
    assert aiq(np.asarray([4.0, 3.0, 2.0, 1.0]), OUTCOMES, COSTS) == pytest.approx(0.875)


def test_aiq_of_a_worse_order_is_that_of_the_mix() -> None:
    """A router under the line between the models is not used by its own hull."""
    worst = aiq(np.asarray([1.0, 2.0, 3.0, 4.0]), OUTCOMES, COSTS)
    assert worst == pytest.approx(mixed_aiq(OUTCOMES, COSTS)) == pytest.approx(0.75)


def test_the_hull_never_falls() -> None:
    """Where strong spoils answers, one stops paying: after (.5, 1) the quality stays 1."""
    spoiled = Outcomes(
        weak=np.asarray([0.0, 0.0, 1.0, 1.0]), strong=np.asarray([1.0, 1.0, 1.0, 0.0])
    )
    assert aiq(np.asarray([4.0, 3.0, 2.0, 1.0]), spoiled, COSTS) == pytest.approx(0.875)


def test_costs_that_differ_by_prompt_move_the_points() -> None:
    """The two useful calls cost a quarter of the whole: .75 over that quarter, then 1."""
    dear = Costs(weak=np.zeros(4), strong=np.asarray([0.5, 0.5, 1.5, 1.5]), source="by hand")
    found = aiq(np.asarray([4.0, 3.0, 2.0, 1.0]), OUTCOMES, dear)
    assert found == pytest.approx(0.25 * 0.75 + 0.75)


@pytest.mark.parametrize("strong_cost", [0.0, -1.0])
def test_aiq_is_nan_where_strong_costs_no_more(strong_cost: float) -> None:
    """There is no range of costs to average over."""
    free = Costs(weak=np.zeros(4), strong=np.full(4, strong_cost), source="by hand")
    assert np.isnan(aiq(np.arange(4.0), OUTCOMES, free))


def test_without_costs_or_prices_nothing_is_known() -> None:
    """And no figure is made up."""
    assert known_costs(BENCHMARK, None) is None


def test_prices_give_an_estimate_and_say_so() -> None:
    """1 and 2 tokens in at $10 a million, 100 out at $30."""
    costs = known_costs(BENCHMARK, MODELS, output_tokens=100)
    assert costs is not None
    assert costs.strong.tolist() == pytest.approx([0.00301, 0.00302])
    assert costs.weak.tolist() == pytest.approx([0.0001, 0.0001])
    assert "estimate" in costs.source


def test_costs_of_the_data_come_before_an_estimate() -> None:
    """What was paid is better known than what would be."""
    paid = replace(BENCHMARK, weak_costs=np.ones(2), strong_costs=np.full(2, 2.0))
    costs = known_costs(paid, MODELS)
    assert costs is not None
    assert costs.strong.tolist() == [2.0, 2.0]


def test_a_model_without_price_is_an_error() -> None:
    """A missing price is not a price of nothing."""
    unknown = replace(BENCHMARK, pair=ModelPair(strong="other", weak="small"))
    with pytest.raises(ConfigError, match="no model `other`"):
        known_costs(unknown, MODELS)
