"""Which metrics and labels a PromQL query speaks of, and which there are."""

import re
from collections.abc import Iterable
from typing import Any

import yaml
from prometheus_client.metrics import MetricWrapperBase

from pointsman.chassis.metrics import new_registry
from services.gateway.metrics import GatewayMetrics
from services.scorer.metrics import ScorerMetrics
from services.upstream.metrics import UpstreamMetrics

# Prometheus adds these itself.
OF_TARGETS = {"job", "instance"}
_BUILT_IN = {"up": set(OF_TARGETS), "ALERTS": {"alertname", "alertstate", "severity"}}
_WORDS = {"by", "on", "or", "and", "unless", "offset", "bool", "without", "ignoring"}
_SUFFIXES = {"counter": ["_total"], "histogram": ["_bucket", "_sum", "_count"], "gauge": [""]}
_SELECTOR = re.compile(r"([a-zA-Z_:][\w:]*)\{([^}]*)\}")
_GROUPING = re.compile(r"\b(?:by|on|without|ignoring)\s*\(([^)]*)\)")


def metrics_of(expr: str) -> set[str]:
    """Returns the names of metrics and recording rules in a query."""
    bare = re.sub(r'"[^"]*"', '""', expr)
    bare = _GROUPING.sub(" ", re.sub(r"\{[^}]*\}", " ", bare))
    bare = re.sub(r"\[[^\]]*\]|\boffset\s+\w+", " ", bare)
    names = re.findall(r"(?<![\w.$])([a-zA-Z_:][\w:]*)(?!\s*\()\b(?!\s*\()", bare)
    return set(names) - _WORDS


def wrong_labels(expr: str, known: dict[str, set[str]]) -> set[str]:
    """Returns the labels of a query that its metrics do not have."""
    bare = re.sub(r'"[^"]*"', '""', expr)
    wrong = {
        f"{metric}{{{label}}}"
        for metric, matchers in _SELECTOR.findall(bare)
        for label in re.findall(r"(\w+)\s*(?:=~|!~|!=|=)", matchers)
        if label not in known[metric]
    }
    anywhere = set().union(*(known[metric] for metric in metrics_of(expr)))
    grouped = {label.strip() for labels in _GROUPING.findall(bare) for label in labels.split(",")}
    return wrong | (grouped - anywhere)


def known_metrics(recorded: Iterable[dict[str, Any]]) -> dict[str, set[str]]:
    """Returns every series' name → its labels: what services export, and recording rules make."""
    known = {name: set(labels) for name, labels in _BUILT_IN.items()}
    registry = new_registry()
    upstream = UpstreamMetrics(registry)
    upstream.show_endpoints(lambda: iter([("model", "provider", 0.0, 0.0, 0.0)]))
    for family in registry.collect():
        for sample in family.samples:
            known[sample.name] = {*sample.labels, *OF_TARGETS}
    for instruments in (GatewayMetrics(registry), ScorerMetrics(registry), upstream):
        for metric in vars(instruments).values():
            if isinstance(metric, MetricWrapperBase):
                for suffix in _SUFFIXES[metric._type]:
                    own = {"le"} if suffix == "_bucket" else set()
                    known[metric._name + suffix] = {*metric._labelnames, *own, *OF_TARGETS}
    for rule in recorded:
        groupings = _GROUPING.findall(rule["expr"])
        kept = {label.strip() for labels in groupings for label in labels.split(",")}
        known[rule["record"]] = {label for label in kept if label not in {"", "le"}}
    return known


def rules_of(text: str) -> list[dict[str, Any]]:
    """Returns the rules of a rules file."""
    return [rule for group in yaml.safe_load(text)["groups"] for rule in group["rules"]]
