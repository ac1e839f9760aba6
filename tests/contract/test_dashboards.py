"""Dashboards are made from code, load as they are, and ask for metrics that there are."""

import json
import re
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
import yaml

from deploy.grafana.check_panels import listed, substituted, variables
from deploy.grafana.drawing import Drawn, Series, page
from deploy.grafana.make_dashboards import FOLDER, files
from deploy.grafana.panels import COLUMNS
from tests.contract.promql import known_metrics, metrics_of, rules_of, wrong_labels

GRAFANA = FOLDER.parent
PROMETHEUS = GRAFANA.parent / "prometheus"
RECORDED = [
    rule
    for path in PROMETHEUS.glob("rules/*.yml")
    for rule in rules_of(path.read_text())
    if "record" in rule
]
DASHBOARDS = {path.stem: json.loads(path.read_text()) for path in sorted(FOLDER.glob("*.json"))}
PANELS = [
    pytest.param(board, panel, id=f"{name}: {panel['title']}")
    for name, board in DASHBOARDS.items()
    for panel in board["panels"]
    if panel["type"] != "row"
]


def test_the_files_are_what_the_definitions_make() -> None:
    """Grafana reads the files, people change the definitions: both are checked in."""
    made = dict(files())
    assert {path: path.read_text() for path in FOLDER.glob("*.json")} == made, (
        "run python -m deploy.grafana.make_dashboards"
    )
    assert set(DASHBOARDS) == {"traffic", "routing", "providers", "failover", "scorer"}


def test_provisioning_points_at_the_dashboards_and_at_their_data_source() -> None:
    """Grafana starts without a word where a path is wrong, and shows nothing."""
    (source,) = _yaml(GRAFANA / "provisioning" / "datasources" / "prometheus.yml")["datasources"]
    (provider,) = _yaml(GRAFANA / "provisioning" / "dashboards" / "pointsman.yml")["providers"]
    mounts = _yaml(GRAFANA.parents[1] / "docker-compose.yml")["services"]["grafana"]["volumes"]
    assert f"./deploy/grafana/dashboards:{provider['options']['path']}:ro" in mounts
    assert "./deploy/grafana/provisioning:/etc/grafana/provisioning:ro" in mounts
    scraped = _yaml(PROMETHEUS / "prometheus.yml")["global"]["scrape_interval"]
    assert source["jsonData"]["timeInterval"] == scraped
    for board in DASHBOARDS.values():
        (default,) = (one for one in listed(board) if one["type"] == "datasource")
        assert default["query"] == source["type"]
        assert default["current"]["value"] == source["uid"]


@pytest.mark.parametrize("name", DASHBOARDS)
def test_panels_have_their_own_ids_and_places(name: str) -> None:
    """Grafana moves what overlaps, and then nothing is where it was put."""
    panels = DASHBOARDS[name]["panels"]
    assert DASHBOARDS[name]["uid"] == f"pointsman-{name}"
    assert len({panel["id"] for panel in panels}) == len(panels)
    for panel in panels:
        place = panel["gridPos"]
        assert place["x"] >= 0 and place["w"] > 0 and place["h"] > 0
        assert place["x"] + place["w"] <= COLUMNS, panel["title"]
    for one, other in combinations(panels, 2):
        assert not _overlap(one["gridPos"], other["gridPos"]), (one["title"], other["title"])


@pytest.mark.parametrize(("board", "panel"), PANELS)
def test_a_panel_says_what_it_shows(board: dict[str, Any], panel: dict[str, Any]) -> None:
    """A line without a name, a unit or a word of explanation helps nobody at night."""
    assert panel["description"].endswith(".")
    assert panel["fieldConfig"]["defaults"]["unit"]
    assert panel["targets"]
    assert panel["datasource"] == {"type": "prometheus", "uid": "${datasource}"}
    references = [target["refId"] for target in panel["targets"]]
    assert len(set(references)) == len(references)
    for target in panel["targets"]:
        assert target["datasource"] == panel["datasource"]
        assert target["legendFormat"]


@pytest.mark.parametrize(("board", "panel"), PANELS)
def test_a_panel_asks_for_metrics_and_labels_that_there_are(
    board: dict[str, Any], panel: dict[str, Any]
) -> None:
    """A panel of a metric that was renamed stays empty, and looks like a quiet day."""
    known = known_metrics(RECORDED)
    for target in panel["targets"]:
        expr = substituted(target["expr"], variables(board, "1m"))
        assert metrics_of(expr)
        assert metrics_of(expr) <= known.keys()
        assert not wrong_labels(expr, known)
        shown = set(re.findall(r"{{(\w+)}}", target["legendFormat"]))
        assert shown <= set().union(*(known[metric] for metric in metrics_of(expr)))


@pytest.mark.parametrize("name", DASHBOARDS)
def test_every_variable_has_values_and_is_used(name: str) -> None:
    """A choice that changes nothing misleads."""
    board = DASHBOARDS[name]
    known = known_metrics(RECORDED)
    exprs = [target["expr"] for panel in board["panels"] for target in panel.get("targets", ())]
    for variable in listed(board):
        if variable["type"] == "query":
            found = re.fullmatch(r"label_values\((\w+), (\w+)\)", variable["query"]["query"])
            assert found
            assert found[2] == variable["name"]
            assert found[2] in known[found[1]]
            assert any(f"${variable['name']}" in expr for expr in exprs)


def test_a_drawing_shows_values_in_their_unit_and_says_where_there_are_none() -> None:
    """The pictures of the documents, and whoever has no Grafana, rely on it."""
    panel = next(
        panel
        for panel in DASHBOARDS["routing"]["panels"]
        if panel["title"] == "Strong share and its target"
    )
    series = Series(labels={"router": "<mf>"}, points=[(0.0, 0.25), (60.0, 0.5)])
    drawn = Drawn(panel=panel, series=[series.named("{{router}}")], start=0.0, end=60.0)
    shown = page([("Routing", [drawn])])
    assert "&lt;mf&gt;  50%" in shown
    assert "not Grafana" in shown
    assert "no data" not in shown
    empty = Drawn(panel=panel, series=[], start=0.0, end=60.0)
    assert "no data" in page([("Routing", [empty])])
    assert "no data" not in page([("Routing", [empty])], only="Scorer")


def _yaml(path: Path) -> Any:
    return yaml.safe_load(path.read_text())


def _overlap(one: dict[str, int], other: dict[str, int]) -> bool:
    return (
        one["x"] < other["x"] + other["w"]
        and other["x"] < one["x"] + one["w"]
        and one["y"] < other["y"] + other["h"]
        and other["y"] < one["y"] + one["h"]
    )
