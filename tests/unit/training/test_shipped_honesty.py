"""The shipped router has seen no test prompt: checked against the test sets themselves."""

import os
from pathlib import Path

import pytest

from pointsman.evaluation.benchmarks import load_benchmark, protected_prompts
from pointsman.evaluation.metrics import apgr
from pointsman.routers.bundle import load_bundle, prompt_digest
from pointsman.routers.registry import SHIPPED_BUNDLES, load_router


@pytest.fixture(scope="session")
def data_folder() -> Path:
    """The folder that POINTSMAN_DATA names; without it these tests skip."""
    named = os.environ.get("POINTSMAN_DATA")
    if not named or not Path(named, "benchmarks").is_dir():
        pytest.skip("POINTSMAN_DATA names no folder with benchmarks/: its test sets are not here")
    return Path(named)


def test_no_test_prompt_was_trained_on(data_folder: Path) -> None:
    """Not one of MMLU, GSM8K and MT-Bench, contaminated ones and their copies included."""
    trained = load_bundle(SHIPPED_BUNDLES / "mf").training_prompt_digests()
    assert len(trained) > 10_000
    assert not trained & {prompt_digest(prompt) for prompt in protected_prompts(data_folder)}


def test_no_calibration_prompt_was_trained_on(data_folder: Path) -> None:
    """Percentiles and shares speak of prompts the router never saw."""
    from pointsman.training.datasets import calibration_prompts

    trained = load_bundle(SHIPPED_BUNDLES / "mf").training_prompt_digests()
    assert not trained & {prompt_digest(prompt) for prompt in calibration_prompts(data_folder)}


def test_the_shipped_router_beats_chance_on_mt_bench(data_folder: Path) -> None:
    """What is served reproduces the figure of its manifest."""
    bench = load_benchmark("mt_bench", data_folder)
    loaded = load_router("mf")
    rates = loaded.router.strong_win_rates(bench.prompts)
    value = apgr(rates, bench.weak_scores, bench.strong_scores)
    figures = load_bundle(SHIPPED_BUNDLES / "mf").manifest.figures
    assert value == pytest.approx(float(figures["APGR mt_bench, mf"].split()[0]), abs=0.01)
    assert value > 0.6
