"""JSON as it arrives from clients and providers, decoded into types.

msgspec is ten times faster than the standard library, and refuses the lone surrogates that the
rest of the world sends (JavaScript cuts emoji in half and escapes the pieces). A second, slower
reading lets those through as U+FFFD; everything else is an error with a place.
"""

import json
import re
from typing import Any, Generic, TypeVar

import msgspec

T = TypeVar("T")

RawObject = dict[str, msgspec.Raw]
"""An object whose values stay the bytes they were; a member that comes twice counts as its last."""

# Halves of characters: a run of backslashes that ends in one escape, a half, and perhaps its other.
_SURROGATES = re.compile(
    rb"(?<!\\)(\\++)u(?P<first>[dD][89a-fA-F][0-9a-fA-F]{2})(?P<second>\\u[dD][c-fC-F][0-9a-fA-F]{2})?"
)
_MOST_MENDED = 10_000
"""Each costs about a microsecond, on an event loop that others wait for."""
_encode = msgspec.json.Encoder().encode


class JsonDecoder(Generic[T]):
    """Decodes bytes into one type; may be shared by threads and tasks."""

    def __init__(self, target: Any) -> None:
        self._target = target
        self._decode = msgspec.json.Decoder(target).decode

    def decode(self, data: bytes) -> T:
        """Returns the value.

        Raises:
            ValueError: Not JSON, not UTF-8, nested too deeply, or not of the type; says where.
        """
        try:
            return self._decode_whole(data)
        except ValueError:
            mended = _SURROGATES.sub(_without_lone, data, count=_MOST_MENDED)
            if mended == data:
                raise
        value = self._decode_whole(mended)
        if self._target == RawObject:  # the values must stay what they were
            try:
                value = _raw_members(data.decode())  # type: ignore[assignment]  # T is RawObject here
            except RecursionError as error:
                raise ValueError("nested too deeply") from error
        return value

    def _decode_whole(self, data: bytes) -> T:
        try:
            value: T = self._decode(data)
        except RecursionError as error:
            raise ValueError("nested too deeply") from error
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise ValueError(str(error)) from error
        return value


def encode_members(members: RawObject) -> bytes:
    """Returns the object with its values as they were."""
    try:
        return _encode(members)
    except UnicodeEncodeError:  # a name with half an emoji: escape it again
        pairs = (json.dumps(name).encode() + b":" + bytes(raw) for name, raw in members.items())
        return b"{" + b",".join(pairs) + b"}"


def _without_lone(found: re.Match[bytes]) -> bytes:
    slashes, first, second = found[1], found["first"], found["second"] or b""
    if len(slashes) % 2 == 0:  # an escaped backslash, and plain letters after it
        return slashes + b"u" + first + (rb"\ufffd" if second else b"")
    if second and first[1:2] in b"89abAB":
        return found[0]
    return slashes + b"ufffd" + (rb"\ufffd" if second else b"")


def _raw_members(text: str) -> RawObject:
    """Returns the members of an object that is known to be valid, each value as it was written."""
    scan = json.JSONDecoder().raw_decode
    members: RawObject = {}
    position = _skip(text, text.index("{") + 1)
    while text[position] != "}":
        key, position = scan(text, position)
        start = _skip(text, position)
        _, position = scan(text, start)
        members[key] = msgspec.Raw(text[start:position].encode())
        position = _skip(text, position)
    return members


def _skip(text: str, position: int) -> int:
    while text[position] in " \t\n\r,:":
        position += 1
    return position
