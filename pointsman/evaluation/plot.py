"""A study as a picture: quality against strong share, routers beside their controls.

Colours are Okabe and Ito's, which colour-blind readers can tell apart; routers beyond six differ
in their dashes too. The same study gives the same bytes with the same matplotlib.
"""

from __future__ import annotations

import io
import re
import warnings
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.text import Text

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


def write_plots(study: Study, folder: Path) -> list[Path]:
    """Writes `<benchmark>.png` and `.svg` into the folder and returns their paths.

    Each appears whole or not at all.

    Raises:
        OSError: The folder cannot be made or written to.
    """
    stem = re.sub(r"[^\w.-]+", "-", study.result.benchmark).strip(".-") or "benchmark"
    contents = {".png": _image(study, "png"), ".svg": _image(study, "svg")}
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
    text = _image(study, "svg", background=False).decode("utf-8")
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>\n?", "", text, flags=re.DOTALL)
    text = re.sub(r' (?:width|height)="[0-9.]+pt"', "", text, count=2)
    text = re.sub(r'\bid="', f'id="{prefix}', text)
    text = text.replace(">*{", ">svg *{")  # a style in a page speaks of the whole page
    return re.sub(r'(url\(|href=")#', rf"\1#{prefix}", text)


def _image(study: Study, image_format: str, *, background: bool = True) -> bytes:
    image = io.BytesIO()
    with mpl.rc_context(_STYLE), warnings.catch_warnings():
        # A model's name in a script that the font lacks is boxes in the PNG, and no alarm.
        warnings.filterwarnings("ignore", message="Glyph", category=UserWarning)
        figure = Figure(figsize=(8.0, 5.6), layout="constrained")
        _draw(figure, study)
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
    axes = figure.add_subplot()
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
    axes.set_xlabel("calls to the strong model, percent")
    _plain(axes.set_ylabel(f"mean score: {result.unit}"))
    title = f"{_short(result.benchmark)}, {prompts_text(result.prompts)}"
    _plain(axes.set_title(title, loc="left", fontweight="bold"))
    axes.grid(visible=True, linewidth=0.6)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    # Under the picture, where it takes no width from it on a phone.
    legend = figure.legend(loc="outside lower center", ncols=3, frameon=False)
    for text in legend.get_texts():
        _plain(text)


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
