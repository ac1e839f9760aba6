"""The test sets are read exactly as RouteLLM reads them."""

from pathlib import Path

import numpy as np
import pytest

from pointsman.errors import ConfigError
from pointsman.evaluation.benchmarks import (
    BENCHMARKS,
    PAIR,
    PERCENT_RIGHT,
    Benchmark,
    in_natural_unit,
    load_benchmark,
    protected_prompts,
)
from pointsman.evaluation.metrics import apgr


@pytest.mark.parametrize(
    ("name", "count", "weak", "strong"),
    [
        ("mmlu", 14037, 68.0915, 80.5870),
        ("gsm8k", 1307, 63.7337, 85.7689),
        ("mt-bench", 72, 8.28125, 9.21181),
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
    ("name", "value"), [("mmlu", 0.583), ("gsm8k", 0.598), ("mt-bench", 0.556)]
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
    with pytest.raises(ConfigError, match="mmlu, gsm8k, mt-bench"):
        load_benchmark("arc", tmp_path)


@pytest.mark.parametrize("name", BENCHMARKS)
def test_a_missing_folder_names_the_remedy(name: str, tmp_path: Path) -> None:
    """No benchmark is silently empty."""
    with pytest.raises(ConfigError, match=r"pointsman data fetch.*--data or POINTSMAN_DATA"):
        load_benchmark(name, tmp_path)


@pytest.mark.parametrize(
    "lacking",
    [
        "mmlu/responses/mmlu_law.csv",
        "gsm8k/gsm8k_responses.csv",
        "mt_bench/question.jsonl",
        "gsm8k/contaminated_prompts.jsonl",
    ],
)
def test_protected_prompts_are_all_of_them_or_none(lacking: str, tmp_path: Path) -> None:
    """Half of the test prompts would let a router train on the others."""
    for name in BENCHMARKS:
        folder = tmp_path / "benchmarks" / name.replace("-", "_")
        (folder / "responses").mkdir(parents=True)
        row = f'{{"train_prompt": "{name} train", "eval_prompt": "{name} eval"}}\n'
        (folder / "contaminated_prompts.jsonl").write_text(row)
    folder = tmp_path / "benchmarks"
    (folder / "mmlu/responses/mmlu_law.csv").write_text("prompt\nlaw\n")
    (folder / "gsm8k/gsm8k_responses.csv").write_text("prompt\nsum\n")
    (folder / "mt_bench/question.jsonl").write_text('{"turns": ["first", "second"]}\n')
    assert len(list(protected_prompts(tmp_path))) == 10
    (folder / lacking).unlink()
    named = lacking.removesuffix("mmlu_law.csv").rstrip("/")
    with pytest.raises(ConfigError, match=f"{named}.*pointsman data fetch"):
        list(protected_prompts(tmp_path))


def test_a_damaged_file_is_one_sentence(tmp_path: Path) -> None:
    """Half a download is told from none."""
    folder = tmp_path / "benchmarks" / "gsm8k"
    folder.mkdir(parents=True)
    (folder / "contaminated_prompts.jsonl").write_text('{"eval_prompt": "x"}\n')
    (folder / "gsm8k_responses.csv").write_text("prompt,somebody\nhello,True\n")
    with pytest.raises(ConfigError, match=r"gsm8k in .* is damaged.*data fetch"):
        load_benchmark("gsm8k", tmp_path)
    (folder / "contaminated_prompts.jsonl").write_text('{"eval_prompt": "x')
    with pytest.raises(ConfigError, match="damaged"):
        load_benchmark("gsm8k", tmp_path)


@pytest.mark.parametrize(
    ("weak", "strong", "costs"),
    [
        ([1.0], [1.0, 2.0], None),
        ([1.0, 2.0], [1.0, np.nan], None),
        ([1.0, 2.0], [1.0, 2.0], [1.0]),
    ],
)
def test_columns_must_fit_the_prompts(
    weak: list[float], strong: list[float], costs: list[float] | None
) -> None:
    """A benchmark class of anybody's is checked before anything is measured."""
    with pytest.raises(ValueError, match="must be 2 finite numbers"):
        Benchmark(
            name="mine",
            prompts=("a", "b"),
            pair=PAIR,
            unit="score",
            weak_scores=np.asarray(weak),
            strong_scores=np.asarray(strong),
            weak_costs=None if costs is None else np.asarray(costs),
        )


@pytest.mark.parametrize(
    ("scores", "unit"),
    [
        ([0.0, 1.0], (100.0, PERCENT_RIGHT)),
        ([0.0, 0.5], (1.0, "score, 0 to 1")),
        ([7.0], (1.0, "score")),
    ],
)
def test_scores_show_their_unit(scores: list[float], unit: tuple[float, str]) -> None:
    """Right and wrong are percent; everything else stays what it is."""
    assert in_natural_unit(np.asarray(scores)) == unit
