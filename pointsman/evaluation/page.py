"""Studies as one HTML page that needs nothing else: no script, no font, no picture beside it.

What stands in it comes from results alone, so no prompt can; the same studies give the same bytes.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from html import escape

from pointsman.evaluation import plot
from pointsman.evaluation.formats import (
    UNDEFINED,
    count_text,
    figure_rows,
    interval_text,
    line_rows,
    prompts_text,
    protocol,
    score_text,
)
from pointsman.evaluation.results import Result, RouterResult
from pointsman.evaluation.study import Study

_DARK = {
    plot.INK: "#e6edf3",
    plot.MUTED: "#9198a1",
    plot.GRID: "#30363d",
    **dict(
        zip(
            plot.ROUTER_COLOURS,
            ("#58a6ff", "#ff8f4a", "#3fbf92", "#e4a0c6", "#f0b429", "#8fd0f5"),
            strict=True,
        )
    ),
}
"""Colour of a picture → the same on a dark page."""

_CSS = """\
:root{color-scheme:light dark;--page:#fff;--soft:#f6f8fa;@LIGHT@}
@media (prefers-color-scheme:dark){:root{--page:#0d1117;--soft:#161b22;@DARK@}}
*{box-sizing:border-box}
body{margin:0 auto;padding:1.5rem 1rem 3rem;max-width:60rem;background:var(--page);
color:var(--c0);font:1rem/1.5 system-ui,sans-serif}
h1{font-size:1.7rem;line-height:1.2}h2{margin-top:3rem;border-top:1px solid var(--c2);
padding-top:1rem}h3{margin-bottom:.3rem}
p,li{max-width:46rem;overflow-wrap:anywhere}
.wide{overflow-x:auto;margin:1rem 0}
table{border-collapse:collapse;font-size:.9rem;font-variant-numeric:tabular-nums}
th,td{padding:.3rem .7rem;text-align:right;white-space:nowrap;border-bottom:1px solid var(--c2)}
th:first-child,td:first-child{text-align:left;padding-left:0}
tbody th{font-weight:400}tr.router th,tr.router td{font-weight:600}
caption{text-align:left;color:var(--c1);padding-bottom:.3rem}
figure{margin:1rem 0;overflow-x:auto}
figure svg{display:block;width:100%;height:auto;min-width:34rem;max-width:48rem}
svg text{font-family:inherit!important}
.beats,.worse,.unsure{padding:.4rem .8rem;margin:.4rem 0;list-style:none;
border-left:.3rem solid var(--c1);background:var(--soft)}
.beats{border-color:var(--c5)}.worse{border-color:var(--c4)}
ul.verdicts{padding:0}
.note{border:1px solid var(--c4);padding:.5rem .8rem}
pre{overflow-x:auto;background:var(--soft);padding:.8rem;white-space:pre-wrap;
overflow-wrap:anywhere}
.quiet{color:var(--c1)}
@media print{:root{color-scheme:light;--page:#fff;--soft:#fff;@LIGHT@}
figure svg{min-width:0}.wide{overflow:visible}
figure,tr,h2,h3{break-inside:avoid}h2,h3{break-after:avoid}}
"""

_SUMMARY_CAPTION = (
    "APGR by benchmark (prompts), with 95 % intervals; of random mix and shuffled win rates, the "
    "range of the draws"
)

_OUTCOMES = {"beats": "beats", "worse": "worse"}


def page(studies: Sequence[Study], *, title: str, command: str) -> str:
    """Returns the page.

    Args:
        studies: One for each benchmark, of the same routers in the same order; not empty.
        title: What the page is called.
        command: What makes it, as one would type it.
    """
    return "\n".join([*_page(studies, title, command), ""])


def _page(studies: Sequence[Study], title: str, command: str) -> Iterator[str]:
    yield "<!DOCTYPE html>"
    yield '<html lang="en"><head><meta charset="utf-8">'
    yield '<meta name="viewport" content="width=device-width,initial-scale=1">'
    yield f"<title>{escape(title)}</title><style>{_css()}</style></head><body>"
    yield f"<h1>{escape(title)}</h1>"
    yield (
        "<p>A router sends each prompt to a strong or a weak model. APGR is the part of the "
        "quality gap between the two that it recovers, averaged over every share of calls to the "
        "strong model: 0.5 is what a random mix recovers, and whatever does not beat the controls "
        "below is not worth running.</p>"
    )
    results = [study.result for study in studies]
    yield "<section><h2>Summary</h2>"
    yield from _summary(results)
    yield "</section>"
    for number, study in enumerate(studies):
        yield from _section(study, number)
    yield "<section><h2>How this was made</h2>"
    yield f"<pre><code>{escape(command)}</code></pre>"
    yield '<p class="quiet">The same command on the same data gives the same page.</p>'
    yield "</section></body></html>"


def _css() -> str:
    names = {colour: f"--c{index}" for index, colour in enumerate(_DARK)}
    light = ";".join(f"{name}:{colour}" for colour, name in names.items())
    dark = ";".join(f"{name}:{_DARK[colour]}" for colour, name in names.items())
    return _CSS.replace("@LIGHT@", light).replace("@DARK@", dark)


def _themed(svg: str) -> str:
    """Returns the picture in the page's colours."""
    for index, colour in enumerate(_DARK):
        svg = svg.replace(colour, f"var(--c{index})")
    return svg


def _summary(results: Sequence[Result]) -> Iterator[str]:
    """Yields APGR of every router and control on every benchmark."""
    header = ["", *(f"{result.benchmark} ({count_text(result.prompts)})" for result in results)]
    found: dict[str, list[str]] = {}
    routers = [router.name for router in results[0].routers]
    for place, result in enumerate(results):
        for entry in [*result.routers, *result.controls]:
            cells = found.setdefault(entry.name, [UNDEFINED] * len(results))
            cells[place] = interval_text(entry.apgr)
    rows = [[name, *cells] for name, cells in found.items() if any(c != UNDEFINED for c in cells)]
    yield from _table(header, rows, strong=routers, caption=_SUMMARY_CAPTION)
    yield '<ul class="verdicts">'
    for result in results:
        yield from _verdicts(result.routers, f"{result.benchmark}: ")
    yield "</ul>"


def _section(study: Study, number: int) -> Iterator[str]:
    result = study.result
    yield f"<section><h2>{escape(result.benchmark)}</h2>"
    yield (
        f"<p>{prompts_text(result.prompts)}, {escape(result.unit)}. "
        f"Weak: {escape(result.pair.weak)}, {score_text(result.weak_score, result.unit)}. "
        f"Strong: {escape(result.pair.strong)}, {score_text(result.strong_score, result.unit)}.</p>"
    )
    yield from (f'<p class="note">Note: {escape(note)}.</p>' for note in result.notes)
    label = escape(f"Score over the share of calls to strong on {result.benchmark}")
    yield f'<figure role="img" aria-label="{label}">'
    yield _themed(plot.svg_markup(study, prefix=f"b{number}-"))
    yield "</figure>"
    yield '<ul class="verdicts">'
    yield from _verdicts(result.routers, "")
    yield "</ul>"
    yield from _table(
        *figure_rows(result), strong=[router.name for router in result.routers], caption="Figures"
    )
    yield "<h3>Controls</h3><ul>"
    for control in result.controls:
        yield f"<li>{escape(control.name)}: {escape(control.description)}.</li>"
    yield "</ul>"
    for router in result.routers:
        yield f"<details><summary>Thresholds of {escape(router.name)}</summary>"
        yield from _table(*line_rows(result, router.thresholds), strong=(), caption="")
        yield "</details>"
    yield "<h3>Protocol</h3><ul>"
    yield from (f"<li>{escape(sentence)}</li>" for sentence in protocol(result))
    yield from (f"<li>{escape(_origin(router))}</li>" for router in result.routers)
    yield "</ul></section>"


def _origin(router: RouterResult) -> str:
    known = {None: "it is not known which prompts it trained on", 0: "trained on none of these"}
    trained = known.get(router.trained_on, f"trained on {router.trained_on} of these prompts")
    return f"{router.name}: revision {router.revision}; {trained}."


def _verdicts(routers: Iterable[RouterResult], before: str) -> Iterator[str]:
    for router in routers:
        for verdict in router.verdicts:
            kind = _OUTCOMES.get(verdict.outcome, "unsure")
            yield f'<li class="{kind}">{escape(before + verdict.text)}</li>'


def _table(
    header: Sequence[str], rows: Sequence[Sequence[str]], *, strong: Sequence[str], caption: str
) -> Iterator[str]:
    """Yields a table that scrolls on its own; the rows named in `strong` stand out."""
    yield '<div class="wide"><table>'
    if caption:
        yield f"<caption>{escape(caption)}</caption>"
    cells = "".join(f'<th scope="col">{escape(cell)}</th>' for cell in header)
    yield f"<thead><tr>{cells}</tr></thead><tbody>"
    for first, *others in rows:
        kind = ' class="router"' if first in strong else ""
        cells = "".join(f"<td>{escape(cell)}</td>" for cell in others)
        yield f'<tr{kind}><th scope="row">{escape(first)}</th>{cells}</tr>'
    yield "</tbody></table></div>"
