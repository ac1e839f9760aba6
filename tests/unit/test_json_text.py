"""JSON as it really arrives: halves of emoji are let in, everything else that is wrong is not."""

import json
import re
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pointsman.json_text import JsonDecoder, RawObject


class Point(msgspec.Struct):
    """A target with a required field, a typed one and room for what it does not know."""

    x: int
    label: str | None = None


points = JsonDecoder[Point](Point)
anything = JsonDecoder[Any](Any)
raw = JsonDecoder[RawObject](RawObject)

ANY_TEXT = st.text(st.characters(exclude_categories=()), max_size=8)
JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(min_value=-(2**63), max_value=2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | ANY_TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(ANY_TEXT, inner, max_size=4),
    max_leaves=8,
)


def test_unknown_members_are_ignored() -> None:
    """A field that OpenAI has not invented yet must not break anything."""
    assert points.decode(b'{"x": 1, "y": [2, {"z": null}], "label": "a"}') == Point(1, "a")


@pytest.mark.parametrize("half", [rb"\ud83d", rb"\udc00", rb"\ud83d\ud83d", rb"a\ud83db"])
def test_half_an_emoji_is_let_in(half: bytes) -> None:
    """JavaScript clients send it; it reads as U+FFFD, since no encoding can hold it."""
    expected = json.loads(b'"' + half + b'"').encode("utf-8", "surrogatepass")
    expected = re.sub(rb"\xed[\xa0-\xbf].", "\ufffd".encode(), expected).decode()
    assert points.decode(b'{"x": 1, "label": "' + half + b'"}') == Point(1, expected)


def test_types_are_checked_in_the_slow_reading_too() -> None:
    """Half an emoji must not smuggle in a wrong type."""
    with pytest.raises(ValueError, match=r"Expected `int`, got `str` - at `\$\.x`"):
        points.decode(rb'{"x": "1", "label": "\ud83d"}')


@pytest.mark.parametrize(
    ("data", "place"),
    [
        (b'{"x": "1"}', r"Expected `int`, got `str` - at `\$\.x`"),
        (b'{"label": "a"}', "missing required field `x`"),
        (b"[1]", "Expected `object`, got `array`"),
        (b'{"x": 1', "truncated"),
        (b"", "truncated"),
        (b'{"x": 1} {', "trailing characters"),
    ],
)
def test_the_error_says_where(data: bytes, place: str) -> None:
    """The client can find its mistake."""
    with pytest.raises(ValueError, match=place):
        points.decode(data)


@pytest.mark.parametrize("constant", [b"NaN", b"Infinity", b"-Infinity"])
@pytest.mark.parametrize("elsewhere", [rb'"plain"', rb'"\ud83d"'])
def test_what_is_no_number_is_no_json(constant: bytes, elsewhere: bytes) -> None:
    """The standard library lets NaN in; no provider has to, so it stops here in either reading."""
    with pytest.raises(ValueError):
        points.decode(b'{"x": 1, "a": ' + elsewhere + b', "b": ' + constant + b"}")


@pytest.mark.parametrize("elsewhere", [b"1", rb'"\ud83d"'])
def test_a_bottomless_nest_is_an_error_not_a_crash(elsewhere: bytes) -> None:
    """RecursionError is no ValueError: unguarded it would be a 500."""
    nest = b'{"a": ' + elsewhere + b', "x": ' + b"[" * 100_000 + b"]" * 100_000 + b"}"
    with pytest.raises(ValueError, match="nested too deeply"):
        anything.decode(nest)


def test_bytes_that_are_no_utf8_are_refused() -> None:
    """A string that cannot be encoded again must not get in."""
    with pytest.raises(ValueError):
        points.decode(b'{"x": 1, "label": "\xff"}')


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be", "utf-32-le", "utf-8-sig"])
def test_only_utf8_is_read_whatever_else_it_resembles(encoding: str) -> None:
    """The standard library guesses encodings; half an emoji must not change what is accepted."""
    text = '{"x": 1, "label": "\\ud83d 畜 屵"}'  # U+755C and U+5C75 hold the bytes of "\\u"
    with pytest.raises(ValueError):
        points.decode(text.encode(encoding))


@pytest.mark.parametrize(
    "value",
    [
        rb"1e400",
        rb"123456789012345678901234567890",
        rb"-0.0",
        rb"1E+5",
        rb"1.500",
        rb'"\u0041\/"',
        rb'"\ud83d"',
        b'[1 ,\t2,\n{"a" : "\xc3\xa9"} ]',
        rb'{"b":1,"a":{"a":1,"a":2}}',
        rb"[]",
        rb'""',
    ],
)
@pytest.mark.parametrize("elsewhere", [b"1", rb'"\ud83d"', rb'{"}": [",", ":", "\udc00"]}'])
def test_raw_members_keep_every_byte(value: bytes, elsewhere: bytes) -> None:
    """What a provider is sent is what the client wrote, in either reading."""
    members = raw.decode(b'\r\n{ "first" :' + elsewhere + b' , "v":\t' + value + b'\n, "z": [] } ')
    assert {name: bytes(one) for name, one in members.items()} == {
        "first": elsewhere,
        "v": value,
        "z": b"[]",
    }
    assert list(members) == ["first", "v", "z"]


@pytest.mark.parametrize("elsewhere", [b"1", rb'"\ud83d"'])
def test_of_a_member_that_comes_twice_the_last_counts(elsewhere: bytes) -> None:
    """Gateway, upstream and provider must agree on which `model` it is."""
    members = raw.decode(b'{"a": 1, "b": ' + elsewhere + b', "a": 2}')
    assert bytes(members["a"]) == b"2"


@pytest.mark.parametrize("data", [rb'["\ud83d"]', rb'"\ud83d"', b"[]", b"null", b""])
def test_raw_members_need_an_object(data: bytes) -> None:
    """A list is not a request."""
    with pytest.raises(ValueError):
        raw.decode(data)


def test_an_empty_object_has_no_members() -> None:
    """The smallest body there is."""
    assert raw.decode(b" { } ") == {}


@given(JSON, st.booleans())
def test_what_the_standard_library_writes_is_read_back(value: Any, spaced: bool) -> None:
    """Most clients write with `json.dumps`; whatever they say must arrive."""
    data = json.dumps(value, indent=1 if spaced else None).encode()
    assert anything.decode(data) == json.loads(data)


@given(st.dictionaries(ANY_TEXT, JSON))
def test_raw_members_are_the_members(value: dict[str, Any]) -> None:
    """Both readings cut an object at the same places as the standard library."""
    members = raw.decode(json.dumps(value).encode())
    assert {name: json.loads(bytes(one)) for name, one in members.items()} == value


FRAGMENTS = st.lists(
    st.sampled_from(
        [
            *(b"{", b"}", b"[", b"]", b",", b":", b'"', b'"x"', b"1", b"-", b"\\u", b"\\ud83d"),
            *(b"NaN", b"null", b" ", b"\\", b"\x00", b"\xff", b"\xef\xbb\xbf", b"e5", b'"x":1'),
        ]
    )
).map(b"".join)


@given(st.binary() | FRAGMENTS, st.sampled_from([points, anything, raw]))
def test_no_bytes_raise_anything_but_value_error(data: bytes, decoder: JsonDecoder[Any]) -> None:
    """Callers catch ValueError and nothing else."""
    try:
        decoder.decode(data)
    except ValueError as error:
        assert type(error) is ValueError


@pytest.mark.parametrize(
    ("text", "read"),
    [
        (rb"\\ud83d \ud83d", "\\ud83d \ufffd"),
        (rb"\\\ud83d", "\\\ufffd"),
        (rb"\ud83d\ude00\ud83d", "\U0001f600\ufffd"),
        (rb"\ude00\ude00", "\ufffd\ufffd"),
        (rb"\\ud83d\ude00 \ud83d", "\\ud83d\ufffd \ufffd"),
        (rb"\ud83d\ud83d\ude00", "\ufffd\U0001f600"),
    ],
)
def test_only_real_halves_are_mended(text: bytes, read: str) -> None:
    """An escaped backslash before "ud83d" is a backslash and five letters; whole pairs stay."""
    assert points.decode(b'{"x": 1, "label": "' + text + b'"}') == Point(1, read)


def test_a_flood_of_halves_is_refused_rather_than_mended() -> None:
    """Mending is slow, on a loop that others wait for; ten thousand halves are no accident."""
    with pytest.raises(ValueError):
        points.decode(b'{"x": 1, "label": "' + rb"\ud83d" * 10_001 + b'"}')
