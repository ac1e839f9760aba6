"""Panels in a few words → Grafana's JSON: one look for all dashboards, and a layout that fits."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

Json = dict[str, Any]

COLUMNS = 24
DATASOURCE = {"type": "prometheus", "uid": "${datasource}"}
SCHEMA_VERSION = 41
"""Grafana 12's; newer ones migrate it when they load it."""

GREEN, YELLOW, ORANGE, RED = "#73BF69", "#FADE2A", "#FF9830", "#F2495C"
BLUE, PURPLE, TEAL, GREY = "#5794F2", "#B877D9", "#56C9C2", "#8E8E9C"

Colours = Mapping[str, str]
PAIR: Colours = {"strong": PURPLE, "weak": BLUE}
QUANTILES: Colours = {"p50": GREEN, "p90": YELLOW, "p99": RED}
STAGES: Colours = {"read": GREY, "score": TEAL, "complete": BLUE, "queue": ORANGE, "infer": TEAL}
OUTCOMES: Colours = {
    "ok": GREEN,
    "cancelled": GREY,
    "rejected": BLUE,
    "provider_error": YELLOW,
    "throttled": YELLOW,
    "timeout": ORANGE,
    "deadline_exceeded": ORANGE,
    "overloaded": ORANGE,
    "unavailable": RED,
    "upstream_unavailable": RED,
    "unauthorized": PURPLE,
    "internal": "#C4162A",
}
"""The same outcome has the same colour in every service; the rest take Grafana's palette."""

Steps = Sequence[tuple[float | None, str]]
"""Thresholds: from this value on, this colour; the first has no value."""


@dataclass(frozen=True, slots=True)
class Query:
    """A PromQL query, and what its series are called, with `{{label}}` for a label's value."""

    expr: str
    legend: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Panel:
    """A panel without its place.

    Attributes:
        kind: Grafana's panel type: timeseries, stat or heatmap.
        title: What is shown.
        description: What it means, and what to look for.
        queries: At least one.
        unit: Grafana's name of it, such as `s`, `reqps`, `percentunit`.
        width: Columns of 24.
        height: Grid rows of 30 pixels.
        stacked: Whether areas lie on one another.
        minimum: The axis begins here; None leaves it to the data.
        maximum: The axis ends here; None leaves it to the data.
        steps: Thresholds.
        colours: Series → colour.
        decimals: Digits after the point; None leaves it to Grafana.
    """

    kind: str
    title: str
    description: str
    queries: tuple[Query, ...]
    unit: str
    width: int = 8
    height: int = 8
    stacked: bool = False
    minimum: float | None = 0
    maximum: float | None = None
    steps: Steps = ((None, GREEN),)
    colours: Colours = field(default_factory=dict)
    decimals: int | None = None


@dataclass(frozen=True, slots=True)
class Row:
    """Panels under one heading, from left to right, in as many lines as they need."""

    title: str
    panels: tuple[Panel, ...]


@dataclass(frozen=True, slots=True)
class Variable:
    """A choice at the top of a dashboard: the values of a label, all of them by default."""

    name: str
    label: str
    metric: str


def dashboard(
    *, uid: str, title: str, description: str, variables: Iterable[Variable], rows: Iterable[Row]
) -> Json:
    """Returns a dashboard as Grafana loads it."""
    return {
        "uid": uid,
        "title": title,
        "description": description,
        "tags": ["pointsman"],
        "schemaVersion": SCHEMA_VERSION,
        "editable": False,
        "graphTooltip": 1,
        "refresh": "30s",
        "time": {"from": "now-1h", "to": "now"},
        "timezone": "browser",
        "links": [_LINKS],
        "annotations": {"list": [_alerts()]},
        "templating": {"list": [_DATASOURCE_VARIABLE, *map(_variable, variables)]},
        "panels": _placed(rows),
    }


_LINKS: Json = {
    **{"title": "Pointsman", "type": "dashboards", "tags": ["pointsman"]},
    **{"icon": "external link", "tooltip": "", "asDropdown": False, "targetBlank": False},
    **{"includeVars": False, "keepTime": True},
}
_DATASOURCE_VARIABLE: Json = {
    "name": "datasource",
    "label": "Prometheus",
    "type": "datasource",
    "query": "prometheus",
    "current": {"text": "Prometheus", "value": "prometheus"},
}


def _alerts() -> Json:
    firing = 'ALERTS{alertname=~"Pointsman.+", alertstate="firing"}'
    return {
        "name": "Alerts",
        "enable": True,
        "iconColor": RED,
        "datasource": DATASOURCE,
        "target": {"refId": "alerts", "expr": f"max by (alertname, severity) ({firing})"},
        "titleFormat": "{{alertname}}",
        "tagKeys": "severity",
    }


def _variable(variable: Variable) -> Json:
    return {
        "name": variable.name,
        "label": variable.label,
        "type": "query",
        "datasource": DATASOURCE,
        "query": {
            "qryType": 1,
            "query": f"label_values({variable.metric}, {variable.name})",
            "refId": variable.name,
        },
        "refresh": 2,
        "sort": 1,
        "multi": True,
        "includeAll": True,
        "allValue": ".*",
        "current": {"text": ["All"], "value": ["$__all"]},
    }


def _placed(rows: Iterable[Row]) -> list[Json]:
    """Returns headings and panels with ids and places; a panel that does not fit begins a line."""
    placed: list[Json] = []
    y = 0
    for row in rows:
        heading = {"type": "row", "title": row.title, "collapsed": False, "panels": []}
        placed.append({"id": len(placed) + 1, **heading, "gridPos": _place(0, y, COLUMNS, 1)})
        y += 1
        x = height = 0
        for panel in row.panels:
            if x + panel.width > COLUMNS:
                x, y, height = 0, y + height, 0
            place = _place(x, y, panel.width, panel.height)
            placed.append({"id": len(placed) + 1, **_panel(panel), "gridPos": place})
            x, height = x + panel.width, max(height, panel.height)
        y += height
    return placed


def _place(x: int, y: int, w: int, h: int) -> Json:
    return {"x": x, "y": y, "w": w, "h": h}


def _panel(panel: Panel) -> Json:
    custom, options = _MANNERS[panel.kind](panel)
    defaults: Json = {"unit": panel.unit, "custom": custom}
    limits = {"min": panel.minimum, "max": panel.maximum, "decimals": panel.decimals}
    defaults |= {name: value for name, value in limits.items() if value is not None}
    mode = "thresholds" if panel.kind == "stat" else "palette-classic-by-name"
    defaults["color"] = {"mode": mode}
    defaults["thresholds"] = {
        "mode": "absolute",
        "steps": [{"value": value, "color": colour} for value, colour in panel.steps],
    }
    return {
        "type": panel.kind,
        "title": panel.title,
        "description": panel.description,
        "datasource": DATASOURCE,
        "targets": [_target(index, query, panel) for index, query in enumerate(panel.queries)],
        "fieldConfig": {
            "defaults": defaults,
            "overrides": [_colour(name, colour) for name, colour in panel.colours.items()],
        },
        "options": options,
    }


def _target(index: int, query: Query, panel: Panel) -> Json:
    return {
        "refId": chr(ord("A") + index),
        "datasource": DATASOURCE,
        "expr": query.expr,
        "legendFormat": query.legend,
        "editorMode": "code",
        "range": True,
        "format": "heatmap" if panel.kind == "heatmap" else "time_series",
    }


def _colour(name: str, colour: str) -> Json:
    value = {"mode": "fixed", "fixedColor": colour}
    return {
        "matcher": {"id": "byName", "options": name},
        "properties": [{"id": "color", "value": value}],
    }


def _timeseries(panel: Panel) -> tuple[Json, Json]:
    custom = {
        "drawStyle": "line",
        "lineInterpolation": "linear",
        "lineWidth": 1 if panel.stacked else 2,
        "fillOpacity": 60 if panel.stacked else 8,
        "showPoints": "never",
        "spanNulls": False,
        "stacking": {"mode": "normal" if panel.stacked else "none", "group": "A"},
        "thresholdsStyle": {"mode": "dashed" if len(panel.steps) > 1 else "off"},
    }
    options = {
        "legend": {
            "displayMode": "list",
            "placement": "bottom",
            "showLegend": True,
            "calcs": ["lastNotNull"],
        },
        "tooltip": {"mode": "multi", "sort": "desc"},
    }
    return custom, options


def _stat(panel: Panel) -> tuple[Json, Json]:
    return {}, {
        "reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": False},
        "colorMode": "value",
        "graphMode": "area",
        "justifyMode": "auto",
        "orientation": "auto",
        "percentChangeColorMode": "standard",
        "showPercentChange": False,
        "textMode": "auto",
        "wideLayout": True,
    }


def _heatmap(panel: Panel) -> tuple[Json, Json]:
    return {"hideFrom": {"legend": False, "tooltip": False, "viz": False}}, {
        "calculate": False,
        "cellGap": 1,
        "color": {
            "mode": "scheme",
            "scheme": "Blues",
            "scale": "exponential",
            "exponent": 0.5,
            "steps": 64,
            "reverse": False,
            "fill": BLUE,
        },
        "exemplars": {"color": RED},
        "filterValues": {"le": 1e-9},
        "legend": {"show": True},
        "rowsFrame": {"layout": "le"},
        "showValue": "never",
        "tooltip": {"mode": "single", "yHistogram": True, "showColorScale": True},
        "yAxis": {"axisPlacement": "left", "unit": panel.unit},
    }


_MANNERS = {"timeseries": _timeseries, "stat": _stat, "heatmap": _heatmap}
