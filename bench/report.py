"""Measurements → what people read, and the same figures as data."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import msgspec

from bench.cpu import Machine
from bench.figures import Spread, spread
from bench.load import Measurement
from bench.rounds import Measured, Options, Row
from bench.table import aligned, median_and_range

COUNTED = ("gateway", "scorer", "upstream")
"""Whose CPU time is the price of routing."""

_SHOWN_ERRORS = 5

Figure = Callable[[Measurement], float | None]

_UNITS = "CPU in ms a request, latency in ms"
_CPU_NOTE = (
    "CPU is user plus system time, all threads of a process (the scorer's inference threads too),\n"
    "from nothing in flight to nothing in flight, to 10 ms a window; the demo provider and the\n"
    "load generator are not in the sum. Latency includes waiting for the other clients' requests."
)
_NO_CPU_NOTE = "CPU time is not available on this system: it is read from Linux's /proc."


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """A whole run."""

    version: str
    machine: Machine
    options: Options
    rows: tuple[Row, ...]
    """Those that were measured."""
    skipped: dict[str, str]
    """Row → why it was not."""
    measured: Measured

    @property
    def errors(self) -> dict[str, dict[str, int]]:
        """Row → what was wrong with answers → how many."""
        found: dict[str, dict[str, int]] = {}
        for row, measurements in self.measured.items():
            for measurement in measurements:
                for reason, count in measurement.errors.items():
                    counts = found.setdefault(row, {})
                    counts[reason] = counts.get(reason, 0) + count
        return found


def as_text(report: Report) -> str:
    """Returns the report for people: header, a table for each kind of answer, notes."""
    whole = [row for row in report.rows if not row.stream]
    streamed = [row for row in report.rows if row.stream]
    pause = report.options.chunk_seconds
    parts = [_header(report)]
    if whole:
        parts += [f"Answers in one piece; {_UNITS}", _table(whole, report, _WHOLE_COLUMNS)]
    if streamed:
        title = f"Streamed answers, a chunk every {pause * 1000:g} ms; {_UNITS}"
        parts += [title, _table(streamed, report, _STREAM_COLUMNS)]
    parts += [f"Skipped: {name}: {why}" for name, why in report.skipped.items()]
    parts += [_CPU_NOTE if _has_cpu(report) else _NO_CPU_NOTE, *_others(report)]
    parts += [_wrong(row, reasons) for row, reasons in report.errors.items()]
    return "\n\n".join(parts)


def as_data(report: Report) -> dict[str, Any]:
    """Returns every figure, in seconds: each row's summary and all its measurements."""
    return {
        "version": report.version,
        "machine": report.machine,
        "options": report.options,
        "skipped": report.skipped,
        "rows": [
            {
                **msgspec.structs.asdict(row),
                "summary": {
                    name: over_rounds(report.measured[row.name], figure)
                    for name, figure in _FIGURES.items()
                },
                "measurements": report.measured[row.name],
            }
            for row in report.rows
        ],
    }


def over_rounds(measurements: Sequence[Measurement], figure: Figure) -> Spread | None:
    """Returns a figure's spread over rounds, None where no round has it."""
    values = [value for m in measurements if (value := figure(m)) is not None]
    return spread(values) if values else None


def cpu_per_request(*services: str) -> Figure:
    """Returns the figure "CPU seconds a request of these services together"."""

    def figure(measurement: Measurement) -> float | None:
        used = measurement.cpu_seconds
        if not used or not measurement.requests:
            return None
        return sum(used[service] for service in services) / measurement.requests

    return figure


def _load_cpu(measurement: Measurement) -> float | None:
    return measurement.load_cpu_seconds / measurement.requests if measurement.requests else None


_FIGURES: Mapping[str, Figure] = {
    "requests_per_second": lambda m: m.requests / m.seconds,
    **{f"{service}_cpu_seconds": cpu_per_request(service) for service in COUNTED},
    "cpu_seconds": cpu_per_request(*COUNTED),
    "demo_provider_cpu_seconds": cpu_per_request("demo_provider"),
    "load_cpu_seconds": _load_cpu,
    "p50_seconds": lambda m: m.p50_seconds,
    "p99_seconds": lambda m: m.p99_seconds,
    "first_token_p50_seconds": lambda m: m.first_token_p50_seconds,
    "events_per_answer": lambda m: m.events_per_answer,
}

# Heading, figure, what to multiply it by, decimals.
_Column = tuple[str, str, float, int]
_CPU_COLUMNS: tuple[_Column, ...] = (
    *((f"{service} CPU", f"{service}_cpu_seconds", 1000.0, 2) for service in COUNTED),
    ("CPU sum", "cpu_seconds", 1000.0, 2),
)
_WHOLE_COLUMNS: tuple[_Column, ...] = (
    ("requests/s", "requests_per_second", 1.0, 0),
    *_CPU_COLUMNS,
    ("p50", "p50_seconds", 1000.0, 1),
    ("p99", "p99_seconds", 1000.0, 1),
)
_STREAM_COLUMNS: tuple[_Column, ...] = (
    ("events", "events_per_answer", 1.0, 0),
    *_CPU_COLUMNS,
    ("first token p50", "first_token_p50_seconds", 1000.0, 1),
    ("whole p50", "p50_seconds", 1000.0, 0),
)


def _header(report: Report) -> str:
    machine, options = report.machine, report.options
    return (
        f"Pointsman {report.version} on {machine.cpu}, {machine.cores} cores, {machine.system}, "
        f"Python {machine.python}\n"
        f"{options.clients} clients, each with one request in flight; {options.rounds} interleaved "
        f"rounds of {options.seconds:g} s;\n"
        f"medians, and under them the least and the greatest of the rounds. Load average before: "
        f"{machine.load_average:g}."
    )


def _table(rows: Iterable[Row], report: Report, columns: Sequence[_Column]) -> str:
    digits = [places for *_, places in columns]
    lines = [["", *(heading for heading, *_ in columns)]]
    for row in rows:
        cells = [
            _scaled(over_rounds(report.measured[row.name], _FIGURES[figure]), factor)
            for _, figure, factor, _ in columns
        ]
        lines += median_and_range(row.name, cells, digits)
    return aligned(lines)


def _scaled(value: Spread | None, factor: float) -> Spread | None:
    if value is None:
        return None
    return Spread(median=value.median * factor, low=value.low * factor, high=value.high * factor)


def _wrong(row: str, reasons: Mapping[str, int]) -> str:
    worst = sorted(reasons.items(), key=lambda one: -one[1])[:_SHOWN_ERRORS]
    shown = "".join(f"\n  {count} x {reason}" for reason, count in worst)
    return f"WRONG ANSWERS: {row}: {sum(reasons.values())}{shown}"


def _has_cpu(report: Report) -> bool:
    return any(m.cpu_seconds for measurements in report.measured.values() for m in measurements)


def _others(report: Report) -> list[str]:
    """Returns what the load generator and the demo provider took, for they share the cores."""
    shown = []
    for row in report.rows:
        found = [
            over_rounds(report.measured[row.name], _FIGURES[name])
            for name in ("demo_provider_cpu_seconds", "load_cpu_seconds")
        ]
        cells = [f"{one.median * 1000:.2f}" if one else "n/a" for one in found]
        shown.append(f"{row.name} {' + '.join(cells)}")
    return [f"CPU ms of demo provider + load generator: {'; '.join(shown)}."] if shown else []
