"""What `serve`'s command line tells the services, and what it refuses before anything starts."""

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from pointsman.cli import cluster_settings
from pointsman.cli.cluster_settings import Flags, cluster_environ
from pointsman.cli.main import main
from pointsman.errors import ConfigError, PointsmanError, UnknownRouter
from pointsman.routers.bulk import cores
from pointsman.routers.registry import SHIPPED_BUNDLES, router_names
from pointsman.routers.settings import EXAMPLE_CONFIG
from services.gateway import config as gateway
from services.scorer import config as scorer
from services.upstream import config as upstream
from services.upstream.models import load_catalogue

LOCAL = "http://127.0.0.1:8000/v1"
PAIR = {"strong_model": "big", "weak_model": "small"}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Where the files for the services go."""
    return tmp_path


def told(
    folder: Path, environ: Mapping[str, str] | None = None, **flags: Any
) -> tuple[dict[str, str], dict[str, Any]]:
    """Returns what is added to the environment, and the models file."""
    before = environ or {}
    after, _ = cluster_environ(Flags(**flags), before, folder)
    models = folder / "models.yaml"
    added = {name: value for name, value in after.items() if before.get(name) != value}
    return added, yaml.safe_load(models.read_text()) if models.exists() else {}


def test_without_options_the_services_have_their_defaults(folder: Path) -> None:
    """The demo provider, the built-in routers; only requests are not logged."""
    assert told(folder) == ({"POINTSMAN_LOG_LEVEL": "WARNING"}, {})
    assert list(folder.iterdir()) == []


def test_the_variables_are_those_of_the_services() -> None:
    """The library imports no service, so nothing else would notice a renamed one."""
    known = {
        *gateway._VARIABLES,
        *scorer._VARIABLES,
        *upstream._VARIABLES,
        gateway.CONFIG_VARIABLE,
        scorer.CONFIG_VARIABLE,
    }
    used = {value for name, value in vars(cluster_settings).items() if name.endswith("_VARIABLE")}
    assert used <= known
    assert len(used) == 9


def test_options_become_variables_and_overrule_them(folder: Path) -> None:
    """Host, port, threads and the log."""
    environ = {"POINTSMAN_GATEWAY_PORT": "1", "POINTSMAN_LOG_LEVEL": "ERROR", "HOME": "/root"}
    added, _ = told(folder, environ, host="0.0.0.0", port=0, workers=3, verbose=True)
    assert added == {
        "POINTSMAN_GATEWAY_HOST": "0.0.0.0",
        "POINTSMAN_GATEWAY_PORT": "0",
        "POINTSMAN_SCORER_WORKERS": "3",
        "POINTSMAN_LOG_LEVEL": "INFO",
    }
    assert told(folder, environ, workers=0)[0] == {"POINTSMAN_SCORER_WORKERS": str(cores())}


def test_both_models_at_one_server(folder: Path) -> None:
    """RouteLLM's --base-url and --api-key; the key is in no file."""
    added, models = told(folder, base_url=LOCAL, api_key="sk-secret", **PAIR)
    assert models == {
        "providers": {
            "strong": {"base_url": LOCAL, "api_key_env": "POINTSMAN_STRONG_API_KEY"},
            "weak": {"base_url": LOCAL, "api_key_env": "POINTSMAN_WEAK_API_KEY"},
        },
        "models": {
            "big": {"provider": "strong", "model": "big"},
            "small": {"provider": "weak", "model": "small"},
        },
    }
    assert "sk-secret" not in (folder / "models.yaml").read_text()
    catalogue = load_catalogue(added["POINTSMAN_MODELS"], "http://unused", added)
    endpoints = [endpoint for model in catalogue.models() for endpoint in model.endpoints]
    assert [one.key.reveal() for one in endpoints] == ["sk-secret"] * 2
    pair = (added["POINTSMAN_STRONG_MODEL"], added["POINTSMAN_WEAK_MODEL"])
    assert pair == ("big", "small")


def test_the_weak_model_has_a_provider_of_its_own_in_0_1_0(folder: Path) -> None:
    """--alt-base-url and --alt-api-key; the strong one keeps its usual place and variable."""
    environ = {"OPENAI_API_KEY": "sk-openai"}
    flags = {"strong_model": "gpt-4o", "weak_model": "mistralai/Mixtral-8x7B-Instruct-v0.1"}
    added, models = told(folder, environ, alt_base_url=LOCAL, alt_api_key="k", **flags)
    assert models["providers"] == {
        "strong": {"base_url": "https://api.openai.com/v1", "api_key_env": "OPENAI_API_KEY"},
        "weak": {"base_url": LOCAL, "api_key_env": "POINTSMAN_WEAK_API_KEY"},
    }
    assert models["models"]["mistralai/Mixtral-8x7B-Instruct-v0.1"]["provider"] == "weak"
    assert added["POINTSMAN_WEAK_API_KEY"] == "k"
    assert "POINTSMAN_STRONG_API_KEY" not in added


def test_a_key_goes_to_the_endpoint_it_was_given_for(folder: Path) -> None:
    """--api-key belongs to --base-url: the weak model's own endpoint never sees it."""
    flags = {"base_url": "https://strong.example/v1", "api_key": "sk-secret", **PAIR}
    added, models = told(folder, alt_base_url=LOCAL, **flags)
    assert models["providers"]["weak"] == {"base_url": LOCAL}
    assert [name for name, value in added.items() if value == "sk-secret"] == [
        "POINTSMAN_STRONG_API_KEY"
    ]


def test_names_as_litellm_has_them(folder: Path) -> None:
    """Clients say the name that the operator gave; the provider hears its own."""
    flags = {"strong_model": "groq/llama-3.3-70b", "weak_model": "ollama_chat/llama3"}
    _, models = told(folder, {"GROQ_API_KEY": "k"}, **flags)
    assert models["models"] == {
        "groq/llama-3.3-70b": {"provider": "strong", "model": "llama-3.3-70b"},
        "ollama_chat/llama3": {"provider": "weak", "model": "llama3"},
    }
    assert models["providers"]["strong"]["api_key_env"] == "GROQ_API_KEY"
    assert models["providers"]["weak"] == {"base_url": "http://localhost:11434/v1"}


def test_a_models_file_names_the_pair(folder: Path) -> None:
    """It may hold any number of models; without names they are `strong` and `weak`."""
    path = folder / "mine.yaml"
    provider = {"base_url": LOCAL}
    models = {name: {"provider": "p"} for name in ("big", "small", "strong", "weak")}
    path.write_text(yaml.safe_dump({"providers": {"p": provider}, "models": models}))
    for environ, flags in (({}, {"models": str(path)}), ({"POINTSMAN_MODELS": str(path)}, {})):
        after, _ = cluster_environ(Flags(**flags, **PAIR), environ, folder)
        assert after["POINTSMAN_MODELS"] == str(path)
        assert after["POINTSMAN_STRONG_MODEL"] == "big"
        assert after["POINTSMAN_WEAK_MODEL"] == "small"
    assert told(folder, models=str(path))[0]["POINTSMAN_STRONG_MODEL"] == "strong"
    with pytest.raises(ConfigError, match=r"no model `bigger`, only big, .* --strong-model"):
        told(folder, models=str(path), strong_model="bigger")


def test_the_gateways_file_may_name_the_pair(folder: Path) -> None:
    """As it may without `serve`; an option overrules it."""
    models, file = folder / "mine.yaml", folder / "gateway.yaml"
    entries = {name: {"provider": "p"} for name in ("big", "bigger", "small")}
    models.write_text(yaml.safe_dump({"providers": {"p": {"base_url": LOCAL}}, "models": entries}))
    file.write_text("pair: {strong: big, weak: small}\n")
    given = {"POINTSMAN_MODELS": str(models), "POINTSMAN_GATEWAY_CONFIG": str(file)}
    for flags, strong in (({}, "big"), ({"strong_model": "bigger"}, "bigger")):
        environ, _ = cluster_environ(Flags(**flags), given, folder)
        pair = gateway.load(environ).pair
        assert (pair.strong, pair.weak) == (strong, "small")


def test_keys_are_not_shown() -> None:
    """An error with the options in it must not tell them."""
    assert "sk-" not in repr(Flags(api_key="sk-secret", alt_api_key="sk-other"))


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        ({"strong_model": "big"}, "--weak-model missing"),
        ({"weak_model": "small", "base_url": LOCAL}, "--strong-model missing"),
        ({"base_url": LOCAL}, "--strong-model and --weak-model missing"),
        ({"api_key": "sk-secret"}, "--strong-model and --weak-model missing"),
        ({"strong_model": "x", "weak_model": "x", "base_url": LOCAL}, "both `x`"),
        ({"models": "m.yaml", "base_url": LOCAL}, "one or the other"),
        ({"models": "nowhere.yaml"}, "cannot be read"),
        ({**PAIR, "base_url": "localhost:8000"}, "does not begin with http"),
        ({**PAIR, "strong_model": "router-x", "base_url": LOCAL}, "may not be called"),
        (
            PAIR,
            r"strong model `big` is at https://api\.openai\.com/v1.*export OPENAI_API_KEY=\.\.\.",
        ),
    ],
)
def test_what_cannot_work_is_refused_in_one_line(
    folder: Path, flags: dict[str, str], said: str
) -> None:
    """Before a process is started, and without a word of any key."""
    with pytest.raises(PointsmanError, match=said) as refused:
        told(folder, **flags)
    assert "\n" not in str(refused.value)
    assert "sk-secret" not in str(refused.value)


def test_routellms_configuration_chooses_the_routers(folder: Path) -> None:
    """Its keys are understood, and a note says what is not the same."""
    config = folder / "routellm.yaml"
    config.write_text("mf: {checkpoint_path: routellm/mf_gpt4_augmented}\nrandom:\n")
    environ, notes = cluster_environ(Flags(config=str(config)), {}, folder)
    settings = scorer.load(environ)
    assert list(settings.routers) == ["mf", "random"]
    assert len(notes) == 1
    environ, _ = cluster_environ(Flags(config=str(config), routers=["random"]), {}, folder)
    assert list(scorer.load(environ).routers) == ["random"]


def test_the_scorers_other_settings_stay(folder: Path) -> None:
    """Routers are replaced in the operator's file, not its queue limit."""
    theirs = folder / "theirs.yaml"
    theirs.write_text("queue_limit: 7\nrouters: {mine: {bundle: x}}\n")
    given = {"POINTSMAN_SCORER_CONFIG": str(theirs)}
    environ, _ = cluster_environ(Flags(routers=["random", "mf", "random"]), given, folder)
    settings = scorer.load(environ)
    assert settings.queue_limit == 7
    assert list(settings.routers) == ["random", "mf"]
    assert settings.routers["random"].options == {"seed": 0}
    untouched, _ = cluster_environ(Flags(), given, folder)
    assert untouched["POINTSMAN_SCORER_CONFIG"] == str(theirs)


def test_our_own_keys_of_a_router_reach_the_scorer(folder: Path) -> None:
    """Bundle, class and options."""
    config = folder / "config.yaml"
    routers = {
        "mine": {"bundle": str(SHIPPED_BUNDLES / "mf")},
        "theirs": {"class": "tests.fakes.routers:BrokenRouter", "options": {"value": 0.5}},
    }
    config.write_text(yaml.safe_dump({"routers": routers}))
    environ, _ = cluster_environ(Flags(config=str(config)), {}, folder)
    loaded = scorer.load(environ).routers
    assert loaded["mine"].bundle == str(SHIPPED_BUNDLES / "mf")
    assert loaded["theirs"].factory == "tests.fakes.routers:BrokenRouter"
    assert loaded["theirs"].options == {"value": 0.5}


@pytest.mark.parametrize("text", ["benchmarks: {mine: {file: x.jsonl}}", "", None])
def test_a_file_without_routers_means_the_built_in_ones(folder: Path, text: str | None) -> None:
    """A file of benchmarks alone is no reason not to serve."""
    config = EXAMPLE_CONFIG
    if text is not None:
        config = folder / "config.yaml"
        config.write_text(text)
    environ, notes = cluster_environ(Flags(config=str(config)), {}, folder)
    assert set(scorer.load(environ).routers) == {"mf", "random"}
    assert notes == []


@pytest.mark.parametrize(
    ("entry", "said"),
    [
        ("mine: {}", "asks for a bundle, which is not installed"),
        ("bert: {class: 'no_such_package.module:Bert'}", "no module no_such_package.module"),
        ("bert: {bundle: nowhere}", "no router bundle at nowhere"),
    ],
)
def test_a_router_that_is_not_installed_stops_the_start(
    folder: Path, entry: str, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """One line on standard error, exit status 1, and no process was started."""
    config = folder / "config.yaml"
    config.write_text(entry)
    assert main(["serve", "--config", str(config)]) == 1
    captured = capsys.readouterr()
    assert said in captured.err
    assert (captured.out, captured.err.count("\n")) == ("", 1)


def test_an_unknown_router_is_named(folder: Path) -> None:
    """With those that there are."""
    with pytest.raises(UnknownRouter, match=f"`nope`; there are: {', '.join(router_names())}"):
        told(folder, routers=["mf", "nope"])


@pytest.mark.parametrize(
    "arguments", [["--port", "65536"], ["--port", "http"], ["--workers", "-1"], ["--routers"]]
)
def test_a_wrong_option_is_2(arguments: list[str]) -> None:
    """As argparse has it."""
    with pytest.raises(SystemExit) as ended:
        main(["serve", *arguments])
    assert ended.value.code == 2


@pytest.mark.parametrize(
    ("module", "arguments"),
    [
        ("aiohttp", ["serve"]),
        ("grpc_health", ["serve"]),
        ("grpc", ["route", "x", "--address", "127.0.0.1:1"]),
        ("grpc", ["score", "--address", "127.0.0.1:1"]),
    ],
)
def test_what_is_not_installed_is_named_with_its_remedy(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    module: str,
    arguments: list[str],
) -> None:
    """`pip install pointsman` alone scores prompts; for the rest it says what to install."""
    monkeypatch.delitem(sys.modules, "pointsman.cli.remote", raising=False)
    monkeypatch.setitem(sys.modules, module, None)
    assert main(arguments) == 1
    told = capsys.readouterr().err
    assert f"needs {module}, which is not installed" in told
    assert "pip install 'pointsman[serve]'" in told
