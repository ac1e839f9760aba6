"""JSON as it arrives from clients and providers, decoded into structs.

msgspec is ten times faster than the standard library and refuses two things that the rest of the
world sends: lone surrogates (JavaScript cuts emoji in half and escapes the pieces) and, rightly,
NaN. The first is let through by a second, slower reading; everything else is an error with a place.
"""

import json
from typing import Any, Generic, NoReturn, TypeVar

import msgspec

T = TypeVar("T")

RawObject = dict[str, msgspec.Raw]
"""An object whose values stay the bytes they were; a member that comes twice counts as its last."""


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
            value: T = self._decode(data)
        except msgspec.ValidationError as error:
            raise ValueError(str(error)) from error
        except RecursionError as error:
            raise ValueError("nested too deeply") from error
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            value = self._decode_slowly(data, error)
        return value

    def _decode_slowly(self, data: bytes, first_error: Exception) -> T:
        if b"\\u" not in data:
            raise ValueError(str(first_error)) from first_error
        try:
            parsed = json.loads(data, parse_constant=_refuse)
            if self._target == RawObject and isinstance(parsed, dict):
                parsed = _raw_members(data.decode())
            converted: T = msgspec.convert(parsed, self._target)
        except RecursionError as error:
            raise ValueError("nested too deeply") from error
        except ValueError as error:  # json's and msgspec's both
            raise ValueError(str(error)) from error
        return converted


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


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is not JSON")
