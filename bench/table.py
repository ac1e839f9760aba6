"""Rows of text → an aligned table; figures → text."""

from collections.abc import Sequence

from bench.figures import Spread

_GAP = "  "
NOT_AVAILABLE = "n/a"


def aligned(rows: Sequence[Sequence[str]]) -> str:
    """Returns the rows as lines: the first column flush left, all others flush right.

    Args:
        rows: At least one, all of the same length.
    """
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(_line(row, widths) for row in rows)


def median_and_range(
    name: str, cells: Sequence[Spread | None], digits: Sequence[int]
) -> list[list[str]]:
    """Returns two rows: the medians, and under each the least and the greatest of the rounds.

    Args:
        name: What the figures belong to.
        cells: One figure a column, None where it could not be measured.
        digits: Decimals of each column.
    """
    shown = list(zip(cells, digits, strict=True))
    medians = [_number(cell.median, places) if cell else NOT_AVAILABLE for cell, places in shown]
    ranges = [
        f"{_number(cell.low, places)}-{_number(cell.high, places)}" if cell else ""
        for cell, places in shown
    ]
    return [[name, *medians], ["", *ranges]]


def _line(row: Sequence[str], widths: Sequence[int]) -> str:
    first, *others = row
    cells = [first.ljust(widths[0])]
    cells += [cell.rjust(width) for cell, width in zip(others, widths[1:], strict=True)]
    return _GAP.join(cells).rstrip()


def _number(value: float, places: int) -> str:
    return f"{value:,.{places}f}"
