"""The test sets are read exactly as RouteLLM reads them."""

from pathlib import Path

import numpy as np
import pytest

from pointsman.errors import ConfigError
from pointsman.evaluation.benchmarks import BENCHMARKS, load_benchmark, protected_prompts
from pointsman.evaluation.metrics import apgr


@pytest.mark.parametrize(
    ("name", "count", "weak", "strong"),
    [
        ("mmlu", 14037, 68.0915, 80.5870),
        ("gsm8k", 1307, 63.7337, 85.7689),
        ("mt_bench", 72, 8.28125, 9.21181),
    ],
)
def test_scores_are_routellms(
    data_folder: Path, name: str, count: int, weak: float, strong: float
) -> None:
    """Decontaminated sizes and both models' scores, to the digits RouteLLM prints."""
    found = load_benchmark(name, data_folder)
    assert len(found.prompts) == count
    assert found.weak_scores.mean() == pytest.approx(weak, abs=5e-5)
    assert found.strong_scores.mean() == pytest.approx(strong, abs=5e-5)


@pytest.mark.parametrize(
    ("name", "value"), [("mmlu", 0.583), ("gsm8k", 0.598), ("mt_bench", 0.556)]
)
def test_prompt_length_has_its_known_apgr(data_folder: Path, name: str, value: float) -> None:
    """The control that knows nothing but length gives the published floor."""
    found = load_benchmark(name, data_folder)
    lengths = np.asarray([len(prompt) for prompt in found.prompts])
    assert apgr(lengths, found.weak_scores, found.strong_scores) == pytest.approx(value, abs=1e-3)


def test_protected_prompts_hold_every_test_prompt(data_folder: Path) -> None:
    """Contaminated ones and MT-Bench's second turns too."""
    protected = set(protected_prompts(data_folder))
    for name in BENCHMARKS:
        assert set(load_benchmark(name, data_folder).prompts) <= protected
    assert sum(prompt.startswith("Rewrite your previous response") for prompt in protected)


def test_an_unknown_benchmark_lists_the_known(tmp_path: Path) -> None:
    """A typing mistake is one sentence."""
    with pytest.raises(ConfigError, match="mmlu, gsm8k, mt_bench"):
        load_benchmark("arc", tmp_path)


@pytest.mark.parametrize("name", BENCHMARKS)
def test_a_missing_folder_names_the_remedy(name: str, tmp_path: Path) -> None:
    """No benchmark is silently empty."""
    with pytest.raises(ConfigError, match="--data"):
        load_benchmark(name, tmp_path)
