"""What ships is honest: no test prompt was trained on, and the manifest's figures are true.

`benchmark_prompts.sha256` holds the first 8 bytes of the digest of every prompt that
`protected_prompts` yields, ascending, so that honesty is checked where no data is. Made by
`benchmark_digests`. MMLU's labels may be trained on, by name: such a bundle claims no figure of
its own on MMLU, but that of its twins.
"""

from pathlib import Path

import numpy as np
import pytest

from pointsman.evaluation.benchmarks import BENCHMARKS, load_benchmark, protected_prompts
from pointsman.evaluation.metrics import apgr
from pointsman.evaluation.scores import cached_win_rates
from pointsman.routers.bundle import load_bundle, prompt_digest, read_manifest
from pointsman.routers.registry import SHIPPED_BUNDLES, load_router
from pointsman.training.datasets import calibration_prompts

BUNDLES = sorted(path.parent.name for path in SHIPPED_BUNDLES.glob("*/manifest.json"))
DIGESTS = Path(__file__).with_name("benchmark_prompts.sha256")
WIDTH = 8
"""Bytes kept: among 15,000 and 15,000 prompts, two equal by chance once in 10^11 times."""

TOLERANCE = 0.0025
"""0.002 for what int8 differs between CPUs, and half a unit of the manifest's last digit."""


def benchmark_digests(data: Path) -> bytes:
    """Returns what `benchmark_prompts.sha256` has to hold."""
    return b"".join(sorted({prompt_digest(text)[:WIDTH] for text in protected_prompts(data)}))


def known_digests() -> set[bytes]:
    """Returns the 8 bytes of every benchmark prompt."""
    content = DIGESTS.read_bytes()
    return {content[start : start + WIDTH] for start in range(0, len(content), WIDTH)}


def seen(trained: frozenset[bytes]) -> set[bytes]:
    """Returns the benchmark prompts among a bundle's training prompts."""
    return known_digests() & {digest[:WIDTH] for digest in trained}


def manifest_apgr(bundle: str, benchmark: str) -> float | None:
    """Returns the APGR that a shipped manifest claims; None if it claims none."""
    figures = read_manifest(SHIPPED_BUNDLES / bundle).figures
    claim = figures.get(f"APGR {benchmark}, {bundle}")
    return float(claim.split()[0]) if claim else None


@pytest.fixture(scope="module")
def benchmarks(data: Path) -> Path:
    """The data folder, where it has the test sets."""
    if not (data / "benchmarks").is_dir():
        pytest.skip("POINTSMAN_DATA names a folder without benchmarks/")
    return data


def trained_on_mmlu(bundle: str) -> bool:
    """Returns whether a manifest says so."""
    return "mmlu" in {source.name for source in read_manifest(SHIPPED_BUNDLES / bundle).data}


@pytest.mark.parametrize("bundle", BUNDLES)
def test_no_benchmark_prompt_was_trained_on(bundle: str) -> None:
    """Not one, contaminated ones and their copies included; MMLU's only where the manifest says so.

    Then no figure on MMLU is its own.
    """
    trained = load_bundle(SHIPPED_BUNDLES / bundle).training_prompt_digests()
    assert len(trained) > 10_000
    if trained_on_mmlu(bundle):
        figures = read_manifest(SHIPPED_BUNDLES / bundle).figures
        on_mmlu = [name for name in figures if name.startswith("APGR mmlu, ")]
        assert on_mmlu
        assert all("twin" in name for name in on_mmlu), on_mmlu
    else:
        assert not seen(trained)


@pytest.mark.parametrize("bundle", BUNDLES)
@pytest.mark.parametrize("benchmark", ["gsm8k", "mt-bench"])
def test_no_prompt_of_the_other_test_sets_was_trained_on(
    bundle: str, benchmark: str, benchmarks: Path
) -> None:
    """Whatever the manifest says of MMLU."""
    trained = load_bundle(SHIPPED_BUNDLES / bundle).training_prompt_digests()
    prompts = load_benchmark(benchmark, benchmarks).prompts
    assert not trained & {prompt_digest(prompt) for prompt in prompts}


def test_one_benchmark_prompt_among_the_training_prompts_is_found() -> None:
    """The control: what the test before asserts can fail."""
    trained = load_bundle(SHIPPED_BUNDLES / "mf").training_prompt_digests()
    one = min(known_digests() - seen(trained))
    assert one in seen(trained | {one + bytes(32 - WIDTH)})


def test_the_digests_are_whole() -> None:
    """A cut or empty file would let everything through."""
    content = DIGESTS.read_bytes()
    assert len(content) % WIDTH == 0
    assert len(known_digests()) == len(content) // WIDTH > 15_000


def test_the_digests_are_those_of_the_data(benchmarks: Path) -> None:
    """Whoever adds a benchmark writes the file again: `benchmark_digests` returns its content."""
    assert DIGESTS.read_bytes() == benchmark_digests(benchmarks)


@pytest.mark.parametrize("bundle", BUNDLES)
def test_no_calibration_prompt_was_trained_on(bundle: str, data: Path) -> None:
    """Percentiles and shares speak of prompts that the router never saw."""
    trained = load_bundle(SHIPPED_BUNDLES / bundle).training_prompt_digests()
    assert not trained & {prompt_digest(prompt) for prompt in calibration_prompts(data)}


@pytest.mark.timeout(600)  # MMLU: 14,037 prompts, a minute on two idle cores
@pytest.mark.parametrize(
    ("bundle", "benchmark"),
    [
        (bundle, benchmark)
        for bundle in BUNDLES
        for benchmark in BENCHMARKS
        if manifest_apgr(bundle, benchmark) is not None
    ],
)
def test_the_manifests_figures_are_reached(bundle: str, benchmark: str, benchmarks: Path) -> None:
    """What is served is as good as the manifest says, and win rates in any other order are not."""
    test_set = load_benchmark(benchmark, benchmarks)
    rates = cached_win_rates(load_router(bundle), test_set.prompts, cache=None)
    least = (manifest_apgr(bundle, benchmark) or 0.0) - TOLERANCE
    assert apgr(rates, test_set.weak_scores, test_set.strong_scores) >= least
    shuffled = np.random.default_rng(0).permutation(rates)
    assert apgr(shuffled, test_set.weak_scores, test_set.strong_scores) < least
