"""How long a server wants to be left alone, in whichever way it says so."""

import math
from collections.abc import Mapping
from datetime import UTC
from email.utils import parsedate_to_datetime

RETRY_AFTER = "retry-after"
RETRY_AFTER_MS = "retry-after-ms"


def retry_after_seconds(headers: Mapping[str, str], now: float) -> float | None:
    """Returns how long the provider wants to be left alone, or None if it does not say.

    `retry-after-ms`, then `retry-after` in seconds or as a date (RFC 9110, 10.2.3). A date is read
    against the provider's own `date`, so that a clock which is wrong there or here does not count.

    Args:
        headers: The response's, with lower-case names or case-insensitive.
        now: Unix seconds, for a response without a `date`.
    """
    if (milliseconds := _number(headers.get(RETRY_AFTER_MS))) is not None:
        return milliseconds / 1000
    value = headers.get(RETRY_AFTER)
    if (seconds := _number(value)) is not None:
        return seconds
    until = _date(value)
    if until is None:
        return None
    there = _date(headers.get("date"))
    return max(0.0, until - (now if there is None else there))


def _number(value: str | None) -> float | None:
    try:
        number = float(value or "")
    except ValueError:
        return None
    return number if math.isfinite(number) and number >= 0 else None


def _date(value: str | None) -> float | None:
    try:
        moment = parsedate_to_datetime(value or "")
    except (ValueError, OverflowError):  # the second: a day or an offset of twenty digits
        return None
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
