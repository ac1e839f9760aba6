"""Writes the dashboards' JSON, which is checked in: `python -m deploy.grafana.make_dashboards`.

A test compares; whoever changes a definition runs this and commits both.
"""

import json
from collections.abc import Iterator
from pathlib import Path

from deploy.grafana.definitions.failover import failover
from deploy.grafana.definitions.providers import providers
from deploy.grafana.definitions.routing import routing
from deploy.grafana.definitions.scorer import scorer
from deploy.grafana.definitions.traffic import traffic

FOLDER = Path(__file__).parent / "dashboards"


def files() -> Iterator[tuple[Path, str]]:
    """Yields each dashboard's file and the text that belongs there."""
    for made in (traffic(), routing(), providers(), failover(), scorer()):
        name = made["uid"].removeprefix("pointsman-")
        yield FOLDER / f"{name}.json", json.dumps(made, indent=2) + "\n"


if __name__ == "__main__":
    for path, text in files():
        path.write_text(text, encoding="utf-8")
        print(path)
