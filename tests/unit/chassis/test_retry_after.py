"""How long somebody else wants to be left alone, as they say it: in seconds, or by a date."""

import math
from email.utils import formatdate

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from pointsman.chassis.retry_after import retry_after_seconds

NOW = 1_800_000_000.0


def date(seconds: float) -> str:
    """Returns a moment as HTTP writes it."""
    return formatdate(NOW + seconds, usegmt=True)


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"retry-after": "7"}, 7.0),
        ({"retry-after": "0.5"}, 0.5),
        ({"retry-after": "0"}, 0.0),
        ({"retry-after-ms": "250"}, 0.25),
        ({"retry-after-ms": "250", "retry-after": "7"}, 0.25),
        ({"retry-after-ms": "soon", "retry-after": "7"}, 7.0),
        ({"retry-after": date(9)}, 9.0),
        ({"retry-after": date(-9)}, 0.0),
        ({"retry-after": "-1"}, None),
        ({"retry-after": "nan"}, None),
        ({"retry-after": "inf"}, None),
        ({"retry-after": "1e400"}, None),
        ({"retry-after": ""}, None),
        ({"retry-after": "tomorrow"}, None),
    ],
)
def test_what_the_provider_wants_is_read(headers: dict[str, str], seconds: float | None) -> None:
    """Providers say it in three ways, and OpenAI's own is the most exact."""
    assert retry_after_seconds(headers, NOW) == seconds


@pytest.mark.parametrize("skew", [-86_400, -30, 0, 30, 86_400])
def test_a_wrong_clock_there_or_here_does_not_count(skew: int) -> None:
    """A provider a day ahead must not be waited for a day, nor one behind be hammered."""
    headers = {"date": date(skew), "retry-after": date(skew + 9)}
    assert retry_after_seconds(headers, NOW) == 9.0


def test_a_date_that_is_none_leaves_our_own_clock() -> None:
    """Half a pair is better than nothing."""
    assert retry_after_seconds({"date": "yesterday", "retry-after": date(9)}, NOW) == 9.0


WORDS = st.sampled_from(
    [
        *("Wed,", "21", "Oct", "2015", "07:28:00", "GMT", "-0000", "+9999", "9999", "0", "", ":"),
        *("1.2.3", "99999999999999999999", "-jan-2020", "24:61", "(", '"', "1e308", "-1", "inf"),
    ]
)
HEADERS = st.text(max_size=30) | st.lists(WORDS, max_size=7).map(" ".join)


@given(HEADERS, HEADERS, HEADERS)
@example("", "2015 jan 21 1.2.3 99999999999999999999", "")
@example("", "99999999999999999999 Oct 0 07:28:00 GMT", "")
@example("", "Thu, 31 Dec 9999 23:59:59 GMT", "Mon, 01 Jan 0001 00:00:00 GMT")
def test_no_header_is_a_fault_of_ours(milliseconds: str, value: str, now: str) -> None:
    """A provider in trouble sends anything, and a wait must be one that a clock can wait."""
    headers = {"retry-after-ms": milliseconds, "retry-after": value, "date": now}
    seconds = retry_after_seconds(headers, NOW)
    assert seconds is None or (math.isfinite(seconds) and seconds >= 0)
