"""Prints the PrometheusRule that says what deploy/prometheus/rules/*.yml say.

From the repository's root: `.venv/bin/python deploy/k8s/prometheus_rule.py >
deploy/k8s/components/prometheus-operator/prometheus-rule.yaml`, after each change of the rules.
Kustomize reads no file outside its own folder; a test compares the two.
"""

import sys
from pathlib import Path
from typing import Any

import yaml

RULES = Path(__file__).parents[1] / "prometheus" / "rules"


def prometheus_rule(folder: Path) -> dict[str, Any]:
    """Returns the PrometheusRule with every group of the folder's files, in the files' order."""
    files = sorted(folder.glob("*.yml"))
    loaded = [yaml.safe_load(file.read_text(encoding="utf-8")) for file in files]
    return {
        "apiVersion": "monitoring.coreos.com/v1",
        "kind": "PrometheusRule",
        "metadata": {"name": "pointsman"},
        "spec": {"groups": [group for one in loaded for group in one["groups"]]},
    }


def main() -> None:
    """Prints it."""
    sys.stdout.write("# Made by deploy/k8s/prometheus_rule.py from deploy/prometheus/rules.\n")
    yaml.safe_dump(prometheus_rule(RULES), sys.stdout, sort_keys=False, width=100)


if __name__ == "__main__":
    main()
