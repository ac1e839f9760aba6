"""Alerts mean what they say: the rules are valid, tested, explained, and of metrics there are."""

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from pointsman.upstream.v1 import upstream_pb2
from services.gateway.config import GatewaySettings
from services.gateway.openai_errors import HTTP_BY_KIND
from services.scorer.config import ScorerSettings
from services.upstream.config import UpstreamSettings
from services.upstream.metrics import outcome_label
from tests.conftest import missing
from tests.contract.promql import known_metrics, metrics_of, rules_of, wrong_labels

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "deploy" / "prometheus"
CONFIG = yaml.safe_load((FOLDER / "prometheus.yml").read_text())
RULES = [rule for path in FOLDER.glob("rules/*.yml") for rule in rules_of(path.read_text())]
RECORDED = [rule for rule in RULES if "record" in rule]
ALERTS = {rule["alert"]: rule for rule in RULES if "alert" in rule}
RUNBOOK = (ROOT / "docs" / "runbook.md").read_text()
CASES = [
    case
    for path in FOLDER.glob("tests/*.yml")
    for test in yaml.safe_load(path.read_text())["tests"]
    for case in test.get("alert_rule_test", ())
]


@pytest.fixture
def promtool() -> str:
    """The path of promtool."""
    return shutil.which("promtool") or missing("promtool", "apt-get install prometheus")


@pytest.mark.parametrize(
    "arguments",
    [
        ["check", "config", "prometheus.yml"],
        ["check", "rules", *sorted(str(path) for path in FOLDER.glob("rules/*.yml"))],
        ["test", "rules", *sorted(str(path) for path in FOLDER.glob("tests/*.yml"))],
    ],
    ids=["config", "rules", "tests"],
)
def test_prometheus_takes_the_configuration_and_rules_do_as_their_tests_say(
    promtool: str, arguments: list[str]
) -> None:
    """A rule that does not load, or never fires, is worse than none: somebody relies on it."""
    ran = subprocess.run(
        [promtool, *arguments], cwd=FOLDER, capture_output=True, text=True, check=False
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.get("alert") or rule["record"])
def test_rules_speak_of_metrics_and_labels_that_there_are(rule: dict[str, Any]) -> None:
    """A query for a metric that was renamed is no error, it is silence."""
    known = known_metrics(RECORDED)
    assert metrics_of(rule["expr"])
    assert metrics_of(rule["expr"]) <= known.keys()
    assert not wrong_labels(rule["expr"], known)


def test_what_the_checks_of_queries_see() -> None:
    """The two checks above are only as good as what they find in a query."""
    known = {"a_total": {"x", "instance"}, "b": {"x", "y"}, "c:d": set()}
    query = (
        'sum by (x, z) (rate(a_total{q=~"no(x)", x!="1"}[5m] offset 1h)) / on (x) b > 1e-3 or c:d'
    )
    assert metrics_of(query) == {"a_total", "b", "c:d"}
    assert wrong_labels(query, known) == {"a_total{q}", "z"}
    assert metrics_of("clamp_max(vector(0), 1) unless $router") == set()


@pytest.mark.parametrize("alert", ALERTS)
def test_an_alert_is_graded_and_says_what_is_wrong_with_values(alert: str) -> None:
    """Whoever is woken needs to know how bad it is, what it is, and where to read on."""
    rule = ALERTS[alert]
    assert rule["labels"]["severity"] in {"warning", "critical"}
    assert rule["for"]
    said = rule["annotations"]
    assert set(said) == {"summary", "description", "runbook_url"}
    assert "{{ $" in said["summary"] + said["description"]
    assert said["runbook_url"] == f"docs/runbook.md#{alert.lower()}"


def test_every_alert_has_its_section_in_the_runbook_and_every_section_its_alert() -> None:
    """A link that leads nowhere costs minutes at three in the morning."""
    assert re.findall(r"^## (Pointsman\w+)$", RUNBOOK, flags=re.MULTILINE) == sorted(ALERTS)


def test_the_runbook_speaks_of_metrics_that_there_are() -> None:
    """A query that is copied in an emergency must work."""
    known = known_metrics(RECORDED)
    queries = re.findall(r"```promql\n(.*?)```", RUNBOOK, flags=re.DOTALL)
    assert len(queries) >= len(ALERTS)
    for query in queries:
        assert metrics_of(query) <= known.keys(), query
        assert not wrong_labels(query, known), query


@pytest.mark.parametrize("alert", ALERTS)
def test_an_alert_was_seen_to_fire_and_to_be_silent(alert: str) -> None:
    """One that always fires and one that never does look alike on a quiet day."""
    expected = [bool(case.get("exp_alerts")) for case in CASES if case["alertname"] == alert]
    assert set(expected) == {True, False}


def test_every_kind_of_error_is_somebodys_fault() -> None:
    """A new kind of error that no alert counts would fail requests in silence."""
    (ours,) = re.findall(r'outcome=~"([^"]+)"', ALERTS["PointsmanGatewayErrors"]["expr"])
    clients = {kind for kind, http in HTTP_BY_KIND.items() if http.status < 500}
    providers = {kind for kind in HTTP_BY_KIND if kind.startswith("provider_")}
    # The upstream has its own alert, and a process with a wrong setting answers nobody.
    assert set(HTTP_BY_KIND) - clients - providers == {
        *ours.split("|"),
        *("upstream_unavailable", "config"),
    }
    assert ours in (ROOT / "deploy" / "grafana" / "dashboards" / "traffic.json").read_text()


def test_every_outcome_that_is_a_providers_fault_counts() -> None:
    """A rejected request is its client's fault, a call that was given up nobody's."""
    (rule,) = (rule for rule in RECORDED if rule["record"].startswith("pointsman:provider_error"))
    (counted,) = re.findall(r'outcome=~"([^"]+)"', rule["expr"])
    outcomes = {outcome_label(value) for value in upstream_pb2.AttemptOutcome.values()}
    innocent = {"unspecified", "ok", "rejected", "streaming", "cancelled"}
    assert outcomes - innocent == set(counted.split("|"))


def test_every_service_is_scraped_on_its_metrics_port() -> None:
    """Job names tell services apart in rules and dashboards; ports are the services' defaults."""
    found = {
        job["job_name"]: (one["names"], one["port"])
        for job in CONFIG["scrape_configs"]
        for one in job["dns_sd_configs"]
    }
    assert found == {
        "pointsman-gateway": (["gateway"], GatewaySettings().metrics_port),
        "pointsman-scorer": (["scorer"], ScorerSettings().metrics_port),
        "pointsman-upstream": (["upstream"], UpstreamSettings().metrics_port),
    }
