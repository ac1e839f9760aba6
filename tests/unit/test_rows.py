"""Rows pass through the tools as they were, and what is wrong with one is named with its place."""

import csv
import gzip
import io
import json
import sys
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pointsman.errors import ConfigError
from pointsman.rows import Row, RowFormat, raw, read_rows, row_format, write_rows

TEXT = st.text(max_size=12)
JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(min_value=-(2**70), max_value=2**70)
    | st.floats(allow_nan=False, allow_infinity=False)
    | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=6,
)
OBJECTS = st.lists(st.dictionaries(TEXT, JSON, max_size=4), max_size=4)
each_example_its_file = settings(suppress_health_check=[HealthCheck.function_scoped_fixture])


def values(rows: list[Row]) -> list[dict[str, bytes]]:
    """Returns the rows' values as the bytes they are."""
    return [{name: bytes(value) for name, value in row.members.items()} for row in rows]


def one(text: str, tmp_path: Path) -> Row:
    """Returns the row of a file of one."""
    path = tmp_path / "one.jsonl"
    path.write_text(text, encoding="utf-8")
    (row,) = read_rows(str(path))
    return row


@given(objects=OBJECTS, ending=st.sampled_from([".jsonl", ".jsonl.gz"]))
@each_example_its_file
def test_any_json_comes_out_as_it_went_in(
    tmp_path: Path, objects: list[dict[str, Any]], ending: str
) -> None:
    """Byte for byte per value: numbers keep their digits, text its escapes."""
    first, second = str(tmp_path / f"first{ending}"), str(tmp_path / f"second{ending}")
    lines = "".join(json.dumps(each) + "\n" for each in objects).encode()
    data = gzip.compress(lines) if ending.endswith(".gz") else lines
    Path(first).write_bytes(data)
    rows = list(read_rows(first))
    assert write_rows(second, (row.members for row in rows)) == len(objects)
    assert values(list(read_rows(second))) == values(rows)
    parsed = [json.loads(b"{%s}" % b",".join(_members(row))) for row in rows]
    assert parsed == [json.loads(json.dumps(each)) for each in objects]


def _members(row: Row) -> list[bytes]:
    return [json.dumps(name).encode() + b":" + bytes(each) for name, each in row.members.items()]


@given(data=st.data(), ending=st.sampled_from([".csv", ".csv.gz"]))
@each_example_its_file
def test_any_text_survives_csv(tmp_path: Path, data: st.DataObject, ending: str) -> None:
    """Commas, quotes and line ends inside cells, empty cells, and nothing is guessed a number."""
    cell = TEXT.filter(lambda text: "\x00" not in text)
    columns = data.draw(st.lists(cell, min_size=1, max_size=4, unique=True))
    table = data.draw(st.lists(st.lists(cell, min_size=len(columns), max_size=len(columns))))
    name = str(tmp_path / f"table{ending}")
    rows = [dict(zip(columns, map(raw, cells), strict=True)) for cells in table]
    assert write_rows(name, rows) == len(table)
    read = [[row.text(column) for column in columns] for row in read_rows(name)]
    assert read == table


def test_values_keep_their_spelling(tmp_path: Path) -> None:
    """1.50 stays 1.50, a huge integer stays whole, and half an emoji stays half."""
    text = r'{"a":1.50,"b":123456789012345678901234567890,"c":"\ud83d","d":[1, 2]}'
    row = one(text, tmp_path)
    out = tmp_path / "out.jsonl"
    write_rows(str(out), [{**row.members, "e": raw(0.25)}])
    assert out.read_text() == text[:-1] + ',"e":0.25}\n'


def test_every_float32_is_told_exactly(tmp_path: Path) -> None:
    """The double that gRPC carries and the one in the file are the same."""
    rate = 0.6398809552192688
    for name in ("rates.jsonl", "rates.csv"):
        write_rows(str(tmp_path / name), [{"rate": raw(rate)}])
        (row,) = read_rows(str(tmp_path / name))
        assert row.number("rate") == rate
        assert repr(rate) in (tmp_path / name).read_text()


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("a.csv", "csv"),
        ("a.CSV.gz", "csv"),
        ("a.jsonl", "jsonl"),
        ("csv", "jsonl"),
        ("-", "jsonl"),
        ("a.csv.jsonl", "jsonl"),
    ],
)
def test_the_name_tells_the_format(name: str, expected: RowFormat) -> None:
    """CSV where the name ends so, JSON Lines everywhere else."""
    assert row_format(name) == expected


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b'{"a": 1}\n\n[1]\n', r"line 3: not a JSON object.*such as"),
        (b'{"a": 1}\n{"a": \n', r"line 2: not a JSON object"),
        (b"prompt\nhello\n", r"line 1: not a JSON object"),
        (b'{"\xff": 1}\n', r"line 1: not a JSON object"),
    ],
)
def test_a_broken_line_is_named(tmp_path: Path, content: bytes, said: str) -> None:
    """File, line, reason and remedy."""
    path = tmp_path / "rows.jsonl"
    path.write_bytes(content)
    with pytest.raises(ConfigError, match=rf"rows\.jsonl, {said}"):
        list(read_rows(str(path)))


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"a,b\n1,2\n3\n", r"line 3: 1 cells under a header of 2 columns"),
        (b'a\n"x\ny"\n1,2\n', r"line 4: 2 cells"),
        (b'a\n"x\n', r"line \d: not CSV"),
        (b"a\n\xff\n", r"line \d: not CSV"),
        (b"a,b,a\n1,2,3\n", r"line 1: two columns are called `a`"),
    ],
)
def test_a_broken_csv_row_is_named(tmp_path: Path, content: bytes, said: str) -> None:
    """A row that does not fit its header would silently shift its values, or lose one."""
    path = tmp_path / "rows.csv"
    path.write_bytes(content)
    with pytest.raises(ConfigError, match=rf"rows\.csv, {said}"):
        list(read_rows(str(path)))


@pytest.mark.parametrize("harm", ["cut", "flipped", "plain", "missing", "folder"])
def test_what_cannot_be_read_is_one_line(tmp_path: Path, harm: str) -> None:
    """A download cut short, a damaged archive, a wrong name: never a traceback."""
    path = tmp_path / "rows.jsonl.gz"
    whole = gzip.compress(b'{"a": 1}\n' * 1000)
    content = {
        "cut": whole[:-12],
        "flipped": whole[:15] + bytes([whole[15] ^ 255]) + whole[16:],
        "plain": b'{"a": 1}\n',
    }
    if harm in content:
        path.write_bytes(content[harm])
    elif harm == "folder":
        path.mkdir()
    with pytest.raises(ConfigError, match=r"rows\.jsonl\.gz: cannot be read: .+"):
        list(read_rows(str(path)))


def test_byte_order_marks_and_empty_lines_are_not_content(tmp_path: Path) -> None:
    """Excel writes the one, editors the other."""
    (tmp_path / "a.jsonl").write_bytes(b'\xef\xbb\xbf{"a": "x"}\r\n\r\n{"a": "y"}')
    (tmp_path / "a.csv").write_bytes(b"\xef\xbb\xbfa\r\nx\r\n\r\ny")
    for name in ("a.jsonl", "a.csv"):
        assert [row.text("a") for row in read_rows(str(tmp_path / name))] == ["x", "y"]


def test_long_cells_are_read(tmp_path: Path) -> None:
    """Prompts can be longer than what Python's csv module takes by default."""
    write_rows(str(tmp_path / "a.csv"), [{"a": raw("x" * 200_000)}])
    (row,) = read_rows(str(tmp_path / "a.csv"))
    assert len(row.text("a")) == 200_000


@pytest.mark.parametrize(
    ("value", "number"),
    [("1.5", 1.5), ("true", 1.0), ('"false"', 0.0), ('" 2 "', 2.0), ("-3", -3.0)],
)
def test_numbers_come_in_many_clothes(tmp_path: Path, value: str, number: float) -> None:
    """JSON numbers and booleans, and what a CSV cell makes of them."""
    assert one(f'{{"a": {value}}}', tmp_path).number("a") == number


@pytest.mark.parametrize("value", ['"x"', "null", "[]", '"nan"', '"inf"', "1e999", '""'])
def test_what_is_no_number_is_named(tmp_path: Path, value: str) -> None:
    """NaN and infinity too: no mean survives them."""
    with pytest.raises(ConfigError, match=r"one\.jsonl, line 1: the field `a` is not a"):
        one(f'{{"a": {value}}}', tmp_path).number("a")


def test_a_missing_field_is_named_with_those_there_are(tmp_path: Path) -> None:
    """A typing mistake is seen at once."""
    row = one('{"prompt": "x", "id": 1}', tmp_path)
    with pytest.raises(ConfigError, match="no field `promt`, only `prompt`, `id`"):
        row.text("promt")
    with pytest.raises(ConfigError, match="the field `id` is not text: `1`"):
        row.text("id")
    assert [row.has(name) for name in ("prompt", "promt")] == [True, False]


def test_bytes_that_are_no_text_are_named_only_where_text_is_wanted(tmp_path: Path) -> None:
    """A field that nobody reads passes through; a prompt must be UTF-8."""
    path = tmp_path / "rows.jsonl"
    path.write_bytes(b'{"a":"\xff"}\n')
    (row,) = read_rows(str(path))
    write_rows(str(tmp_path / "out.jsonl"), [row.members])
    assert (tmp_path / "out.jsonl").read_bytes() == path.read_bytes()
    with pytest.raises(ConfigError, match=r"line 1: the field `a` is not text"):
        row.text("a")


def test_csv_holds_text_as_it_is_nothing_for_null_and_json_for_the_rest(tmp_path: Path) -> None:
    """What a spreadsheet can show."""
    row = {"a": raw("x,y"), "b": raw(None), "c": raw([1, "z"]), "d": raw(0.5)}
    write_rows(str(tmp_path / "a.csv"), [row])
    lines = list(csv.reader(io.StringIO((tmp_path / "a.csv").read_text())))
    assert lines == [["a", "b", "c", "d"], ["x,y", "", '[1,"z"]', "0.5"]]


def test_csv_refuses_a_field_that_its_header_lacks(tmp_path: Path) -> None:
    """Values would be lost; no file appears."""
    with pytest.raises(ConfigError, match="the field `b`, which the first row has not"):
        write_rows(str(tmp_path / "a.csv"), [{"a": raw(1)}, {"b": raw(2)}])
    assert list(tmp_path.iterdir()) == []


def test_zipped_files_are_the_same_every_time(tmp_path: Path) -> None:
    """No time and no name in the archive: checksums can be compared."""
    for name in ("a.jsonl.gz", "b.jsonl.gz"):
        write_rows(str(tmp_path / name), [{"a": raw(1)}])
    first, second = ((tmp_path / name).read_bytes() for name in ("a.jsonl.gz", "b.jsonl.gz"))
    assert first == second
    assert gzip.decompress(first) == b'{"a":1}\n'


def test_a_dash_is_standard_input_and_output(
    monkeypatch: pytest.MonkeyPatch, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    """The tools stand in pipes; neither end is closed afterwards."""
    stdin = io.TextIOWrapper(io.BytesIO(b'{"a":1}\n'))
    monkeypatch.setattr(sys, "stdin", stdin)
    write_rows("-", (row.members for row in read_rows("-")))
    assert not stdin.closed
    assert not sys.stdout.closed
    assert capfdbinary.readouterr().out == b'{"a":1}\n'


def test_nowhere_to_write_is_one_line(tmp_path: Path) -> None:
    """The file's name and the system's reason."""
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match=r"out\.jsonl: cannot be written: "):
        write_rows(str(tmp_path / "file" / "out.jsonl"), [])


def test_raw_values_are_json() -> None:
    """What tools add is written as everything else."""
    assert [bytes(raw(value)) for value in ("a", 0.1, None)] == [b'"a"', b"0.1", b"null"]
    assert isinstance(raw("a"), msgspec.Raw)
