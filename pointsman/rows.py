"""Rows in and out of the tools: JSON Lines or CSV, gzipped or not, a file or standard input.

A row keeps its values as the bytes they were, so that what a tool passes through comes out as it
went in. Every error names the file, the line and the remedy.
"""

from __future__ import annotations

import csv
import gzip
import io
import sys
import zlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Literal

import msgspec

from pointsman.errors import ConfigError
from pointsman.files import whole_file
from pointsman.json_text import JsonDecoder, RawObject, encode_members
from pointsman.routing import quote

STANDARD = "-"
"""The name that means standard input or output."""

RowFormat = Literal["jsonl", "csv"]

_object_decoder = JsonDecoder[RawObject](RawObject)
_text_decoder = JsonDecoder[str](str)
_number_decoder = JsonDecoder[float | bool](float | bool)
_encode = msgspec.json.Encoder().encode

csv.field_size_limit(2**31 - 1)  # Python's own limit of 131,072 characters refuses long prompts


@dataclass(frozen=True, slots=True)
class Row:
    """One row and where it stands.

    Attributes:
        place: For messages: `prompts.jsonl, line 3`.
        members: Name → value as JSON; the values of a CSV file are strings.
    """

    place: str
    members: RawObject

    def text(self, field: str) -> str:
        """Returns a field that is text.

        Raises:
            ConfigError: The row has no such field, or it is not text; names place and remedy.
        """
        try:
            return _text_decoder.decode(bytes(self._raw(field)))
        except ValueError as error:
            raise self._wrong(field, "is not text") from error

    def number(self, field: str) -> float:
        """Returns a field that is a finite number, or true or false, which count as 1 and 0.

        Raises:
            ConfigError: The row has no such field, or it is no finite number.
        """
        raw = bytes(self._raw(field))
        try:
            value = float(_number_decoder.decode(raw))
        except ValueError:
            value = self._number_in_text(field, raw)
        if not abs(value) < float("inf"):  # NaN too
            raise self._wrong(field, "is not a finite number")
        return value

    def has(self, field: str) -> bool:
        """Returns whether the row has the field, and not as null."""
        return bytes(self.members.get(field, b"null")) not in {b"null", b'""'}

    def _number_in_text(self, field: str, raw: bytes) -> float:
        try:
            text = _text_decoder.decode(raw).strip()
            return float({"true": "1", "false": "0"}.get(text.lower(), text))
        except ValueError as error:
            raise self._wrong(field, "is not a number") from error

    def _raw(self, field: str) -> msgspec.Raw:
        try:
            return self.members[field]
        except KeyError:
            known = ", ".join(map(quote, self.members)) or "none"
            raise ConfigError(
                f"{self.place}: there is no field {quote(field)}, only {known}"
            ) from None

    def _wrong(self, field: str, problem: str) -> ConfigError:
        value = quote(bytes(self.members[field]).decode("utf-8", "replace"))
        return ConfigError(f"{self.place}: the field {quote(field)} {problem}: {value}")


def row_format(name: str) -> RowFormat:
    """Returns the format that a file's name tells: CSV if it ends in .csv or .csv.gz."""
    return "csv" if name.lower().removesuffix(".gz").endswith(".csv") else "jsonl"


def read_rows(name: str, row_format_: RowFormat | None = None) -> Iterator[Row]:
    """Yields the rows of a file, or of standard input for `-`, one at a time; empty lines are none.

    Args:
        name: A path; gzipped if it ends in .gz.
        row_format_: By default what the name tells.

    Raises:
        ConfigError: The file cannot be read, or a row is not a JSON object or has more or fewer
            cells than the CSV header, or that has a name twice.
    """
    shown = "standard input" if name == STANDARD else name
    try:
        with _opened(name) as stream:
            if (row_format_ or row_format(name)) == "csv":
                yield from _csv_rows(stream, shown)
            else:
                yield from _json_rows(stream, shown)
    except (OSError, EOFError, zlib.error) as error:  # the last two: gzip cut short, or damaged
        reason = getattr(error, "strerror", None) or error
        raise ConfigError(f"{shown}: cannot be read: {reason}") from error


def write_rows(name: str, rows: Iterable[RawObject], row_format_: RowFormat | None = None) -> int:
    """Writes rows as they come and returns how many; a file appears once it is whole.

    Args:
        name: A path, gzipped if it ends in .gz, or `-` for standard output.
        rows: Name → value as JSON.
        row_format_: By default what the name tells.

    Raises:
        ConfigError: The file cannot be written, or a CSV row has a field that the first has not.
    """
    as_csv = (row_format_ or row_format(name)) == "csv"
    written = 0
    try:
        with _writable(name) as stream:
            for line in _csv_lines(rows) if as_csv else _json_lines(rows):
                stream.write(line)
                written += 1
            stream.flush()
    except BrokenPipeError:
        raise
    except OSError as error:
        shown = "standard output" if name == STANDARD else name
        raise ConfigError(f"{shown}: cannot be written: {error.strerror or error}") from error
    return max(0, written - as_csv)


def raw(value: object) -> msgspec.Raw:
    """Returns a value as the JSON that rows hold."""
    return msgspec.Raw(_encode(value))


def _is_zipped(name: str) -> bool:
    return name.lower().endswith(".gz")


@contextmanager
def _opened(name: str) -> Iterator[BinaryIO]:
    if name == STANDARD:
        yield sys.stdin.buffer
        return
    with Path(name).open("rb") as stream:
        if _is_zipped(name):
            with gzip.open(stream) as unzipped:
                yield unzipped  # type: ignore[misc]  # a GzipFile reads like any other
        else:
            yield stream


@contextmanager
def _writable(name: str) -> Iterator[BinaryIO]:
    if name == STANDARD:
        yield sys.stdout.buffer
        return
    with whole_file(Path(name)) as stream:
        if _is_zipped(name):
            with gzip.GzipFile(fileobj=stream, mode="wb", filename="", mtime=0) as zipped:
                yield zipped  # type: ignore[misc]
        else:
            yield stream


def _json_rows(stream: BinaryIO, shown: str) -> Iterator[Row]:
    for number, line in enumerate(stream, start=1):
        text = line.removeprefix(b"\xef\xbb\xbf").strip() if number == 1 else line.strip()
        if not text:
            continue
        place = f"{shown}, line {number}"
        try:
            yield Row(place, _object_decoder.decode(text))
        except ValueError as error:
            raise ConfigError(
                f"{place}: not a JSON object: {error}; write one object a line, such as "
                '{"prompt": "Hello!"}'
            ) from error


def _csv_rows(stream: BinaryIO, shown: str) -> Iterator[Row]:
    text = io.TextIOWrapper(stream, encoding="utf-8-sig", newline="")
    reader = csv.reader(text, strict=True)
    header: list[str] = []
    try:
        for cells in reader:
            if not cells:
                continue
            if not header:
                header = cells
                if twice := [name for name in header if header.count(name) > 1]:
                    raise ConfigError(
                        f"{shown}, line {reader.line_num}: two columns are called "
                        f"{quote(twice[0])}; rename one"
                    )
                continue
            place = f"{shown}, line {reader.line_num}"
            if len(cells) != len(header):
                raise ConfigError(
                    f"{place}: {len(cells)} cells under a header of {len(header)} columns"
                )
            yield Row(place, {k: raw(v) for k, v in zip(header, cells, strict=True)})
    except (csv.Error, UnicodeDecodeError) as error:
        raise ConfigError(f"{shown}, line {reader.line_num + 1}: not CSV: {error}") from error
    finally:
        text.detach()


def _json_lines(rows: Iterable[RawObject]) -> Iterator[bytes]:
    for members in rows:
        yield encode_members(members) + b"\n"


def _csv_lines(rows: Iterable[RawObject]) -> Iterator[bytes]:
    columns: Sequence[str] = ()
    for members in rows:
        if not columns:
            columns = tuple(members)
            yield _csv_line(columns)
        if extra := [name for name in members if name not in columns]:
            raise ConfigError(
                f"a row has the field {quote(extra[0])}, which the first row has not, and CSV has "
                "one header for all; write JSON Lines instead"
            )
        yield _csv_line([_cell(members.get(name)) for name in columns])


def _cell(value: msgspec.Raw | None) -> str:
    """Returns text as it is, null as nothing, and everything else as JSON."""
    if value is None or bytes(value) == b"null":
        return ""
    try:
        return _text_decoder.decode(bytes(value))
    except ValueError:
        return bytes(value).decode("utf-8", "replace")


def _csv_line(cells: Sequence[str]) -> bytes:
    line = io.StringIO()
    # With "\n" alone it would leave a "\r" unquoted, which a reader takes for the end of the row.
    csv.writer(line, lineterminator="\r\n").writerow(cells)
    return line.getvalue().removesuffix("\r\n").encode("utf-8", "replace") + b"\n"
