"""A budget becomes the cheapest threshold that keeps to it, and never one that breaks it."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pointsman.calibration.budget import (
    PairPrices,
    blended_price,
    calibrate_budget,
    read_prices,
)
from pointsman.calibration.share import strong_share
from pointsman.errors import ConfigError
from pointsman.routing import ModelPair

MODELS = """\
providers: {p: {base_url: "http://localhost:1/v1"}}
models:
  strong: {provider: p, input_price_per_million: 10, output_price_per_million: 30}
  weak: {provider: p, input_price_per_million: 0.24, output_price_per_million: 0.24}
  free: {provider: p}
"""

# Few distinct values below 1, so that ties are common and some threshold is always cheap enough.
TIED = st.lists(st.integers(0, 7).map(lambda eighths: eighths / 8), min_size=1, max_size=40)


@pytest.fixture
def models(tmp_path: Path) -> str:
    """A models file with RouteLLM's prices."""
    path = tmp_path / "models.yaml"
    path.write_text(MODELS)
    return str(path)


@given(TIED, st.floats(0, 5), st.floats(0.01, 50), st.floats(0, 1.5))
def test_threshold_is_the_smallest_that_keeps_to_the_budget(
    rates: list[float], weak: float, gap: float, part: float
) -> None:
    """Over the budget is broken trust, and any smaller share is quality left unbought."""
    prices = PairPrices(strong=weak + gap, weak=weak)
    budget = weak + part * gap
    found = calibrate_budget(rates, prices, budget)
    assert found.expected_price <= budget
    assert found.reached == strong_share(rates, found.threshold)
    assert found.expected_price == pytest.approx(weak + found.reached * (prices.strong - weak))
    for smaller in [t for t in {0.0, *rates} if t < found.threshold]:
        cost = weak + strong_share(rates, smaller) * (prices.strong - weak)
        assert cost > budget or cost == pytest.approx(budget)


def test_budget_of_the_strong_price_is_all_strong() -> None:
    """A rounding error must not send anybody's last prompt to the weak model."""
    found = calibrate_budget([0.1, 0.2, 0.3], PairPrices(strong=24.7, weak=0.24), 24.7)
    assert (found.threshold, found.reached, found.saving) == (0.0, 1.0, 0.0)


def test_budget_of_the_weak_price_is_all_weak() -> None:
    """The least budget that is accepted can be kept."""
    found = calibrate_budget([0.1, 0.2, 0.3], PairPrices(strong=10, weak=1), 1)
    assert (found.threshold, found.reached, found.saving) == (1.0, 0.0, 0.9)


def test_equal_prices_are_all_strong() -> None:
    """Where the better model costs the same, nothing is saved by the other."""
    assert calibrate_budget([0.5], PairPrices(strong=1, weak=1), 1).reached == 1.0


def test_budget_below_the_weak_price_is_refused_with_both() -> None:
    """The user has to see by how much it falls short."""
    with pytest.raises(ConfigError, match=r"0\.1 is below .* 0\.24"):
        calibrate_budget([0.5], PairPrices(strong=10, weak=0.24), 0.1)


def test_win_rates_of_one_cannot_be_kept_from_the_strong_model() -> None:
    """No threshold is above 1, so such a budget cannot be promised."""
    with pytest.raises(ConfigError, match=r"50\.0% of the prompts"):
        calibrate_budget([0.5, 1.0], PairPrices(strong=10, weak=1), 2)


@pytest.mark.parametrize(
    ("strong", "weak", "told"),
    [(1, 2, "dearer"), (0, 0, "free"), (-1, 0, "no price"), (float("nan"), 0, "no price")],
)
def test_prices_that_leave_nothing_to_route_are_refused(
    strong: float, weak: float, told: str
) -> None:
    """A pair the wrong way round would cost more for less."""
    with pytest.raises(ConfigError, match=told):
        PairPrices(strong=strong, weak=weak)


@pytest.mark.parametrize("budget", [float("nan"), float("inf")])
def test_budget_that_is_no_number_is_refused(budget: float) -> None:
    """JSON could not carry it."""
    with pytest.raises(ConfigError, match="no budget"):
        calibrate_budget([0.5], PairPrices(strong=10, weak=1), budget)


def test_blend_is_that_of_the_paper() -> None:
    """$10 and $30 are $24.7 a million tokens in RouteLLM's paper."""
    assert blended_price(10, 30) == pytest.approx(24.7, abs=0.01)


@given(st.floats(0, 100), st.floats(0, 1e6), st.floats(1, 1e6))
def test_equal_prices_blend_to_themselves(price: float, read: float, written: float) -> None:
    """A budget of exactly the weak model's flat price must not fall below it by rounding."""
    assert blended_price(price, price, input_tokens=read, output_tokens=written) == price


@pytest.mark.parametrize(("read", "written"), [(0, 0), (-1, 5), (float("nan"), 1)])
def test_requests_without_tokens_are_refused(read: float, written: float) -> None:
    """An average over nothing is no price."""
    with pytest.raises(ConfigError, match="no request"):
        blended_price(1, 2, input_tokens=read, output_tokens=written)


def test_prices_come_from_the_models_file(models: str) -> None:
    """Prices have one owner."""
    prices = read_prices(models, ModelPair(strong="strong", weak="weak"))
    assert (round(prices.strong, 1), prices.weak) == (24.7, 0.24)


@pytest.mark.parametrize(
    ("strong", "weak", "told"),
    [
        ("gpt", "weak", "no model `gpt`, only `strong`"),
        ("free", "weak", "`free` has no price"),
        ("weak", "strong", "dearer"),
    ],
)
def test_wrong_pair_is_named(models: str, strong: str, weak: str, told: str) -> None:
    """The remedy is in the models file or on the command line, and the message says where."""
    with pytest.raises(ConfigError, match=told):
        read_prices(models, ModelPair(strong=strong, weak=weak))
