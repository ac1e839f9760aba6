"""What a training came to, as pictures: one HTML page that needs nothing else, or one PNG.

No prompt stands in it, so it may be shown; the same training gives the same bytes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pointsman.errors import ConfigError
from pointsman.evaluation import plot
from pointsman.evaluation.benchmarks import Benchmark
from pointsman.evaluation.formats import prompts_text
from pointsman.evaluation.methods import Method
from pointsman.evaluation.notes import ScoredRouter
from pointsman.evaluation.study import StudySettings, study
from pointsman.files import write_whole
from pointsman.training.calibrate import HeldOut, fit_isotonic, reliability

REPORT_ENDINGS = (".html", ".png")

_AS_IN_THE_FIGURES = StudySettings(method=Method(mode="routellm"))
"""The manifest's figures are RouteLLM's; a page has one APGR for one test set."""

_STYLE = (
    "body{margin:0 auto;padding:1.5rem 1rem;max-width:52rem;color:#1f2328;"
    "font:1rem/1.5 system-ui,sans-serif}svg{width:100%;height:auto}"
    "table{border-collapse:collapse;font-size:.9rem}"
    "td,th{padding:.2rem .8rem .2rem 0;text-align:left;font-weight:400;"
    "border-bottom:1px solid #d8dee4}"
)


@dataclass(frozen=True, kw_only=True, eq=False)
class Losses:
    """A line of the training curve."""

    name: str
    """Such as ``held out, seed 0``."""

    steps: Sequence[int]
    losses: Sequence[float]


@dataclass(frozen=True, kw_only=True, eq=False)
class TrainingReport:
    """Everything that is drawn."""

    name: str
    """Of the bundle."""

    revision: str
    held_out: HeldOut
    """What the win rates were calibrated on."""

    calibration: str
    """Which prompts the percentiles come from, in words."""

    calibration_rates: NDArray[np.float64]
    """float64[n] in [0, 1]: win rates of these prompts."""

    tests: Sequence[tuple[Benchmark, NDArray[np.float64]]] = ()
    """Test sets of n prompts, each with float64[n] win rates."""

    curves: Sequence[Losses] = ()
    """None for a router that is not trained by steps."""

    figures: Mapping[str, str]
    """As in the manifest."""

    def charts(self) -> list[plot.Chart]:
        """Return what is drawn, in the order of the page."""
        rates, outcomes = self.held_out.rates, self.held_out.outcomes
        error = f"calibration error {self.held_out.error():.3f}"
        title = f"{len(rates):,} held-out outcomes, {error}"
        charts = [
            plot.reliability_chart(
                reliability(rates, outcomes), fit_isotonic(rates, outcomes), title
            ),
            plot.histogram_chart(
                self.calibration_rates,
                f"win rates of {prompts_text(len(self.calibration_rates))} for the percentiles",
            ),
        ]
        if self.curves:
            lines = [(curve.name, curve.steps, curve.losses) for curve in self.curves]
            charts.append(plot.losses_chart(lines, "training"))
        for test, test_rates in self.tests:
            scored = ScoredRouter(name=self.name, revision=self.revision, rates=test_rates)
            charts.append(plot.study_chart(study(test, [scored], _AS_IN_THE_FIGURES)))
        return charts


def write_report(report: TrainingReport, path: Path) -> None:
    """Write the report to ``path``, which appears whole or not at all.

    Raises:
        ConfigError: the path ends in neither ``.html`` nor ``.png``, or cannot be written.
    """
    check_report_path(path)
    charts = report.charts()
    if path.suffix.lower() == ".png":
        content = plot.charts_png(charts)
    else:
        content = "\n".join(_page(report, charts)).encode()
    try:
        write_whole(path, content)
    except OSError as error:
        raise ConfigError(
            f"--report {path} cannot be written: {error.strerror or error}"
        ) from error


def check_report_path(path: Path) -> None:
    """Refuse a report that could not be written: better before than after training.

    Raises:
        ConfigError: the path ends in neither ``.html`` nor ``.png``.
    """
    if path.suffix.lower() not in REPORT_ENDINGS:
        raise ConfigError(f"--report {path} must end in {' or '.join(REPORT_ENDINGS)}")


def _page(report: TrainingReport, charts: Sequence[plot.Chart]) -> Iterator[str]:
    title = escape(f"Training of {report.name}, revision {report.revision}")
    yield '<!DOCTYPE html><html lang="en"><head><meta charset="utf-8">'
    yield '<meta name="viewport" content="width=device-width,initial-scale=1">'
    yield f"<title>{title}</title><style>{_STYLE}</style></head><body><h1>{title}</h1>"
    for number, chart in enumerate(charts):
        yield f"<figure>{plot.chart_markup(chart, prefix=f'c{number}-')}</figure>"
    yield "<h2>Figures</h2><table><tbody>"
    for name, figure in report.figures.items():
        yield f'<tr><th scope="row">{escape(name)}</th><td>{escape(figure)}</td></tr>'
    yield "</tbody></table>"
    yield f"<p>Percentiles: {escape(report.calibration)}.</p></body></html>\n"
