"""The two ways to measure: RouteLLM's numbers by hand, and a bootstrap that equals a plain one."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pointsman.evaluation.benchmarks import load_benchmark
from pointsman.evaluation.controls import mean_curve, prompt_lengths, random_draws
from pointsman.evaluation.methods import CPT_TARGETS, Method, MetricMode, Outcomes
from pointsman.evaluation.metrics import (
    apgr_of,
    bootstrap_apgr,
    interpolated_cpt,
    percentile_interval,
    resampled_rows,
)
from pointsman.routing import decide

RATES = np.asarray([0.9, 0.7, 0.5, 0.3])
OUTCOMES = Outcomes(weak=np.asarray([0.0, 0.0, 1.0, 1.0]), strong=np.ones(4))
"""The router sends both failures of the weak model first."""


def test_routellms_numbers_by_hand() -> None:
    """Two bins have the edges .3, .6, .9: shares 1, 1/2 and, strictly, 0; scores 1, 1 and 1/2."""
    method = Method(mode="routellm", edges=3)
    curve = method.curve(RATES, OUTCOMES)
    assert curve.strong_shares.tolist() == [1.0, 0.5, 0.0]
    assert curve.qualities.tolist() == [1.0, 1.0, 0.5]
    assert apgr_of(curve) == pytest.approx(0.5 + 0.25)
    by_numpy = float(np.interp(0.75, [0.5, 1.0, 1.0], [0.0, 0.5, 1.0]))
    assert method.cpt(0.5, RATES, OUTCOMES) == by_numpy == 0.25


def test_full_numbers_by_hand() -> None:
    """Every win rate is a threshold: PGR 0, 1/2, 1, 1, 1 at shares 0, 1/4, 1/2, 3/4, 1."""
    method = Method()
    assert apgr_of(method.curve(RATES, OUTCOMES)) == pytest.approx(0.25 * (0.25 + 0.75 + 1.0 + 1.0))
    assert method.cpt(0.5, RATES, OUTCOMES) == 0.25
    assert method.cpt(0.8, RATES, OUTCOMES) == 0.5


@pytest.mark.parametrize("mode", ["full", "routellm"])
def test_threshold_lines_count_what_decide_does(mode: MetricMode) -> None:
    """A threshold from the table, served, gives the table's share; only RouteLLM's last is none."""
    lines = Method(mode=mode, edges=5).lines(RATES, OUTCOMES)
    served = [sum(decide(rate, edge) == "strong" for rate in RATES) for edge, _, _ in lines]
    counts = [count for _, count, _ in lines]
    assert counts[:-1] == served[:-1]
    assert counts[-1] == (served[-1] if mode == "full" else 0)
    assert lines[0][2] == 1.0


def test_threshold_lines_score_what_is_routed() -> None:
    """The score of each line is the mean over the routed answers."""
    for edge, count, score in Method(edges=7).lines(RATES, OUTCOMES):
        to_strong = edge <= RATES
        assert to_strong.sum() == count
        assert score == pytest.approx(
            float(np.where(to_strong, OUTCOMES.strong, OUTCOMES.weak).mean())
        )


@given(
    st.lists(
        st.tuples(st.integers(0, 5), st.integers(0, 3), st.integers(0, 3)), min_size=1, max_size=30
    )
)
def test_the_fast_bootstrap_is_the_plain_one(rows: list[tuple[int, int, int]]) -> None:
    """Sorted once and reweighted, or drawn, sorted and measured anew: the same, ties and all."""
    rates, weak, strong = np.asarray(rows, dtype=float).T
    method = Method()
    outcomes = Outcomes(weak=weak, strong=strong)
    fast = method.apgr_samples([rates], outcomes, seed=1, samples=20)[0]
    drawn = np.concatenate(list(resampled_rows(len(rates), seed=1, samples=20)))
    plain = [
        apgr_of(method.curve(rates[r], Outcomes(weak=weak[r], strong=strong[r]))) for r in drawn
    ]
    assert fast.tolist() == pytest.approx(plain, nan_ok=True)


def test_routellms_bootstrap_is_the_one_of_the_manifests() -> None:
    """Figures in a bundle and figures in a report may be compared."""
    generator = np.random.default_rng(2)
    weak = generator.integers(0, 2, 100).astype(float)
    rates = generator.random(100)
    outcomes = Outcomes(weak=weak, strong=np.ones(100))
    sampled = Method(mode="routellm").apgr_samples([rates], outcomes, seed=0, samples=50)[0]
    known = bootstrap_apgr(rates, weak, np.ones(100), seed=0, samples=50)
    assert percentile_interval(known.value, sampled) == known


def test_columns_are_measured_on_the_same_resamples() -> None:
    """A router against itself never differs, so differences are the routers' own."""
    sampled = Method().apgr_samples([RATES, RATES], OUTCOMES, seed=0, samples=30)
    assert np.array_equal(sampled[0], sampled[1], equal_nan=True)


@pytest.mark.parametrize(
    ("name", "value"), [("mmlu", 0.583), ("gsm8k", 0.598), ("mt-bench", 0.556)]
)
def test_prompt_length_has_its_known_figure(data_folder: Path, name: str, value: float) -> None:
    """The floor that RouteLLM's method gives on RouteLLM's files."""
    found = load_benchmark(name, data_folder)
    outcomes = Outcomes(weak=found.weak_scores, strong=found.strong_scores)
    curve = Method(mode="routellm").curve(prompt_lengths(found.prompts), outcomes)
    assert apgr_of(curve) == pytest.approx(value, abs=1e-3)


@pytest.mark.parametrize(
    ("name", "cpts", "value"),
    [
        ("gsm8k", [0.1896, 0.4879, 0.8016], 0.5069),
        ("mt-bench", [0.1765, 0.5129, 0.7855], 0.5070),
    ],
)
def test_ten_random_draws_are_routellms(
    data_folder: Path, name: str, cpts: list[float], value: float
) -> None:
    """The same generator, seed and averaging print the same digits as its own command."""
    found = load_benchmark(name, data_folder)
    outcomes = Outcomes(weak=found.weak_scores, strong=found.strong_scores)
    method = Method(mode="routellm")
    mean = mean_curve([method.curve(r, outcomes) for r in random_draws(len(outcomes), 10, 0)])
    assert apgr_of(mean) == pytest.approx(value, abs=5e-5)
    assert [interpolated_cpt(x / 100, mean) for x in CPT_TARGETS] == pytest.approx(cpts, abs=5e-5)
