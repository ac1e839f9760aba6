"""Runs every panel's queries against a Prometheus, and draws what comes back.

    python -m deploy.grafana.check_panels --prometheus http://127.0.0.1:9090 --html panels.html

Prints `ok`, `EMPTY` or `ERROR` for each query and exits 1 unless all are ok. The page is a drawing
of the dashboards, not Grafana. Variables have their default, all values. Where nobody sent routed
and direct requests, whole and streamed, panels are empty. Standard library only.
"""

import argparse
import json
import math
import re
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[2]))  # run by its path, too

from deploy.grafana.drawing import Drawn, Series, page

DASHBOARDS = Path(__file__).parent / "dashboards"
_TIMEOUT_SECONDS = 30
_POINTS = 240


class QueryError(Exception):
    """Prometheus did not take a query, or could not be asked."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """The time that is asked for, in Unix seconds."""

    start: float
    end: float
    step: float


def variables(dashboard: Mapping[str, Any], rate_interval: str) -> dict[str, str]:
    """Returns what Grafana would put in for each variable if all values are chosen."""
    chosen = {one["name"]: one["allValue"] for one in listed(dashboard) if "allValue" in one}
    return {"__rate_interval": rate_interval, **chosen}


def listed(dashboard: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Returns a dashboard's variables."""
    return list(dashboard["templating"]["list"])


def substituted(expr: str, values: Mapping[str, str]) -> str:
    """Returns a query without variables.

    Raises:
        KeyError: The query has one that the dashboard has not.
    """
    return re.sub(r"\$(\w+)", lambda found: values[found[1]], expr)


def query_range(prometheus: str, expr: str, span: Span) -> list[Series]:
    """Returns the series of a query without what is no number, and without series left empty.

    Raises:
        QueryError: Says what Prometheus said.
    """
    asked = {"query": expr, "start": span.start, "end": span.end, "step": span.step}
    url = f"{prometheus.rstrip('/')}/api/v1/query_range?{urllib.parse.urlencode(asked)}"
    try:
        with urllib.request.urlopen(url, timeout=_TIMEOUT_SECONDS) as response:
            found = json.load(response)["data"]["result"]
    except urllib.error.HTTPError as error:
        raise QueryError(json.load(error).get("error", str(error))) from error
    except (OSError, ValueError) as error:
        raise QueryError(f"{prometheus} cannot be asked: {error}") from error
    series = []
    for one in found:
        points = [(float(at), float(value)) for at, value in one["values"]]
        if kept := [(at, value) for at, value in points if math.isfinite(value)]:
            series.append(Series(labels=one["metric"], points=kept))
    return series


def checked(
    dashboard: Mapping[str, Any], prometheus: str, span: Span, rate_interval: str
) -> Iterator[tuple[list[str], Drawn]]:
    """Yields each panel's verdicts, `ok`, `EMPTY` or `ERROR ...` a query, and how it is drawn.

    Headings have no verdict.
    """
    values = variables(dashboard, rate_interval)
    for panel in dashboard["panels"]:
        series: list[Series] = []
        verdicts = []
        for target in panel.get("targets", ()):
            try:
                found = query_range(prometheus, substituted(target["expr"], values), span)
            except QueryError as error:
                verdicts.append(f"ERROR {error}")
                continue
            verdicts.append("ok" if found else "EMPTY")
            series += [one.named(target["legendFormat"]) for one in found]
        drawn = Drawn(panel=panel, series=series, start=span.start, end=span.end)
        yield verdicts, drawn


def main(arguments: Sequence[str] | None = None) -> int:
    """Checks, prints and draws; returns the exit status."""
    chosen = _arguments().parse_args(arguments)
    end = time.time()
    seconds = chosen.minutes * 60
    span = Span(start=end - seconds, end=end, step=max(1.0, seconds / _POINTS))
    bad = 0
    boards = []
    for path in sorted(DASHBOARDS.glob("*.json")):
        dashboard = json.loads(path.read_text(encoding="utf-8"))
        panels = []
        for verdicts, drawn in checked(dashboard, chosen.prometheus, span, chosen.rate_interval):
            panels.append(drawn)
            bad += sum(verdict != "ok" for verdict in verdicts)
            for verdict in verdicts:
                print(f"{verdict:5} {path.stem}: {drawn.panel['title']}")
        boards.append((str(dashboard["title"]), panels))
    if chosen.html:
        chosen.html.write_text(page(boards, only=chosen.only), encoding="utf-8")
    print(f"{bad} queries gave no data" if bad else "every panel has data")
    return 1 if bad else 0


def _arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description="Run every panel's queries against a Prometheus.")
    parser.add_argument("--prometheus", required=True, metavar="URL")
    parser.add_argument("--html", type=Path, metavar="FILE", help="draw the panels, too")
    parser.add_argument("--only", metavar="TITLE", help="draw only dashboards with this title")
    parser.add_argument("--minutes", type=float, default=15.0, help="how far back (15)")
    parser.add_argument(
        "--rate-interval", default="1m", help="$__rate_interval: four scrapes or more (1m)"
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
