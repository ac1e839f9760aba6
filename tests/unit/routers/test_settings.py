"""Configuration files, ours and RouteLLM's: what they mean, what is said when they are wrong."""

from pathlib import Path

import pytest
import yaml

from pointsman.errors import ConfigError, UnknownRouter
from pointsman.routers import registry
from pointsman.routers.bundle import MANIFEST_NAME, file_entry, save_bundle
from pointsman.routers.embedding import EmbedderSettings
from pointsman.routers.imported import IMPORTED_FROM
from pointsman.routers.manifest import Manifest, TrainingPair, revision_of
from pointsman.routers.registry import SHIPPED_BUNDLES, router_names
from pointsman.routers.routellm_config import ROUTELLM_PAIR
from pointsman.routers.settings import (
    BUILT_IN,
    EXAMPLE_CONFIG,
    RouterSettings,
    config_of,
    read_config,
)
from pointsman.routing import ModelPair

ROUTELLM = """
sw_ranking:
  arena_battle_datasets: [lmsys/lmsys-arena-human-preference-55k, routellm/gpt4_judge_battles]
  arena_embedding_datasets: [routellm/arena_battles_embeddings]
  strong_model: gpt-4-1106-preview
  weak_model: mixtral-8x7b-instruct-v0.1
bert: {checkpoint_path: routellm/bert_gpt4_augmented}
causal_llm: {checkpoint_path: routellm/causal_llm_gpt4_augmented, score_threshold: 4}
mf:
  checkpoint_path: routellm/mf_gpt4_augmented
  strong_model: gpt-4-1106-preview
  weak_model: mixtral-8x7b-instruct-v0.1
  hidden_size: 128
random:
"""


@pytest.fixture
def write(tmp_path: Path):
    """Writes a configuration file and returns its path."""

    def to_file(text: str) -> str:
        path = tmp_path / "config.yaml"
        path.write_text(text)
        return str(path)

    return to_file


def test_without_a_file_there_are_the_shipped_routers() -> None:
    """`mf`, and a seeded `random`."""
    config = read_config(None)
    assert config is BUILT_IN
    assert config.load("random").revision == "random-seed-0"
    assert config.load("mf").training_pair is not None
    assert config.notes(["mf", "random"]) == []


def test_the_example_is_what_is_built_in() -> None:
    """Whoever copies it changes nothing yet."""
    config = read_config(str(EXAMPLE_CONFIG))
    assert dict(config.routers) == dict(BUILT_IN.routers)
    assert config.benchmarks == {}


def test_the_comments_of_the_example_are_settings_too(write) -> None:
    """What it shows commented out can be uncommented."""
    lines = EXAMPLE_CONFIG.read_text().splitlines()
    shown = [line for line in lines if "{" in line and ":" in line and not line.startswith("# ")]
    entries = yaml.safe_load("\n".join(line.strip().removeprefix("#").strip() for line in shown))
    config = read_config(write(yaml.safe_dump({"routers": entries})))
    shipped = {"mf", "random", "sw_ranking", "bert", "causal_llm"}
    assert {*shipped, "mine", "theirs"} == set(config.routers)
    assert config.routers["theirs"].factory == "my_package.my_module:MyRouter"


def test_routellms_file_is_understood(write) -> None:
    """All of its keys; a checkpoint that is no bundle of ours becomes the shipped one."""
    path = write(ROUTELLM)
    config = read_config(path)
    assert set(config.routers) == {"sw_ranking", "bert", "causal_llm", "mf", "random"}
    assert config.routers["mf"] == RouterSettings()
    (note,) = config.notes(["random", "mf"])
    bundles = Path(path).parent / "bundles"
    for words in (
        *(path, "routellm/mf_gpt4_augmented", "thresholds", "pointsman calibrate"),
        f"`pointsman import mf routellm/mf_gpt4_augmented --out {bundles}`",
    ):
        assert words in note
    assert config.load("mf").name == "mf"


@pytest.mark.parametrize("checkpoint", ["7", "{repo: x}", "[a, 7]"])
def test_a_checkpoint_may_be_anything(write, checkpoint: str) -> None:
    """It is only told back to its writer."""
    config = read_config(write(f"mf: {{checkpoint_path: {checkpoint}}}"))
    (note,) = config.notes(["mf"])
    assert "mf is Pointsman's own bundle, not " in note


@pytest.fixture
def only_mf_ships(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A package without the other routers' bundles."""
    manifest = tmp_path / "shipped" / "mf" / MANIFEST_NAME
    manifest.parent.mkdir(parents=True)
    manifest.touch()
    monkeypatch.setattr(registry, "SHIPPED_BUNDLES", tmp_path / "shipped")


@pytest.mark.usefixtures("only_mf_ships")
@pytest.mark.parametrize("name", ["bert", "sw_ranking", "causal_llm"])
def test_a_router_that_is_not_here_says_what_to_do(write, name: str) -> None:
    """Its checkpoint, which routers there are, and how to name a bundle."""
    config = read_config(write(ROUTELLM))
    for ask in (config.load, config.settings_of):
        with pytest.raises(UnknownRouter) as refused:
            ask(name)
        for words in (f"router {name}", "routellm/", "--routers mf random", "{bundle: ...}"):
            assert words in str(refused.value)
        assert f"import it with `pointsman import {name} " in str(refused.value)
    assert config.notes([name]) == []


@pytest.mark.usefixtures("only_mf_ships")
def test_an_own_file_may_name_a_router_that_is_not_here(write) -> None:
    """It asks for no checkpoint; there is nothing to import."""
    config = read_config(write("routers: {bert: {}}"))
    with pytest.raises(UnknownRouter, match=r"router bert asks for a bundle.*; leave it out"):
        config.settings_of("bert")


@pytest.mark.parametrize("name", [name for name in router_names() if name != "random"])
def test_what_ships_takes_a_checkpoints_place(write, name: str) -> None:
    """RouteLLM's file works as it stands, and a note says whose win rates they are."""
    config = read_config(write(ROUTELLM))
    assert config.settings_of(name) == RouterSettings()
    (note,) = config.notes([name, "random"])
    assert f"{name} is Pointsman's own bundle, not " in note


def test_the_command_for_a_checkpoint_is_whole(write) -> None:
    """Every data set, the embeddings, and the pair where it is not RouteLLM's."""
    config = read_config(write(ROUTELLM))
    bundles = Path(config.source).parent / "bundles"
    assert config.replaced["sw_ranking"].command == (
        "pointsman import sw_ranking lmsys/lmsys-arena-human-preference-55k "
        "routellm/gpt4_judge_battles --embeddings routellm/arena_battles_embeddings "
        f"--out {bundles}"
    )
    other = read_config(write("mf: {checkpoint_path: a b, strong_model: gpt-4-0314}"))
    assert other.replaced["mf"].command == (
        "pointsman import mf 'a b' --strong-model gpt-4-0314 --weak-model "
        f"mixtral-8x7b-instruct-v0.1 --out {bundles}"
    )


@pytest.fixture
def imported(tmp_path: Path):
    """Saves what `pointsman import` would write, under any name, and returns its folder."""

    def save(name: str, kind: str, origin: str, pair: ModelPair = ROUTELLM_PAIR, model="") -> Path:
        files = {"weights": file_entry(b"weights", ".npz")}
        training_pair = TrainingPair(strong=pair.strong, weak=pair.weak)
        embedder = EmbedderSettings(max_tokens=9, dimension=3, model=model)
        manifest = Manifest(
            format_version=1,
            name=name,
            kind=kind,
            revision=revision_of(kind, training_pair, embedder, files),
            training_pair=training_pair,
            embedder=embedder,
            data=(),
            seed=0,
            figures={IMPORTED_FROM: origin},
            files=files,
        )
        return save_bundle(manifest, {"weights": b"weights"}, tmp_path / "bundles")

    return save


def test_an_imported_checkpoint_is_used(write, imported) -> None:
    """Found beside the file by what it was made of; where an endpoint embeds, it is OpenAI's."""
    mf = imported("theirs", "mf", "routellm/mf_gpt4_augmented", model="text-embedding-3-small")
    bert = imported("bert", "bert", "routellm/bert_gpt4_augmented")
    ranking = imported(
        *("sw", "sw_ranking"),
        "lmsys/lmsys-arena-human-preference-55k, routellm/gpt4_judge_battles, "
        "routellm/arena_battles_embeddings",
        model="text-embedding-3-small",
    )
    config = read_config(write(ROUTELLM))
    assert config.routers["mf"].bundle == str(mf)
    assert config.routers["bert"] == RouterSettings(bundle=str(bert))
    assert config.routers["sw_ranking"].bundle == str(ranking)
    for name in ("mf", "sw_ranking"):
        embeddings = config.routers[name].embeddings
        assert embeddings is not None
        assert embeddings.base_url == "https://api.openai.com/v1"
    assert set(config.replaced) == {"causal_llm"}
    assert config.notes(["mf", "bert", "sw_ranking"]) == []


@pytest.mark.parametrize(
    ("kind", "origin", "pair"),
    [
        ("bert", "routellm/mf_gpt4_augmented", ROUTELLM_PAIR),
        ("mf", "routellm/mf", ROUTELLM_PAIR),
        ("mf", "routellm/mf_gpt4_augmented", ModelPair(strong="gpt-4-0314", weak="claude-1")),
    ],
)
def test_another_import_is_not_it(write, imported, kind: str, origin: str, pair: ModelPair) -> None:
    """Another kind, another checkpoint, another pair: the win rates would be others."""
    imported("mf", kind, origin, pair)
    config = read_config(write(ROUTELLM))
    assert config.routers["mf"] == RouterSettings()
    assert "mf" in config.replaced


def test_a_mapping_finds_bundles_in_the_working_folder(
    imported, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A controller's configuration lies in no folder of its own."""
    imported("mf", "mf", "routellm/mf_gpt4_augmented")
    monkeypatch.chdir(tmp_path)
    values = {"mf": {"checkpoint_path": "routellm/mf_gpt4_augmented"}}
    assert config_of(values, source="config").routers["mf"].bundle == str(Path("bundles", "mf"))


def test_an_unknown_router_lists_each_known_one_once(write) -> None:
    """Those that ship and those of the file."""
    config = read_config(write("routers: {mf: {}, mine: {bundle: x}}"))
    known = ", ".join([*router_names(), "mine"])
    with pytest.raises(UnknownRouter, match=f"`nope`; there are: {known}$"):
        config.load("nope")


def test_routers_beside_the_file_can_be_named(write) -> None:
    """A file of benchmarks alone takes no router away, and `random` is as without a file."""
    config = read_config(write("benchmarks: {support: {file: support.jsonl}}"))
    assert config.routers == {}
    assert config.benchmarks["support"].file == "support.jsonl"
    assert config.load("mf").name == "mf"
    assert config.load("random").revision == BUILT_IN.load("random").revision == "random-seed-0"
    assert {"mf", "random"} <= set(router_names())


@pytest.mark.parametrize("key", ["bundle", "checkpoint_path"])
def test_a_bundle_of_ones_own_is_loaded(write, key: str) -> None:
    """In our words or in RouteLLM's."""
    config = read_config(write(f"mf: {{{key}: '{SHIPPED_BUNDLES / 'mf'}'}}"))
    assert config.routers["mf"].bundle == str(SHIPPED_BUNDLES / "mf")
    assert config.notes(["mf"]) == []
    assert config.load("mf").revision == BUILT_IN.load("mf").revision


def test_options_reach_the_class(write) -> None:
    """A seed of one's own."""
    config = read_config(write("random: {options: {seed: 7}}"))
    assert config.load("random").revision == "random-seed-7"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("mf: {checkpoint: x}", r"router mf has the key `checkpoint`.*\$\.mf\.checkpoint"),
        ("mine: {checkpoint_path: x}", "unknown field `checkpoint_path`"),
        ("routers: [mf]", r"Expected `object`, got `array` - at `\$\.routers`"),
        ("routers: {mf: 3}", r"Expected `object`, got `int`"),
        ("routers: {Mine: {}}", r"router name `Mine` is not"),
        ("routers: {mf: {}}\nbenchmark: {}", "unknown field `benchmark`"),
        ("- mf", "expected a mapping at the top, got list"),
        ("mf: {", "not YAML"),
    ],
)
def test_a_wrong_file_is_one_line(write, text: str, said: str) -> None:
    """File, key path and value."""
    path = write(text)
    with pytest.raises(ConfigError, match=f"(?s){said}") as refused:
        read_config(path)
    assert str(refused.value).startswith(path)
    assert "\n" not in str(refused.value)


def test_a_missing_example_says_where_one_is(tmp_path: Path) -> None:
    """RouteLLM's commands name config.example.yaml, which an installed package has inside."""
    with pytest.raises(ConfigError, match=str(EXAMPLE_CONFIG)):
        read_config(str(tmp_path / "config.example.yaml"))
    with pytest.raises(ConfigError, match=r"other\.yaml: cannot be read: No such file"):
        read_config(str(tmp_path / "other.yaml"))
