"""A benchmark's name finds the right data and the right models, or says what to do."""

import csv
import gzip
import json
import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pointsman.errors import ConfigError
from pointsman.evaluation.benchmarks import PAIR, PERCENT_RIGHT, Benchmark
from pointsman.evaluation.generated import generated_file
from pointsman.evaluation.sources import benchmark_names, find_benchmark
from pointsman.evaluation.sources import data_folder as folder_of
from pointsman.routers.settings import BUILT_IN, ToolsConfig, read_config
from pointsman.routing import ModelPair


class Mine:
    """A benchmark class as a user writes it."""

    def __init__(self, size: int = 2) -> None:
        """Keep the size."""
        self.size = size

    def load(self) -> Benchmark:
        """Returns prompts that are numbers."""
        if self.size < 0:
            raise OSError("the disk is gone")
        return Benchmark(
            name="whatever",
            prompts=tuple(map(str, range(self.size))),
            pair=ModelPair("big", "small"),
            unit="score",
            weak_scores=np.zeros(self.size),
            strong_scores=np.ones(self.size),
        )


class NotABenchmark:
    """Its `load` returns something else."""

    def load(self) -> int:
        """Returns a number."""
        return 3


def lines(path: Path, *rows: dict[str, Any]) -> Path:
    """Write JSON Lines, gzipped if the name says so, and return the path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    text = "".join(json.dumps(row) + "\n" for row in rows).encode()
    path.write_bytes(gzip.compress(text) if path.suffix == ".gz" else text)
    return path


def graded(prompt: str, strong_score: Any, weak_score: Any, **more: Any) -> dict[str, Any]:
    """One row of a file of graded prompts."""
    return {"prompt": prompt, "strong_score": strong_score, "weak_score": weak_score, **more}


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """GSM8K with three questions, one contaminated, and MT-Bench with one; a preference set."""
    folder = tmp_path / "data"
    exam = folder / "benchmarks" / "gsm8k"
    lines(exam / "contaminated_prompts.jsonl", {"eval_prompt": "known", "train_prompt": "known"})
    with (exam / "gsm8k_responses.csv").open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(["prompt", PAIR.weak, PAIR.strong])
        writer.writerows([["one", True, True], ["known", True, True], ["two\n", False, True]])
    bench = folder / "benchmarks" / "mt_bench"
    lines(bench / "contaminated_prompts.jsonl")
    lines(bench / "question.jsonl", {"question_id": 81, "turns": ["write", "rewrite"]})
    lines(
        bench / "judgements.jsonl",
        *(
            {"model": model, "question_id": 81, "score": score}
            for model, score in ((PAIR.weak, 4), (PAIR.weak, 5), (PAIR.strong, 9))
        ),
    )
    lines(
        folder / "preferences" / "chats.jsonl.gz",
        graded("hi", 0.9, 0.2, strong="s", weak="w"),
        graded("hi", 0.7, 0.4, strong="s", weak="v"),
    )
    return folder


def configured(tmp_path: Path, text: str) -> ToolsConfig:
    """Returns a configuration with these benchmarks."""
    path = tmp_path / "config.yaml"
    path.write_text(f"benchmarks:\n  mine: {text}\n")
    return read_config(str(path))


def test_the_data_folder_is_named_or_in_the_cache() -> None:
    """POINTSMAN_DATA wins; empty counts as unset."""
    assert folder_of({"POINTSMAN_DATA": "/d", "XDG_CACHE_HOME": "/c"}) == Path("/d")
    assert folder_of({"POINTSMAN_DATA": "", "XDG_CACHE_HOME": "/c"}) == Path("/c/pointsman/data")


def test_only_what_is_there_is_listed(data: Path, tmp_path: Path) -> None:
    """In the order in which names are looked up."""
    config = configured(tmp_path, "{file: a.csv}")
    assert benchmark_names(data, config) == ["mine", "gsm8k", "mt-bench", "chats"]
    assert benchmark_names(tmp_path / "none", BUILT_IN) == []


def test_the_real_benchmarks_are_found(data_folder: Path) -> None:
    """The names and spellings of RouteLLM's own commands."""
    for name in ("mt-bench", "mt_bench"):
        found = find_benchmark(
            name,
            data=data_folder,
            config=BUILT_IN,
            strong_model="gpt-4-1106-preview",
            weak_model="anyscale/mistralai/Mixtral-8x7B-Instruct-v0.1",
        )
        assert (found.name, found.pair, len(found.prompts)) == ("mt-bench", PAIR, 72)
    arena = find_benchmark(
        "arena_bench_v1",
        data=data_folder,
        config=BUILT_IN,
        strong_model=PAIR.strong,
        weak_model=PAIR.weak,
    )
    assert arena.pair == ModelPair("gpt-4-1106-preview", "mixtral-8x7b-instruct-v0.1")
    assert arena.strong_scores.mean() > arena.weak_scores.mean()


def test_generated_answers_replace_a_model(data: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Prompts that only one of the two has graded are left out, aloud."""
    path = generated_file(data, "gsm8k", "acme/tiny-1")
    assert path.name == "acme__tiny-1.jsonl"
    lines(path, {"prompt": "two\n", "score": 0}, {"prompt": "known", "score": 1})
    lines(path, {"prompt": "two\n", "score": 0}, {"prompt": "two\n", "score": True})
    with caplog.at_level(logging.WARNING):
        found = find_benchmark("gsm8k", data=data, config=BUILT_IN, weak_model="acme/tiny-1")
    assert (found.prompts, found.unit) == (("two\n",), PERCENT_RIGHT)
    assert (found.weak_scores.tolist(), found.strong_scores.tolist()) == ([100.0], [100.0])
    assert found.pair == ModelPair(strong=PAIR.strong, weak="acme/tiny-1")
    assert "only 1 of 2 prompts" in caplog.text


def test_generated_answers_are_found_under_another_spelling(data: Path) -> None:
    """Who asked `openai/tiny` may measure `Tiny`; between two such files nobody guesses."""
    lines(generated_file(data, "mt-bench", "openai/tiny"), {"prompt": "write", "score": 6.5})
    found = find_benchmark("mt-bench", data=data, config=BUILT_IN, strong_model="Tiny")
    assert found.strong_scores.tolist() == [6.5]
    assert found.weak_scores.tolist() == [4.5]
    lines(generated_file(data, "mt-bench", "azure/tiny"), {"prompt": "write", "score": 6})
    with pytest.raises(ConfigError, match="azure/tiny and openai/tiny"):
        find_benchmark("mt-bench", data=data, config=BUILT_IN, strong_model="tiny")


def test_a_model_without_answers_names_the_command(data: Path) -> None:
    """One line that can be pasted."""
    command = "pointsman data generate --benchmark gsm8k --model acme/tiny-2 --base-url"
    with pytest.raises(ConfigError, match=command):
        find_benchmark("gsm8k", data=data, config=BUILT_IN, strong_model="acme/tiny-2")
    lines(generated_file(data, "gsm8k", "acme/tiny-2"), {"prompt": "other", "score": 1})
    with pytest.raises(ConfigError, match=f"no prompt has graded.*{command}"):
        find_benchmark("gsm8k", data=data, config=BUILT_IN, strong_model="acme/tiny-2")


@pytest.mark.parametrize(("benchmark", "score"), [("gsm8k", 100), ("mt-bench", 0.5)])
def test_a_generated_score_in_another_unit_is_refused(
    data: Path, benchmark: str, score: float
) -> None:
    """100 where 1 is meant would be ten thousand percent."""
    path = lines(generated_file(data, benchmark, "m"), {"prompt": "one", "score": score})
    with pytest.raises(ConfigError, match=f"{path.name}, line 1: the score {score}"):
        find_benchmark(benchmark, data=data, config=BUILT_IN, weak_model="m")


def test_one_model_against_itself_is_refused(data: Path) -> None:
    """No share of calls changes anything then."""
    with pytest.raises(ConfigError, match="both"):
        find_benchmark("gsm8k", data=data, config=BUILT_IN, weak_model="GPT-4-1106-preview")


def test_a_preference_set_is_found_by_name(data: Path) -> None:
    """One pair of it too."""
    everything = find_benchmark("chats", data=data, config=BUILT_IN)
    assert everything.weak_scores == pytest.approx([0.3])
    pair = find_benchmark("chats", data=data, config=BUILT_IN, weak_model="V")
    assert pair.weak_scores.tolist() == [0.4]
    with pytest.raises(ConfigError, match="it has: s and w, s and v"):
        find_benchmark("chats", data=data, config=BUILT_IN, weak_model="x")


def test_a_file_of_graded_prompts_is_taken_row_by_row(tmp_path: Path) -> None:
    """JSON Lines with costs; a prompt that comes twice counts twice."""
    rows = [graded("hi", 7, 3.5, strong_cost=0.5, weak_cost=0.25), graded("hi", 9, 4)]
    path = lines(tmp_path / "support.jsonl.gz", rows[0], {**rows[0], **rows[1]})
    found = find_benchmark(str(path), data=tmp_path, config=BUILT_IN, strong_model="big")
    assert (found.name, found.prompts, found.unit) == ("support", ("hi", "hi"), "score")
    assert found.pair == ModelPair(strong="big", weak="weak")
    assert found.weak_scores.tolist() == [3.5, 4.0]
    assert found.weak_costs is not None
    assert found.weak_costs.tolist() == [0.25, 0.25]


def test_a_csv_file_of_right_and_wrong_is_percent(tmp_path: Path) -> None:
    """True and 1 are the same, and costs need not be known."""
    path = tmp_path / "exam.csv"
    path.write_text('prompt,strong_score,weak_score\n"a\nb",True,0\nc,1,1\n')
    found = find_benchmark(str(path), data=tmp_path, config=BUILT_IN)
    assert (found.prompts, found.unit) == (("a\nb", "c"), PERCENT_RIGHT)
    assert found.weak_scores.tolist() == [0.0, 100.0]
    assert (found.strong_costs, found.weak_costs) == (None, None)


def test_a_file_whose_rows_name_models_is_measured_by_pair(tmp_path: Path) -> None:
    """A figure never bears the name of a model that is not in it."""
    path = str(
        lines(
            tmp_path / "votes.jsonl",
            graded("a", 5, 1, strong="s", weak="w"),
            graded("a", 5, 2, strong="s", weak="acme/V"),
        )
    )
    found = find_benchmark(path, data=tmp_path, config=BUILT_IN, weak_model="v")
    assert (found.pair, found.weak_scores.tolist()) == (ModelPair("s", "v"), [2.0])
    with pytest.raises(ConfigError, match="no outcomes of any model as strong and `x` as weak"):
        find_benchmark(path, data=tmp_path, config=BUILT_IN, weak_model="x")


@pytest.mark.parametrize(
    ("rows", "problem"),
    [
        ([graded("a", "x", 1)], "line 1: the field `strong_score` is not a number"),
        ([graded("a", 1, 1), graded("b", 1, None)], "line 2: the field `weak_score`"),
        ([graded(3, 1, 1)], "line 1: the field `prompt` is not text"),
        ([{"prompt": "a", "strong_score": 1}], "line 1: there is no field `weak_score`"),
        ([graded("a", 1, 0, weak_cost=1), graded("b", 1, 0)], "line 2: there is no field `weak_c"),
        ([graded("a", 1, 0, weak_cost=-1)], "line 1: the weak_cost is below 0"),
        ([], "there are no rows"),
    ],
)
def test_a_bad_row_is_named(tmp_path: Path, rows: list[dict[str, Any]], problem: str) -> None:
    """Line and reason, so that it can be mended."""
    path = lines(tmp_path / "bad.jsonl", *rows)
    with pytest.raises(ConfigError, match=problem):
        find_benchmark(str(path), data=tmp_path, config=BUILT_IN)


@pytest.mark.parametrize("name", ["nope", "", ".", "../chats", "mmlu.csv"])
def test_an_unknown_name_lists_the_known_and_the_remedy(data: Path, name: str) -> None:
    """A typing mistake and missing data look alike: both remedies are told."""
    with pytest.raises(ConfigError, match=r"mmlu, gsm8k, mt-bench, chats.*data fetch.*--data"):
        find_benchmark(name, data=data, config=BUILT_IN)


def test_a_configured_file_names_its_own_fields(tmp_path: Path) -> None:
    """The models are called what their score fields are called."""
    path = lines(tmp_path / "log.jsonl", {"q": "hi", "gpt": 1, "llama": 0, "$": 0.5})
    text = f"{{file: {path}, prompt: q, strong_score: gpt, weak_score: llama, strong_cost: $}}"
    found = find_benchmark("mine", data=tmp_path, config=configured(tmp_path, text))
    assert (found.name, found.pair) == ("mine", ModelPair("gpt", "llama"))
    assert found.strong_costs is not None
    assert found.strong_costs.tolist() == [0.5]


def test_a_configured_name_comes_first(data: Path, tmp_path: Path) -> None:
    """One's own `mmlu` is not silently another's."""
    path = lines(tmp_path / "own.jsonl", graded("mine", 1, 0))
    (tmp_path / "config.yaml").write_text(f"benchmarks: {{gsm8k: {{file: {path}}}}}\n")
    config = read_config(str(tmp_path / "config.yaml"))
    assert find_benchmark("gsm8k", data=data, config=config).prompts == ("mine",)


@pytest.fixture
def importable(monkeypatch: pytest.MonkeyPatch) -> str:
    """The name by which this module's classes can be imported."""
    import sys

    monkeypatch.setitem(sys.modules, "their_benchmarks", sys.modules[__name__])
    return "their_benchmarks"


def test_a_class_of_ones_own_is_a_benchmark(importable: str, tmp_path: Path) -> None:
    """It goes by the name in the configuration, and answers for its own models only."""
    config = configured(tmp_path, f'{{class: "{importable}:Mine", options: {{size: 3}}}}')
    found = find_benchmark("mine", data=tmp_path, config=config, strong_model="acme/big")
    assert (found.name, found.prompts) == ("mine", ("0", "1", "2"))
    with pytest.raises(ConfigError, match=r"benchmarks\.mine .*it has: big and small"):
        find_benchmark("mine", data=tmp_path, config=config, weak_model="tiny")


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ('{class: "no_such_module:X"}', "No module named"),
        ('{class: "json:NoSuchClass"}', "NoSuchClass"),
        ("{class: json}", "cannot be loaded"),
        ('{class: ":X"}', "cannot be loaded"),
        ('{class: "their_benchmarks:Mine", options: {colour: 1}}', "TypeError"),
        ('{class: "their_benchmarks:Mine", options: {size: 0}}', "must have prompts"),
        ('{class: "their_benchmarks:Mine", options: {size: -1}}', "the disk is gone"),
        ('{class: "their_benchmarks:NotABenchmark"}', "returned int, not a"),
    ],
)
def test_a_class_that_does_not_load_names_its_key(
    importable: str, tmp_path: Path, text: str, problem: str
) -> None:
    """Somebody else's code is at fault, and the line says where it was named."""
    with pytest.raises(ConfigError, match=rf"config\.yaml: benchmarks\.mine\.class: .*{problem}"):
        find_benchmark("mine", data=tmp_path, config=configured(tmp_path, text))


@pytest.mark.parametrize("text", ["{}", "{file: a.csv, class: 'a:B'}"])
def test_a_benchmark_is_either_a_file_or_a_class(tmp_path: Path, text: str) -> None:
    """Neither and both are mistakes."""
    with pytest.raises(ConfigError, match=r"benchmarks\.mine must name either a file or a class"):
        find_benchmark("mine", data=tmp_path, config=configured(tmp_path, text))
