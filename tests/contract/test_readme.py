"""The README tells the truth: its settings exist, its YAML loads, its ports are the defaults."""

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from pointsman.api_keys import read_keys_file
from pointsman.chassis.config import convert
from pointsman.cli.main import command_line
from services.demo_provider import config as demo
from services.gateway import config as gateway
from services.scorer import config as scorer
from services.upstream import config as upstream
from services.upstream.models import load_catalogue

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
YAML = re.findall(r"```yaml\n(.*?)```", README, flags=re.DOTALL)
KEYS = [text for text in YAML if text.startswith("keys:")]
MODELS = [text for text in YAML if "models:" in text and text not in KEYS]
CONFIGS = [text for text in YAML if "benchmarks:" in text]
PYTHON = re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL)
SHELL = re.findall(r"```sh\n(.*?)```(?:\n```\n(.*?)```)?", README, flags=re.DOTALL)
COMMANDS = [
    line.partition("#")[0].partition("pointsman ")[2]
    for text, _ in SHELL
    for line in text.splitlines()
    if re.match(r"(\w+=\S+ )*pointsman ", line)
]
VARIABLE = re.compile(r"POINTSMAN_[A-Z_]+[A-Z]")
SOURCES = [*(ROOT / "services").rglob("*.py"), *(ROOT / "pointsman" / "chassis").rglob("*.py")]
# Between a process and its parent; nobody sets it by hand.
INTERNAL = {"POINTSMAN_SUPERVISOR_FD"}
# The Makefile's, for tests and training.
BUILD = {"POINTSMAN_DATA"}


def test_every_variable_is_explained_and_every_explained_one_exists() -> None:
    """A setting that is not in the README does not exist for its user, and the other way round."""
    read = {name for path in SOURCES for name in VARIABLE.findall(path.read_text())}
    assert set(VARIABLE.findall(README)) == (read - INTERNAL) | BUILD


@pytest.mark.parametrize("text", MODELS)
def test_models_files_load_as_they_stand(tmp_path: Path, text: str) -> None:
    """The five lines that a newcomer copies give a strong and a weak model."""
    path = tmp_path / "models.yaml"
    path.write_text(text)
    catalogue = load_catalogue(str(path), "http://unused", {"OPENAI_API_KEY": "sk-1"})
    assert [model.name for model in catalogue.models()] == ["strong", "weak"]
    assert len(text.splitlines()) <= 6


def test_gateway_and_scorer_files_load_as_they_stand() -> None:
    """Keys and values of the examples are ones the services take."""
    examples = [yaml.safe_load(text) for text in YAML if text not in [*KEYS, *MODELS, *CONFIGS]]
    kinds = {"prompt_policy": gateway.GatewaySettings, "routers": scorer.ScorerSettings}
    assert [next(key for key in kinds if key in example) for example in examples] == list(kinds)
    for example, settings in zip(examples, kinds.values(), strict=True):
        convert(example, settings, source="README.md")


def test_keys_load_as_they_stand_in_a_file_and_in_the_gateways(tmp_path: Path) -> None:
    """Whoever copies the example lets in whom it says."""
    (text,) = KEYS
    path = tmp_path / "keys.yaml"
    path.write_text(text)
    keys = read_keys_file(str(path))
    inline = convert(yaml.safe_load(text), gateway.GatewaySettings, source="README.md")
    assert gateway.api_keys(inline, "README.md") == keys
    assert (keys["team-a"].routers, keys["team-a"].models) == (("mf",), ())


def test_ports_of_the_table_are_the_defaults() -> None:
    """What the README says is listening there is."""
    told = {name: int(port) for port, name in re.findall(r"\b(\d{4,5}) `(POINTSMAN_\w+)`", README)}
    assert told == {
        gateway.PORT_VARIABLE: gateway.GatewaySettings().port,
        gateway.METRICS_PORT_VARIABLE: gateway.GatewaySettings().metrics_port,
        scorer.PORT_VARIABLE: scorer.ScorerSettings().port,
        scorer.METRICS_PORT_VARIABLE: scorer.ScorerSettings().metrics_port,
        upstream.PORT_VARIABLE: upstream.UpstreamSettings().port,
        upstream.METRICS_PORT_VARIABLE: upstream.UpstreamSettings().metrics_port,
        demo.PORT_VARIABLE: demo.DemoSettings().port,
    }
    hosts = (gateway.GatewaySettings(), scorer.ScorerSettings(), upstream.UpstreamSettings())
    assert {host for one in hosts for host in (one.host, one.metrics_host)} == {"127.0.0.1"}


def test_make_targets_of_the_readme_exist() -> None:
    """A command that is shown can be run."""
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), flags=re.MULTILINE))
    assert set(re.findall(r"\bmake ([a-z-]+)", README)) <= targets


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_that_is_shown_is_understood(command: str) -> None:
    """Subcommands and options of the examples exist."""
    assert command_line().parse_args(shlex.split(command)).run


def test_the_calibration_that_is_shown_is_what_is_printed() -> None:
    """The thresholds of the shipped router change when it does, and the README with them."""
    ((command, shown),) = (pair for pair in SHELL if "--strong-model-pct" in pair[0])
    arguments = shlex.split(command)[1:]
    assert pointsman(*arguments, cwd=ROOT).stdout == shown


def test_your_own_router_and_benchmark_work_as_they_stand(tmp_path: Path) -> None:
    """Both are one small class, named in a file, and nothing of ours is touched."""
    for text in PYTHON:
        if name := re.match(r"# (my_\w+\.py)", text):
            (tmp_path / name[1]).write_text(text)
    (config,) = CONFIGS
    (tmp_path / "mine.yaml").write_text(config)
    (tmp_path / "support.jsonl").write_text(
        '{"prompt": "def f()", "gpt": 1, "llama": 0}\n{"prompt": "Hello", "gpt": 1, "llama": 1}\n'
    )
    for benchmark in ("tickets", "support"):
        ran = pointsman(
            *("evaluate", "--config", "mine.yaml", "--routers", "mf", "code"),
            *("--benchmark", benchmark, "--format", "json", "--no-cache", "--no-plot"),
            cwd=tmp_path,
        )
        found = json.loads(ran.stdout)
        assert found["strong_score"] == 100.0
        assert [router["name"] for router in found["routers"]] == ["mf", "code"]
        assert found["routers"][1]["apgr"]["value"] > 0.5
        assert found["routers"][1]["revision"].endswith("1")


def test_the_sdks_first_lines_print_what_is_shown(tmp_path: Path) -> None:
    """Deciding needs no key and no network."""
    (text,) = (text for text in PYTHON if "Controller" in text)
    shown = README.partition(text)[2].partition("```\n```\n")[2].partition("```")[0]
    ran = subprocess.run(
        [sys.executable, "-c", text], env=ENVIRON, cwd=tmp_path, capture_output=True, check=True
    )
    assert ran.stdout.decode() == shown


ENVIRON = {name: value for name, value in os.environ.items() if not name.startswith("POINTSMAN_")}


def pointsman(*arguments: str, cwd: Path) -> "subprocess.CompletedProcess[str]":
    """Runs the command as a user would, with the modules of `cwd` in reach."""
    return subprocess.run(
        [sys.executable, "-m", "pointsman.cli.main", *arguments],
        env={**ENVIRON, "PYTHONPATH": f"{cwd}:{ROOT}"},
        cwd=cwd,
        capture_output=True,
        text=True,
        check=True,
    )
