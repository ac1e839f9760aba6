"""The random router is the control of every comparison, so its own behaviour must be plain."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from pointsman.routers.random_baseline import RandomRouter


def test_replicas_with_one_seed_agree() -> None:
    """Two scorers with the same seed answer alike, so retries do not change a decision."""
    prompts = ["", "hello", "hello ", "\ud800"]
    first = RandomRouter(seed=7).strong_win_rates(prompts)
    assert first.tolist() == RandomRouter(seed=7).strong_win_rates(prompts).tolist()


def test_a_seeded_win_rate_never_changes_between_versions() -> None:
    """Win rates are a fixed function of seed and prompt, on every machine and in every release."""
    assert RandomRouter(seed=7).strong_win_rates(["a"])[0] * 2**24 == 4823140


def test_seeds_differ() -> None:
    """Another seed is another draw."""
    one = RandomRouter(seed=1).strong_win_rates(["a"])
    assert one != RandomRouter(seed=2).strong_win_rates(["a"])


def test_without_a_seed_every_call_draws_anew() -> None:
    """RouteLLM's random router does so, and its users may rely on it."""
    router = RandomRouter()
    rates = {float(router.strong_win_rates(["a"])[0]) for _ in range(20)}
    assert len(rates) > 10


def test_seeded_win_rates_are_uniform() -> None:
    """A threshold t sends about 1 - t to strong, which is what the baseline is for."""
    rates = RandomRouter(seed=0).strong_win_rates([str(number) for number in range(4000)])
    found = np.quantile(rates, [0.1, 0.25, 0.5, 0.75, 0.9])
    assert np.abs(found - [0.1, 0.25, 0.5, 0.75, 0.9]).max() < 0.03


def test_revision_names_the_seed() -> None:
    """Caches and reports tell two seeds apart."""
    assert (RandomRouter(seed=7).revision, RandomRouter().revision) == ("random-seed-7", "random")


@given(st.text(), st.integers())
def test_any_prompt_and_seed_give_a_rate(prompt: str, seed: int) -> None:
    """Nothing a client sends makes the baseline fail."""
    rates = RandomRouter(seed=seed).strong_win_rates([prompt])
    assert rates.dtype == np.float32
    assert 0.0 <= rates[0] < 1.0
