"""Panels and their series → one HTML page of SVG: a drawing of the dashboards, not Grafana."""

import html
import math
import re
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

_COLUMN, _ROW, _GAP = 66, 30, 8
_LEFT, _RIGHT, _TOP, _BOTTOM, _LEGEND = 62, 14, 34, 24, 18
_PALETTE = ("#73BF69", "#5794F2", "#FF9830", "#B877D9", "#FADE2A", "#56C9C2", "#F2495C", "#8E8E9C")
_LETTER = 5.7
"""Pixels that a letter of the legend takes, about."""
_TICKS = 4
_TOPS = (1, 1.2, 1.6, 2, 2.4, 3.2, 4, 6, 8, 10)
"""Numbers whose quarters are round."""
_BLUES = ("#15202f", "#1c3d63", "#23609f", "#3f8bd1", "#86bdec", "#e3f1fd")
_Point = tuple[float, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Series:
    """One line: its labels, its points as Unix seconds and value, and its name in the legend."""

    labels: Mapping[str, str]
    points: Sequence[_Point]
    name: str = ""

    def named(self, legend: str) -> "Series":
        """Returns it with a name: `{{label}}` in the legend is replaced."""
        name = re.sub(r"{{(\w+)}}", lambda found: self.labels.get(found[1], ""), legend)
        return Series(labels=self.labels, points=self.points, name=name)


@dataclass(frozen=True, slots=True, kw_only=True)
class Drawn:
    """A panel with what its queries gave, and the Unix seconds that were asked for."""

    panel: Mapping[str, Any]
    series: Sequence[Series]
    start: float
    end: float

    @property
    def defaults(self) -> Mapping[str, Any]:
        """The panel's field defaults; empty for a heading."""
        found: Mapping[str, Any] = self.panel.get("fieldConfig", {}).get("defaults", {})
        return found


@dataclass(frozen=True, slots=True, kw_only=True)
class _Frame:
    """Where time and value lie in a panel, in pixels."""

    drawn: Drawn
    width: int
    height: int
    top: float

    @property
    def bottom(self) -> int:
        """Where the legend begins."""
        if self.drawn.panel["type"] == "heatmap":
            return self.height
        return self.height - _LEGEND * _legend_lines(self.drawn, self.width)

    def x(self, at: float) -> float:
        share = (at - self.drawn.start) / (self.drawn.end - self.drawn.start)
        return _LEFT + share * (self.width - _LEFT - _RIGHT)

    def y(self, value: float) -> float:
        room = self.bottom - _TOP - _BOTTOM
        return _TOP + room * (1 - min(value, self.top) / self.top)


def page(boards: Iterable[tuple[str, Sequence[Drawn]]], only: str | None = None) -> str:
    """Returns the page; `only` leaves the dashboards with another title out."""
    shown = [_board(title, panels) for title, panels in boards if only in (None, title)]
    return (
        "<!doctype html><meta charset='utf-8'><title>Panels</title><style>"
        "body{margin:12px;background:#111217;color:#d8d9da;font:13px Arial,sans-serif}"
        "h1{font-size:20px;font-weight:500;margin:4px 0}p{color:#8e8e9c;margin:0 0 10px}"
        "svg{position:absolute;background:#181b1f;border:1px solid #2b2e33}"
        "</style>" + "".join(shown)
    )


def _board(title: str, panels: Sequence[Drawn]) -> str:
    bottom = max(one.panel["gridPos"]["y"] + one.panel["gridPos"]["h"] for one in panels)
    return (
        f"<h1>{html.escape(title)}</h1><p>A drawing of the panels, not Grafana.</p>"
        f"<div style='position:relative;height:{bottom * _ROW}px;width:{24 * _COLUMN}px'>"
        + "".join(map(_placed, panels))
        + "</div>"
    )


def _placed(drawn: Drawn) -> str:
    place, title = drawn.panel["gridPos"], html.escape(drawn.panel["title"])
    left, top = place["x"] * _COLUMN, place["y"] * _ROW
    width, height = place["w"] * _COLUMN - _GAP, place["h"] * _ROW - _GAP
    if drawn.panel["type"] == "row":
        return f"<b style='position:absolute;left:{left}px;top:{top + 6}px'>{title}</b>"
    inside = _text(12, 21, drawn.panel["title"], "#d8d9da", weight=500)
    inside += "".join(_KINDS[drawn.panel["type"]](drawn, width, height))
    if not drawn.series:
        inside += _text(width / 2, height / 2 + 8, "no data", "#F2495C", anchor="middle", size=16)
    return (
        f"<svg style='left:{left}px;top:{top}px' width='{width}' height='{height}'>{inside}</svg>"
    )


def _lines(drawn: Drawn, width: int, height: int) -> Iterator[str]:
    stacked = drawn.defaults["custom"]["stacking"]["mode"] == "normal"
    layers = _stacked(drawn.series) if stacked else [one.points for one in drawn.series]
    highest = max((value for points in layers for _, value in points), default=0.0)
    steps = drawn.defaults["thresholds"]["steps"][1:]
    frame = _framed(drawn, width, height, drawn.defaults.get("max") or highest)
    yield from _axes(frame)
    colours, floor = _colours(drawn), frame.y(0)
    for points, colour in reversed(list(zip(layers, colours, strict=True))):
        line = " ".join(f"{frame.x(at):.1f},{frame.y(value):.1f}" for at, value in points)
        if stacked:
            first, last = frame.x(points[0][0]), frame.x(points[-1][0])
            yield f"<polygon points='{first:.1f},{floor} {line} {last:.1f},{floor}' "
            yield f"fill='#181b1f' stroke='none'/><polygon points='{first:.1f},{floor} {line} "
            yield f"{last:.1f},{floor}' fill='{colour}' fill-opacity='0.6'/>"
        yield f"<polyline points='{line}' fill='none' stroke='{colour}' stroke-width='1.6'/>"
    for step in steps:
        if step["value"] <= frame.top:
            y = frame.y(step["value"])
            yield f"<line x1='{_LEFT}' x2='{width - _RIGHT}' y1='{y:.1f}' y2='{y:.1f}' "
            yield f"stroke='{step['color']}' stroke-dasharray='6 4'/>"
    yield from _legend(drawn, colours, width, height)


def _stat(drawn: Drawn, width: int, height: int) -> Iterator[str]:
    count = max(1, len(drawn.series))
    for index, one in enumerate(drawn.series):
        left, room = index * width / count, width / count
        colour = _threshold(drawn, one.points[-1][1])
        highest = max(value for _, value in one.points) or 1.0
        span = drawn.end - drawn.start
        spark = " ".join(
            f"{left + (at - drawn.start) / span * room:.1f},{height - 22 * value / highest:.1f}"
            for at, value in one.points
        )
        yield f"<polyline points='{spark}' fill='none' stroke='{colour}' opacity='0.6'/>"
        shown = _shown(one.points[-1][1], drawn)
        yield _text(left + room / 2, 66, shown, colour, anchor="middle", size=26, weight=500)
        if count > 1:
            yield _text(left + room / 2, 40, one.name[:28], "#8e8e9c", anchor="middle", size=11)


def _heatmap(drawn: Drawn, width: int, height: int) -> Iterator[str]:
    buckets = sorted(drawn.series, key=lambda one: float(one.labels["le"]))
    frame = _framed(drawn, width, height, 1.0)
    room = (height - _TOP - _BOTTOM) / max(1, len(buckets))
    below: dict[float, float] = {}
    cells: list[tuple[float, float, float, float]] = []
    for row, one in enumerate(buckets):
        y = height - _BOTTOM - (row + 1) * room
        cells += [(at, y, value - below.get(at, 0.0), room) for at, value in one.points]
        below = dict(one.points)
        if row % max(1, len(buckets) // 6) == 0 and one.labels["le"] != "+Inf":
            label = _shown(float(one.labels["le"]), drawn)
            yield _text(_LEFT - 6, y + 4, label, "#8e8e9c", anchor="end", size=11)
    highest = max((value for _, _, value, _ in cells), default=0.0) or 1.0
    times = sorted({at for at, *_ in cells})
    step = min((later - at for at, later in pairwise(times)), default=1.0)
    cell = frame.x(drawn.start + step) - frame.x(drawn.start)
    for at, y, value, high in cells:
        if value > 1e-9:
            colour = _BLUES[min(len(_BLUES) - 1, int(math.sqrt(value / highest) * len(_BLUES)))]
            yield f"<rect x='{frame.x(at) - cell:.1f}' y='{y:.1f}' width='{cell + 0.4:.1f}' "
            yield f"height='{high:.1f}' fill='{colour}'/>"
    yield from _times(frame)


_KINDS = {"timeseries": _lines, "stat": _stat, "heatmap": _heatmap}


def _stacked(series: Sequence[Series]) -> list[list[_Point]]:
    """Returns each series on top of those before it."""
    below: dict[float, float] = {}
    layers = []
    for one in series:
        layers.append([(at, value + below.get(at, 0.0)) for at, value in one.points])
        below |= dict(layers[-1])
    return layers


def _framed(drawn: Drawn, width: int, height: int, highest: float) -> _Frame:
    """Returns a frame whose top is a round number at or over the highest value."""
    if highest <= 0:
        return _Frame(drawn=drawn, width=width, height=height, top=1.0)
    unit = 2.0**20 if drawn.defaults["unit"] == "bytes" else 1.0
    power = unit * 10.0 ** math.floor(math.log10(highest / unit))
    top = next(step * power for step in _TOPS if step * power >= highest)
    return _Frame(drawn=drawn, width=width, height=height, top=top)


def _axes(frame: _Frame) -> Iterator[str]:
    for tick in range(_TICKS + 1):
        value = frame.top * tick / _TICKS
        y = frame.y(value)
        yield f"<line x1='{_LEFT}' x2='{frame.width - _RIGHT}' y1='{y:.1f}' y2='{y:.1f}' "
        yield "stroke='#2b2e33'/>"
        yield _text(_LEFT - 6, y + 4, _shown(value, frame.drawn), "#8e8e9c", anchor="end", size=11)
    yield from _times(frame)


def _times(frame: _Frame) -> Iterator[str]:
    start, end = frame.drawn.start, frame.drawn.end
    for tick in range(1, _TICKS):
        at = start + (end - start) * tick / _TICKS
        shown = time.strftime("%H:%M:%S", time.gmtime(at))
        yield _text(frame.x(at), frame.bottom - 7, shown, "#8e8e9c", anchor="middle", size=11)


def _legend(drawn: Drawn, colours: Sequence[str], width: int, height: int) -> Iterator[str]:
    for (one, colour), (x, line) in zip(
        zip(drawn.series, colours, strict=True), _legend_places(drawn, width), strict=True
    ):
        y = height - _LEGEND * (_legend_lines(drawn, width) - line) + 12
        yield f"<rect x='{x:.0f}' y='{y - 6}' width='12' height='4' fill='{colour}'/>"
        yield _text(x + 17, y, _legend_text(one, drawn), "#c7c8ca", size=11)


def _legend_text(one: Series, drawn: Drawn) -> str:
    return f"{one.name}  {_shown(one.points[-1][1], drawn)}"


def _legend_places(drawn: Drawn, width: int) -> list[tuple[float, int]]:
    """Returns where each name begins: pixels from the left, and its line."""
    places: list[tuple[float, int]] = []
    x, line = 12.0, 0
    for one in drawn.series:
        room = 17 + _LETTER * len(_legend_text(one, drawn))
        if x > 12.0 and x + room > width:
            x, line = 12.0, line + 1
        places.append((x, line))
        x += room + 14
    return places


def _legend_lines(drawn: Drawn, width: int) -> int:
    return 1 + max((line for _, line in _legend_places(drawn, width)), default=0)


def _colours(drawn: Drawn) -> list[str]:
    fixed = {
        one["matcher"]["options"]: one["properties"][0]["value"]["fixedColor"]
        for one in drawn.panel["fieldConfig"]["overrides"]
    }
    spare = [colour for colour in _PALETTE if colour not in fixed.values()] or list(_PALETTE)
    names = [one.name for one in drawn.series if one.name not in fixed]
    others = {name: spare[index % len(spare)] for index, name in enumerate(names)}
    return [fixed.get(one.name) or others[one.name] for one in drawn.series]


def _threshold(drawn: Drawn, value: float) -> str:
    steps = drawn.defaults["thresholds"]["steps"]
    reached = [one["color"] for one in steps if one["value"] is None or value >= one["value"]]
    return str(reached[-1])


def _shown(value: float, drawn: Drawn) -> str:
    """Returns a value in the panel's unit, about as Grafana shows it."""
    unit = drawn.defaults["unit"]
    if unit == "percentunit":
        return f"{value * 100:.3g}%"
    if unit == "s":
        return f"{value:.3g} s" if value >= 1 or value == 0 else f"{value * 1000:.3g} ms"
    if unit == "bytes":
        return f"{value / 2**20:.3g} MiB"
    if unit == "currencyUSD":
        return f"${value:.3g}"
    shown = f"{value / 1000:.3g}K" if value >= 1000 else f"{value:.3g}"
    return f"{shown} req/s" if unit == "reqps" else shown


def _text(
    x: float,
    y: float,
    text: str,
    colour: str,
    *,
    anchor: str = "start",
    size: int = 13,
    weight: int = 400,
) -> str:
    return (
        f"<text x='{x:.1f}' y='{y:.1f}' fill='{colour}' text-anchor='{anchor}' "
        f"font-size='{size}' font-weight='{weight}'>{html.escape(text)}</text>"
    )
