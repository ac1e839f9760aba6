"""One line of JSON a record, whatever is put into it."""

import io
import json
import logging
import sys
import time
from collections.abc import Callable, Iterator

import pytest

from pointsman.chassis.logs import JsonFormatter, configure_logging


def line(**record: object) -> dict[str, object]:
    """Formats one record and reads it back."""
    made = logging.makeLogRecord({"name": "a.b", "levelname": "INFO", "msg": "event", **record})
    text = JsonFormatter("toy").format(made)
    assert "\n" not in text
    parsed: dict[str, object] = json.loads(text)
    return parsed


def test_a_line_says_when_who_where_and_what() -> None:
    """These five are what every query over logs begins with."""
    assert line(created=0.5) == {
        "time": "1970-01-01T00:00:00.500+00:00",
        "level": "INFO",
        "service": "toy",
        "logger": "a.b",
        "event": "event",
    }


def test_time_is_utc_wherever_the_machine_stands(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lines of three machines sort into one story."""
    monkeypatch.setenv("TZ", "Asia/Kolkata")
    time.tzset()
    try:
        assert line(created=0.0)["time"] == "1970-01-01T00:00:00.000+00:00"
    finally:
        monkeypatch.undo()
        time.tzset()


def test_fields_stand_beside_the_event() -> None:
    """`extra` fields can be searched for by name, with their types."""
    shown = line(router="mf", threshold=0.5, fallback=None, stages={"score": 0.1})
    assert {name: shown[name] for name in ("router", "threshold", "fallback", "stages")} == {
        "router": "mf",
        "threshold": 0.5,
        "fallback": None,
        "stages": {"score": 0.1},
    }


def test_arguments_are_filled_in() -> None:
    """Libraries log with %-arguments; their lines must read as sentences."""
    assert line(msg="%s of %d", args=("one", 2))["event"] == "one of 2"


@pytest.mark.parametrize(
    "value",
    ["two\nlines", "half an emoji \ud83d", b"\xff", float("nan"), 2**70, {1, 2}, object(), {1: 2}],
    ids=lambda value: type(value).__name__,
)
def test_no_value_costs_a_line(value: object) -> None:
    """A request whose line is lost is a request nobody can find."""
    assert "value" in line(value=value)


def test_half_an_emoji_in_the_event_costs_no_line() -> None:
    """Libraries quote what they were given."""
    assert str(line(msg="got \ud83d")["event"]).startswith("got ")


def test_a_traceback_stays_in_its_line() -> None:
    """A log reader takes one line for one event."""
    try:
        raise KeyError("lost")
    except KeyError:
        shown = line(exc_info=sys.exc_info())
    assert "KeyError: 'lost'" in str(shown["traceback"])


@pytest.fixture
def configure() -> Iterator[Callable[..., io.StringIO]]:
    """Sets logging up on a stream of ours, and back again."""
    root = logging.getLogger()
    noisy = [logging.getLogger(name) for name in ("aiohttp.access", "asyncio")]
    handlers, levels = root.handlers[:], [one.level for one in (root, *noisy)]
    root.handlers[:] = []

    def configure(level: str) -> io.StringIO:
        stream = io.StringIO()
        configure_logging("toy", level, stream)  # type: ignore[arg-type]
        return stream

    yield configure
    root.handlers[:] = handlers
    for one, level in zip((root, *noisy), levels, strict=True):
        one.setLevel(level)


def test_records_of_the_level_and_above_are_written(configure: Callable[..., io.StringIO]) -> None:
    """WARNING is for operators who only want to hear of trouble."""
    stream = configure("WARNING")
    logging.getLogger("a").info("quiet")
    logging.getLogger("a").warning("loud", extra={"n": 1})
    (only,) = [json.loads(text) for text in stream.getvalue().splitlines()]
    assert (only["event"], only["n"]) == ("loud", 1)


def test_setting_up_twice_writes_once(configure: Callable[..., io.StringIO]) -> None:
    """Handlers that pile up would write every line twice."""
    first, second = configure("INFO"), configure("INFO")
    logging.getLogger("a").info("once")
    assert first.getvalue() == ""
    assert len(second.getvalue().splitlines()) == 1


def test_access_lines_of_the_web_server_are_not_repeated(
    configure: Callable[..., io.StringIO],
) -> None:
    """Each request writes one line, ours."""
    stream = configure("DEBUG")
    logging.getLogger("aiohttp.access").info("GET /")
    assert stream.getvalue() == ""
