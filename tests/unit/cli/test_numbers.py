"""What may be typed where a number is wanted, and what is said of the rest."""

from argparse import ArgumentTypeError
from collections.abc import Callable

import pytest

from pointsman.cli.numbers import natural, positive, seconds, share, temperature


def test_numbers_are_read() -> None:
    """As they are meant."""
    assert (natural("0"), positive("1"), share("1"), seconds("0.5")) == (0, 1, 1.0, 0.5)
    assert (temperature("2"), temperature("default")) == (2.0, None)


@pytest.mark.parametrize(
    ("read", "text", "told"),
    [
        (natural, "-1", "from 0 up"),
        (positive, "0", "from 1 up"),
        (positive, "ten", "`ten` is not a whole number"),
        (positive, "1.5", "`1.5` is not a whole number"),
        (share, "20", "write 0.2 for 20 %"),
        (share, "nan", "`nan`"),
        (seconds, "0", "above 0"),
        (seconds, "inf", "above 0"),
        (seconds, "soon", "`soon`"),
        (temperature, "warm", "neither from 0 to 2 nor `default`"),
        (temperature, "2.1", "`2.1`"),
    ],
)
def test_anything_else_is_told(read: Callable[[str], object], text: str, told: str) -> None:
    """With the value and what would do, not with a function's name."""
    with pytest.raises(ArgumentTypeError, match=told):
        read(text)
