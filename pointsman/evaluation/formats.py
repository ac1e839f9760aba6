"""A result as text: for people, for programs, for a spreadsheet, for a document."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Literal, get_args

import msgspec

from pointsman.evaluation.benchmarks import PERCENT_RIGHT
from pointsman.evaluation.metrics import Interval
from pointsman.evaluation.results import ControlResult, Line, Result, RouterResult

ResultFormat = Literal["table", "json", "csv", "markdown"]
RESULT_FORMATS: tuple[ResultFormat, ...] = get_args(ResultFormat)

UNDEFINED = "-"


def formatted(result: Result, result_format: ResultFormat) -> str:
    """Returns the result in a format, ending in a line break."""
    return _WRITERS[result_format](result)


def score_text(score: float, unit: str) -> str:
    """Returns a score as RouteLLM's tables have it: 63.7337 percent, 8.28125 of 10."""
    if math.isnan(score):
        return UNDEFINED
    return f"{score:.4f}" if unit == PERCENT_RIGHT else f"{score:#.6g}"


def share_text(share: float) -> str:
    """Returns a share of calls in percent: `18.96 %`."""
    return UNDEFINED if math.isnan(share) else f"{100 * share:.2f} %"


def interval_text(interval: Interval) -> str:
    """Returns `0.581 (0.543-0.620)`; the value alone where there is no interval."""
    if math.isnan(interval.value):
        return UNDEFINED
    return f"{interval.value:.3f}" if math.isnan(interval.low) else str(interval)


def count_text(count: int) -> str:
    """Returns a count with its thousands apart."""
    return f"{count:,}"


def prompts_text(count: int) -> str:
    """Returns `1,307 prompts`, or `1 prompt`."""
    return f"{count_text(count)} prompt{'' if count == 1 else 's'}"


def threshold_text(threshold: float) -> str:
    """Returns a threshold to five digits, as RouteLLM prints it."""
    return f"{threshold:.5f}"


def figure_rows(result: Result) -> tuple[list[str], list[list[str]]]:
    """Returns the header and the rows of the table of figures, routers first."""
    targets = list(result.controls[0].cpt)
    header = ["", "APGR", *(f"CPT {target} %" for target in targets), "AUC"]
    header += ["AIQ"] if result.costs else []
    rows = []
    for entry in [*result.routers, *result.controls]:
        row = [entry.name, interval_text(entry.apgr)]
        row += [share_text(entry.cpt[target]) for target in targets]
        row.append(score_text(entry.auc, result.unit))
        if result.costs:
            row.append(UNDEFINED if entry.aiq is None else score_text(entry.aiq, result.unit))
        rows.append(row)
    return header, rows


def line_rows(result: Result, lines: Sequence[Line]) -> tuple[list[str], list[list[str]]]:
    """Returns the header and the rows of a router's thresholds."""
    header = ["threshold", "score", "calls to strong", "", "calls to weak", ""]
    rows = [
        [
            threshold_text(line.threshold),
            score_text(line.score, result.unit),
            count_text(line.strong_calls),
            share_text(line.strong_share),
            count_text(line.weak_calls),
            share_text(1.0 - line.strong_share),
        ]
        for line in lines
    ]
    return header, rows


def protocol(result: Result) -> list[str]:
    """Returns sentences that say how the figures came about."""
    mode = (
        "every distinct win rate is a threshold; equal ones go together"
        if result.mode == "full"
        else f"RouteLLM's method: {result.edges} quantile edges, the last one strict; CPT is "
        "interpolated over the score"
    )
    sentences = [
        f"Metric mode {result.mode}: {mode}.",
        f"Intervals of routers, prompt length and oracle: 95 % percentile bootstrap over prompts, "
        f"{result.bootstrap_samples:,} resamples, seed {result.seed}, the same for all.",
        f"Random mix and shuffled win rates: mean and range of {result.random_draws} draws, seed "
        f"{result.seed}.",
        "APGR: area under the part of the gap recovered, over the share of calls to strong; chance "
        "is 0.5. CPT: the share of calls to strong that recovers so much of the gap. AUC: area "
        "under the score over that share.",
    ]
    if result.costs:
        costs = result.costs
        sentences.append(
            f"AIQ: RouterBench's mean score over cost, from ${costs.weak_cost:.3g} (weak) to "
            f"${costs.strong_cost:.3g} (strong) a call; costs are {costs.source}."
        )
    return sentences


def _table(result: Result) -> str:
    return "\n".join([*_table_lines(result), ""])


def _table_lines(result: Result) -> Iterator[str]:
    yield f"{result.benchmark}: {prompts_text(result.prompts)}, {result.unit}"
    sides = [("weak", result.pair.weak, result.weak_score)]
    sides.append(("strong", result.pair.strong, result.strong_score))
    yield from _columns(
        [[f"  {side}", model, score_text(score, result.unit)] for side, model, score in sides],
        left=2,
    )
    for router in result.routers:
        header, rows = line_rows(result, router.thresholds)
        yield ""
        yield f"{router.name}, revision {router.revision}"
        yield from _columns([header, *rows], left=0)
    header, rows = figure_rows(result)
    yield ""
    yield from _columns([header, *rows], left=1)
    yield ""
    yield from (verdict.text for router in result.routers for verdict in router.verdicts)
    yield ""
    yield from protocol(result)
    yield from (f"Note: {note}." for note in result.notes)


def _columns(rows: Sequence[Sequence[str]], *, left: int) -> Iterator[str]:
    """Yields the rows with their columns under each other, the first `left` of them flush left."""
    widths = [max(len(cell) for cell in column) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = [
            cell.ljust(width) if index < left else cell.rjust(width)
            for index, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        yield "  ".join(cells).rstrip()


def _json(result: Result) -> str:
    return msgspec.json.format(msgspec.json.encode(result), indent=2).decode() + "\n"


def _csv(result: Result) -> str:
    """Returns a row for each router and control; undefined figures are empty cells."""
    text = io.StringIO()
    rows = [_csv_row(result, "router", router) for router in result.routers]
    rows += [_csv_row(result, "control", control) for control in result.controls]
    writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def _csv_row(
    result: Result, kind: str, entry: RouterResult | ControlResult
) -> dict[str, str | int]:
    return {
        "benchmark": result.benchmark,
        "kind": kind,
        "name": entry.name,
        "revision": entry.revision if isinstance(entry, RouterResult) else "",
        "apgr": _cell(entry.apgr.value),
        "apgr_low": _cell(entry.apgr.low),
        "apgr_high": _cell(entry.apgr.high),
        **{f"cpt_{target}": _cell(share) for target, share in entry.cpt.items()},
        "auc": _cell(entry.auc),
        "aiq": _cell(entry.aiq),
        "weak_score": _cell(result.weak_score),
        "strong_score": _cell(result.strong_score),
        "weak_model": result.pair.weak,
        "strong_model": result.pair.strong,
        "unit": result.unit,
        "prompts": result.prompts,
        "mode": result.mode,
        "seed": result.seed,
    }


def _cell(value: float | None) -> str:
    return "" if value is None or math.isnan(value) else repr(value)


def _markdown(result: Result) -> str:
    return "\n".join([*_markdown_lines(result), ""])


def _markdown_lines(result: Result) -> Iterator[str]:
    yield f"## {_escaped(result.benchmark)}"
    yield ""
    yield (
        f"{prompts_text(result.prompts)}, {_escaped(result.unit)}. Weak "
        f"{_escaped(result.pair.weak)}: {score_text(result.weak_score, result.unit)}; strong "
        f"{_escaped(result.pair.strong)}: {score_text(result.strong_score, result.unit)}."
    )
    yield ""
    yield from _markdown_table(*figure_rows(result))
    yield ""
    yield from (f"- {verdict.text}" for router in result.routers for verdict in router.verdicts)
    for router in result.routers:
        yield ""
        yield f"### {router.name}, revision {_escaped(router.revision)}"
        yield ""
        yield from _markdown_table(*line_rows(result, router.thresholds))
    yield ""
    yield from (f"- {_escaped(sentence)}" for sentence in protocol(result))
    yield from (f"- Note: {_escaped(note)}." for note in result.notes)


def _markdown_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    for row in [header, [":--", *["--:"] * (len(header) - 1)], *rows]:
        yield f"| {' | '.join(map(_escaped, row))} |"


def _escaped(text: str) -> str:
    """Returns text that Markdown shows as it is: no cell ends early, no markup."""
    return "".join(f"\\{c}" if c in "\\|<>*_`[]#" else c for c in " ".join(text.split()))


_WRITERS: Mapping[ResultFormat, Callable[[Result], str]] = {
    "table": _table,
    "json": _json,
    "csv": _csv,
    "markdown": _markdown,
}
