"""Pictures: quality against strong share, routers beside their controls; and how training went.

Colours are Okabe and Ito's, which colour-blind readers can tell apart; routers beyond six differ
in their dashes too. The same study gives the same bytes with the same matplotlib.
"""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.text import Text
from numpy.typing import NDArray

from pointsman.evaluation.controls import LENGTH, ORACLE, RANDOM
from pointsman.evaluation.formats import prompts_text, score_text
from pointsman.evaluation.metrics import Curve
from pointsman.evaluation.results import Result
from pointsman.evaluation.study import Study
from pointsman.files import write_whole

INK = "#1f2328"
MUTED = "#6e7781"
GRID = "#d8dee4"
ROUTER_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")

_DASHES = ("-", "--", "-.")
_MOST_POINTS = 400
"""Points of a drawn curve: more than the eye, or a screen, tells apart."""
_LONGEST_NAME = 44
_STYLE: dict[Any, Any] = {
    "font.family": ["DejaVu Sans"],
    "font.size": 10.0,
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": MUTED,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "grid.color": GRID,
    "svg.hashsalt": "pointsman",
    "svg.fonttype": "none",
    "path.simplify": False,
}


Chart = Callable[[Axes], None]
"""Draws one chart of several into its place."""


def write_plots(study: Study, folder: Path) -> list[Path]:
    """Writes `<benchmark>.png` and `.svg` into the folder and returns their paths.

    Each appears whole or not at all.

    Raises:
        OSError: The folder cannot be made or written to.
    """
    stem = re.sub(r"[^\w.-]+", "-", study.result.benchmark).strip(".-") or "benchmark"
    contents = {
        f".{image_format}": _image(lambda figure: _draw(figure, study), image_format)
        for image_format in ("png", "svg")
    }
    paths = [folder / f"{stem}{suffix}" for suffix in contents]
    for path, data in zip(paths, contents.values(), strict=True):
        write_whole(path, data)
    return paths


def svg_markup(study: Study, *, prefix: str) -> str:
    """Returns an `<svg>` element to stand in a page, without size, date or XML declaration.

    Its colours are the constants of this module, for the page to replace.

    Args:
        study: What to draw.
        prefix: Put before every id, so that several pictures may stand in one page.
    """
    return _markup(lambda figure: _draw(figure, study), prefix)


def chart_markup(chart: Chart, *, prefix: str) -> str:
    """Returns a chart as `svg_markup` does a study."""
    return _markup(lambda figure: chart(figure.add_subplot()), prefix)


def charts_png(charts: Sequence[Chart]) -> bytes:
    """Returns one PNG with all charts, two in a row."""
    rows = -(-len(charts) // 2)

    def draw(figure: Figure) -> None:
        for number, chart in enumerate(charts, start=1):
            chart(figure.add_subplot(rows, 2, number))

    return _image(draw, "png", size=(14.0, 5.2 * rows))


def study_chart(study: Study) -> Chart:
    """Returns the study's picture as one chart among others, with its key inside."""

    def draw(axes: Axes) -> None:
        _draw_study(axes, study)
        for text in axes.legend(frameon=False, fontsize=8.0).get_texts():
            _plain(text)

    return draw


def reliability_chart(
    points: Sequence[tuple[float, float, int]],
    steps: tuple[NDArray[np.float64], NDArray[np.float64]],
    title: str,
) -> Chart:
    """Returns the reliability diagram: what came of each win rate, beside the honest diagonal.

    Args:
        points: Mean win rate, mean outcome and size of each bin.
        steps: float64[k] win rates, ascending, and the isotonic outcome of each.
        title: Which prompts these are.
    """

    def draw(axes: Axes) -> None:
        axes.plot([0.0, 1.0], [0.0, 1.0], color=MUTED, linestyle=(0, (6, 3)), label="honest")
        axes.step(*steps, where="mid", color=ROUTER_COLOURS[1], label="isotonic")
        rates, outcomes, counts = zip(*points, strict=True)
        axes.plot(
            rates,
            outcomes,
            color=ROUTER_COLOURS[0],
            marker="o",
            label=f"win rates, {len(points)} bins of about {round(sum(counts) / len(points))}",
        )
        axes.set_xlim(0.0, 1.0)
        axes.set_ylim(0.0, 1.0)
        _finish(axes, title, "strong win rate", "share in which the weak model fell short")

    return draw


def histogram_chart(rates: NDArray[np.float64], title: str) -> Chart:
    """Returns how many prompts have which win rate, float64[n] in [0, 1]."""

    def draw(axes: Axes) -> None:
        axes.hist(rates, bins=np.linspace(0.0, 1.0, 41).tolist(), color=ROUTER_COLOURS[0])
        axes.set_xlim(0.0, 1.0)
        _finish(axes, title, "strong win rate", "prompts")

    return draw


def losses_chart(lines: Sequence[tuple[str, Sequence[int], Sequence[float]]], title: str) -> Chart:
    """Returns losses over steps; each line has a name, steps and losses."""

    def draw(axes: Axes) -> None:
        for index, (name, steps, losses) in enumerate(lines):
            colour = ROUTER_COLOURS[index % len(ROUTER_COLOURS)]
            axes.plot(steps, losses, color=colour, marker=".", label=name)
        _finish(axes, title, "step", "loss")

    return draw


def _markup(draw: Callable[[Figure], None], prefix: str) -> str:
    text = _image(draw, "svg", background=False).decode("utf-8")
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>\n?", "", text, flags=re.DOTALL)
    text = re.sub(r' (?:width|height)="[0-9.]+pt"', "", text, count=2)
    text = re.sub(r'\bid="', f'id="{prefix}', text)
    text = text.replace(">*{", ">svg *{")  # a style in a page speaks of the whole page
    return re.sub(r'(url\(|href=")#', rf"\1#{prefix}", text)


def _image(
    draw: Callable[[Figure], None],
    image_format: str,
    *,
    size: tuple[float, float] = (8.0, 5.6),
    background: bool = True,
) -> bytes:
    image = io.BytesIO()
    with mpl.rc_context(_STYLE), warnings.catch_warnings():
        # A model's name in a script that the font lacks is boxes in the PNG, and no alarm.
        warnings.filterwarnings("ignore", message="Glyph", category=UserWarning)
        figure = Figure(figsize=size, layout="constrained")
        draw(figure)
        nothing: dict[str, Any] = {
            "png": {"Software": None},
            "svg": {"Date": None, "Creator": None},
        }
        figure.savefig(
            image,
            format=image_format,
            dpi=160,
            transparent=not background,
            metadata=nothing[image_format],
        )
    return image.getvalue()


def _draw(figure: Figure, study: Study) -> None:
    _draw_study(figure.add_subplot(), study)
    # Under the picture, where it takes no width from it on a phone.
    legend = figure.legend(loc="outside lower center", ncols=3, frameon=False)
    for text in legend.get_texts():
        _plain(text)


def _draw_study(axes: Axes, study: Study) -> None:
    result = study.result
    _draw_models(axes, result)
    axes.plot(
        [0.0, 100.0],
        [result.weak_score, result.strong_score],
        color=MUTED,
        linestyle=(0, (6, 3)),
        linewidth=1.4,
        label=RANDOM,
    )
    _draw_curve(axes, study.curves[LENGTH], LENGTH, color=INK, linestyle=":", linewidth=1.6)
    for index, router in enumerate(result.routers):
        _draw_curve(
            axes,
            study.curves[router.name],
            f"{router.name}, APGR {router.apgr.value:.3f}",
            color=ROUTER_COLOURS[index % len(ROUTER_COLOURS)],
            linestyle=_DASHES[index // len(ROUTER_COLOURS) % len(_DASHES)],
            linewidth=2.2,
            marker="." if result.mode == "routellm" else "",
        )
    _draw_curve(axes, study.curves[ORACLE], ORACLE, color=MUTED, linestyle="-", linewidth=0.8)
    axes.set_xlim(0.0, 100.0)
    title = f"{_short(result.benchmark)}, {prompts_text(result.prompts)}"
    _frame(axes, title, "calls to the strong model, percent", f"mean score: {result.unit}")


def _finish(axes: Axes, title: str, across: str, up: str) -> None:
    """Frames a chart that has its key inside."""
    _frame(axes, title, across, up)
    if axes.get_legend_handles_labels()[1]:
        for text in axes.legend(frameon=False).get_texts():
            _plain(text)


def _frame(axes: Axes, title: str, across: str, up: str) -> None:
    axes.set_xlabel(across)
    _plain(axes.set_ylabel(up))
    _plain(axes.set_title(title, loc="left", fontweight="bold"))
    axes.grid(visible=True, linewidth=0.6)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)


def _draw_models(axes: Axes, result: Result) -> None:
    """Draws both models' own scores as horizontal lines with their names on them."""
    upper = "strong" if result.strong_score >= result.weak_score else "weak"
    for side, model, score in (
        ("strong", result.pair.strong, result.strong_score),
        ("weak", result.pair.weak, result.weak_score),
    ):
        axes.axhline(score, color=INK, linewidth=1.0)
        label = axes.annotate(
            f"{side}: {_short(model)}, {score_text(score, result.unit)}",
            (99.0, score),
            xytext=(0.0, 4.0 if side == upper else -4.0),
            textcoords="offset points",
            ha="right",
            va="bottom" if side == upper else "top",
            fontsize=8.5,
        )
        _plain(label)
    axes.margins(y=0.12)


def _draw_curve(axes: Axes, curve: Curve, label: str, **style: Any) -> None:
    places = np.linspace(0, len(curve.qualities) - 1, min(len(curve.qualities), _MOST_POINTS))
    kept = np.unique(places.round().astype(int))
    axes.plot(100.0 * curve.strong_shares[kept], curve.qualities[kept], label=label, **style)


def _plain(text: Text) -> None:
    text.set_parse_math(False)  # a dollar in a name is a dollar


def _short(name: str) -> str:
    return name if len(name) <= _LONGEST_NAME else f"{name[: _LONGEST_NAME - 1]}…"
