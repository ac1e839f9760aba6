"""The README tells the truth: its settings exist, its YAML loads, its ports are the defaults."""

import re
from pathlib import Path

import pytest
import yaml

from pointsman.chassis.config import convert
from services.demo_provider import config as demo
from services.gateway import config as gateway
from services.scorer import config as scorer
from services.upstream import config as upstream
from services.upstream.models import load_catalogue

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
YAML = re.findall(r"```yaml\n(.*?)```", README, flags=re.DOTALL)
MODELS = [text for text in YAML if "models:" in text]
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
    assert [endpoint.model for endpoint in catalogue.endpoints()] == ["strong", "weak"]
    assert len(text.splitlines()) <= 6


def test_gateway_and_scorer_files_load_as_they_stand() -> None:
    """Keys and values of the examples are ones the services take."""
    examples = [yaml.safe_load(text) for text in YAML if text not in MODELS]
    kinds = {"prompt_policy": gateway.GatewaySettings, "routers": scorer.ScorerSettings}
    assert [next(key for key in kinds if key in example) for example in examples] == list(kinds)
    for example, settings in zip(examples, kinds.values(), strict=True):
        convert(example, settings, source="README.md")


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
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), flags=re.MULTILINE))
    assert set(re.findall(r"\bmake ([a-z]+)", README)) <= targets
