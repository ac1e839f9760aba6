"""Tables as a terminal shows them."""

from bench.figures import Spread
from bench.table import aligned, median_and_range


def test_the_first_column_is_flush_left_and_all_others_flush_right() -> None:
    """Names read downwards, and so do digits."""
    assert aligned([["", "requests/s"], ["direct", "7"], ["router-mf", "1,234"]]) == (
        "           requests/s\ndirect              7\nrouter-mf       1,234"
    )


def test_no_line_ends_in_blanks() -> None:
    """A pasted table leaves nothing behind."""
    assert aligned([["name", "x"], ["", ""]]) == "name  x\n"


def test_the_range_stands_under_the_median() -> None:
    """Decimals and thousands are those of the column."""
    cells = [Spread(median=1234.5, low=999.4, high=2000.0), Spread(median=0.125, low=0.1, high=0.2)]
    assert median_and_range("direct", cells, [0, 2]) == [
        ["direct", "1,234", "0.12"],
        ["", "999-2,000", "0.10-0.20"],
    ]


def test_a_figure_that_could_not_be_measured_is_said_to_be_missing() -> None:
    """Zero would be a lie."""
    assert median_and_range("direct", [None], [2]) == [["direct", "n/a"], ["", ""]]
