"""Numbers as they are typed behind options: argparse types whose errors name value and remedy."""

from __future__ import annotations

from argparse import ArgumentTypeError

from pointsman.routing import quote

_NOT_A_NUMBER = float("nan")


def natural(text: str) -> int:
    """Returns a whole number from 0 up."""
    return _at_least(0, text)


def positive(text: str) -> int:
    """Returns a whole number from 1 up."""
    return _at_least(1, text)


def share(text: str) -> float:
    """Returns a share of calls, in [0, 1]."""
    value = _number(text)
    if not 0.0 <= value <= 1.0:
        raise ArgumentTypeError(f"{quote(text)} is not in [0, 1]; write 0.2 for 20 %")
    return value


def seconds(text: str) -> float:
    """Returns a time above 0 that ends."""
    value = _number(text)
    if not 0.0 < value < float("inf"):
        raise ArgumentTypeError(f"{quote(text)} is not a number of seconds above 0")
    return value


def temperature(text: str) -> float | None:
    """Returns a model's temperature, in [0, 2], or None for `default`."""
    if text == "default":
        return None
    value = _number(text)
    if not 0.0 <= value <= 2.0:
        raise ArgumentTypeError(f"{quote(text)} is neither from 0 to 2 nor `default`")
    return value


def _at_least(least: int, text: str) -> int:
    try:
        value = int(text)
    except ValueError:
        value = least - 1
    if value < least:
        raise ArgumentTypeError(f"{quote(text)} is not a whole number from {least} up")
    return value


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return _NOT_A_NUMBER
