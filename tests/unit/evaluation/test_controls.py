"""What routers are compared with, and the sentences that come of it."""

import random

import numpy as np
import pytest

from pointsman.evaluation.controls import (
    LENGTH,
    RANDOM,
    mean_curve,
    oracle,
    prompt_lengths,
    random_draws,
    shuffles,
    verdict,
)
from pointsman.evaluation.methods import Gap, Method, Outcomes
from pointsman.evaluation.metrics import Curve, apgr_of


def test_random_draws_are_the_standard_generators() -> None:
    """Seeded as RouteLLM seeds it, so that its figures can be had."""
    random.seed(0)
    expected = [[random.random() for _ in range(3)] for _ in range(2)]
    assert [draw.tolist() for draw in random_draws(3, 2, 0)] == expected


def test_a_shuffle_keeps_the_win_rates() -> None:
    """Only which prompt has which is lost."""
    rates = np.asarray([0.1, 0.1, 0.7, 0.9])
    for shuffled in shuffles(rates, 3, seed=0):
        assert sorted(shuffled) == sorted(rates)


def test_length_counts_characters() -> None:
    """Not bytes: a prompt is not harder for its alphabet."""
    assert prompt_lengths(["", "été"]).tolist() == [0.0, 3.0]


def test_nothing_beats_the_oracle() -> None:
    """The order by gain has the largest area of all orders."""
    generator = np.random.default_rng(0)
    outcomes = Outcomes(weak=generator.random(40), strong=generator.random(40) + 0.5)
    best = apgr_of(Method().curve(oracle(outcomes), outcomes))
    for rates in random_draws(40, 50, 1):
        assert apgr_of(Method().curve(rates, outcomes)) <= best


def test_the_oracle_cuts_between_prompts_of_equal_gain() -> None:
    """It knows the answers, so a tie does not bind it: one call of four recovers half."""
    outcomes = Outcomes(weak=np.asarray([0.0, 1.0, 0.0, 1.0]), strong=np.ones(4))
    assert Method().cpt(0.5, oracle(outcomes), outcomes) == 0.25


def test_curves_are_averaged_at_equal_shares() -> None:
    """As RouteLLM groups its random runs."""
    one = Curve(strong_shares=np.asarray([1.0, 0.5, 0.0]), qualities=np.asarray([4.0, 3.0, 2.0]))
    two = Curve(strong_shares=np.asarray([1.0, 0.0]), qualities=np.asarray([4.0, 1.0]))
    mean = mean_curve([one, two])
    assert mean.strong_shares.tolist() == [1.0, 0.5, 0.0]
    assert mean.qualities.tolist() == [4.0, 3.0, 1.5]


@pytest.mark.parametrize(
    ("against", "difference", "sampled", "text"),
    [
        (
            RANDOM,
            0.08,
            [0.044, 0.118],
            "mf beats a random mix of the same strong share: APGR +0.080 (+0.046 to +0.116)",
        ),
        (
            LENGTH,
            -0.1,
            [-0.2, -0.1],
            "mf does not beat prompt length: worse, APGR -0.100 (-0.198 to -0.103)",
        ),
        (
            LENGTH,
            0.0,
            [-0.2, 0.2],
            "mf does not beat prompt length: no difference shown, APGR +0.000 (-0.190 to +0.190)",
        ),
        (
            LENGTH,
            float("nan"),
            [float("nan")],
            "mf cannot be compared with prompt length: the strong model is not shown to be better "
            "than the weak one",
        ),
    ],
)
def test_a_verdict_says_what_is_shown(
    against: str, difference: float, sampled: list[float], text: str
) -> None:
    """Better, worse, nothing shown and nothing to show are four different sentences."""
    gap = Gap(value=0.0 if np.isnan(difference) else 20.0, margin=3.0)
    found = verdict("mf", against, difference, np.asarray(sampled), gap)
    assert found.text == text


@pytest.mark.parametrize("gap", [Gap(value=-20.0, margin=3.0), Gap(value=2.0, margin=3.0)])
def test_no_verdict_over_a_gap_that_is_not_shown(gap: Gap) -> None:
    """Over a negative gap the router that serves the worst answers has the largest APGR."""
    found = verdict("mf", RANDOM, 0.08, np.asarray([0.044, 0.118]), gap)
    assert found.outcome == "undefined"
    assert "not shown to be better" in found.text
