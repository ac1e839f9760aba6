"""From names to a study, and what a bundle tells about its training."""

from pathlib import Path

import msgspec
import pytest

from pointsman.evaluation.measuring import Measuring, trained_on
from pointsman.evaluation.study import StudySettings
from pointsman.routers.bundle import file_entry, prompt_digest, read_manifest, save_bundle
from pointsman.routers.manifest import revision_of
from pointsman.routers.registry import SHIPPED_BUNDLES
from pointsman.routers.settings import BUILT_IN, RouterSettings, ToolsConfig


def config_of(bundle: Path) -> ToolsConfig:
    """A configuration with one bundled router and one of a class."""
    routers = {
        "toy": RouterSettings(bundle=str(bundle)),
        "own": RouterSettings(factory="pointsman.routers.random_baseline:RandomRouter"),
    }
    return ToolsConfig(routers=routers, benchmarks={}, replaced={})


@pytest.fixture
def toy(tmp_path: Path) -> Path:
    """A bundle that trained on one prompt."""
    shipped = read_manifest(SHIPPED_BUNDLES / "mf")
    contents = {
        role: prompt_digest("Hello  THERE") if role == "training_prompts" else role.encode()
        for role in shipped.files
    }
    files = {role: file_entry(data, ".bin") for role, data in contents.items()}
    revision = revision_of(shipped.kind, shipped.training_pair, shipped.embedder, files)
    manifest = msgspec.structs.replace(shipped, name="toy", files=files, revision=revision)
    return save_bundle(manifest, contents, tmp_path)


def test_prompts_of_the_training_are_counted(toy: Path) -> None:
    """In whatever case and spacing; each copy counts."""
    prompts = ["hello there", "Hello there\n", "Goodbye"]
    assert trained_on("toy", config_of(toy), prompts) == 2


def test_a_class_does_not_tell_what_it_trained_on(toy: Path) -> None:
    """Not known is not none."""
    assert trained_on("own", config_of(toy), ["hello there"]) is None


def test_random_trained_on_nothing() -> None:
    """And the shipped router on no prompt like this one."""
    assert trained_on("random", BUILT_IN, ["hello there"]) == 0
    assert trained_on("mf", BUILT_IN, ["a prompt that nobody wrote before 41c9"]) == 0


def test_a_file_and_a_name_become_a_study(tmp_path: Path) -> None:
    """Both models' scores are the file's, the router's rates its own."""
    graded = tmp_path / "graded.jsonl"
    rows = [{"prompt": f"p{n}", "strong_score": 1, "weak_score": n % 2} for n in range(40)]
    graded.write_bytes(b"\n".join(msgspec.json.encode(row) for row in rows))
    measuring = Measuring(
        config=BUILT_IN, data=tmp_path, cache=tmp_path / "cache", settings=StudySettings(samples=10)
    )
    found = measuring.study(measuring.benchmark(str(graded)), [BUILT_IN.load("random")])
    assert found.result.weak_score == 50.0
    assert found.result.strong_score == 100.0
    assert found.result.routers[0].revision == "random-seed-0"


def test_the_known_scores_of_the_test_sets(data_folder: Path) -> None:
    """To four decimals, as RouteLLM prints them."""
    measuring = Measuring(
        config=BUILT_IN, data=data_folder, cache=None, settings=StudySettings(samples=1)
    )
    found = measuring.study(measuring.benchmark("gsm8k"), [BUILT_IN.load("random")]).result
    assert (round(found.weak_score, 4), round(found.strong_score, 4)) == (63.7337, 85.7689)
