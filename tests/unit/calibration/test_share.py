"""A share of strong calls becomes the threshold that pandas, and so RouteLLM, would give."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pointsman.calibration.share import (
    calibrate_share,
    calibrate_share_among,
    strong_counts,
    strong_share,
)
from pointsman.routers.registry import load_router
from pointsman.routing import StrongShare, decide

RATES = st.lists(st.floats(0, 1, width=32), min_size=1, max_size=60)
SHARES = st.floats(0, 1)


@given(RATES, SHARES)
def test_threshold_is_pandas_quantile(rates: list[float], target: float) -> None:
    """RouteLLM's thresholds are pandas quantiles, and users compare."""
    found = calibrate_share(rates, target)
    assert found.threshold == pytest.approx(pd.Series(rates).quantile(1 - target), abs=1e-9)


@given(RATES, SHARES)
def test_reached_is_what_decide_does(rates: list[float], target: float) -> None:
    """The share reported is the one that serving has."""
    found = calibrate_share(rates, target)
    strong = [decide(rate, found.threshold) for rate in rates].count("strong")
    assert found.reached == strong / len(rates)


@given(RATES, st.lists(st.floats(0, 1), min_size=1))
def test_counts_agree_with_decide(rates: list[float], thresholds: list[float]) -> None:
    """The fast count must not have its own idea of a tie."""
    counts = strong_counts(np.sort(rates), np.asarray(thresholds))
    expected = [strong_share(rates, threshold) * len(rates) for threshold in thresholds]
    assert counts.tolist() == pytest.approx(expected)


def test_distinct_rates_reach_the_target_within_one_prompt() -> None:
    """Without ties nothing but the size of the sample stands between target and share."""
    rates = np.random.default_rng(1).random(1000)
    assert calibrate_share(rates, 0.2).reached == pytest.approx(0.2, abs=0.001)


def test_ties_move_the_share_and_it_says_so() -> None:
    """Equal win rates go together, and the user must see how far off that is."""
    assert calibrate_share([0.5] * 10, 0.2).reached == 1.0


@pytest.mark.parametrize("percent", range(101))
def test_whole_percentages_agree_with_the_model_field(percent: int) -> None:
    """`--strong-model-pct 0.3` and `router-mf-p30` must be the same threshold."""
    quantiles = load_router("random").quantiles ** 2
    found = calibrate_share_among(quantiles, percent / 100)
    assert found.threshold == StrongShare(percent).threshold_among(quantiles.tolist())


def test_shares_between_percentages_are_interpolated() -> None:
    """A share that no model field can name is met all the same."""
    quantiles = np.linspace(0, 1, 1001)
    assert calibrate_share_among(quantiles, 0.3335).threshold == pytest.approx(0.6665)


@pytest.mark.parametrize(
    ("rates", "target", "told"),
    [
        ([], 0.5, "not empty"),
        ([[0.1]], 0.5, "shape"),
        ([0.1, float("nan")], 0.5, "nan"),
        ([1.5], 0.5, "1.5"),
        ([0.5], 20.0, "20"),
        ([0.5], float("nan"), "nan"),
    ],
)
def test_nonsense_is_refused(rates: list[float], target: float, told: str) -> None:
    """A threshold from nonsense would look like any other."""
    with pytest.raises(ValueError, match=told):
        calibrate_share(rates, target)
