"""Data sets as they lie on a disk: Parquet, CSV, JSON, JSON Lines, and arrays in NumPy's format."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from pointsman.errors import ConfigError
from pointsman.extras import needed_from
from pointsman.json_text import RawObject
from pointsman.rows import Row, raw, read_rows

_KINDS = (
    (".parquet",),
    (".npy",),
    (".csv", ".csv.gz"),
    (".jsonl", ".jsonl.gz"),
    (".json", ".json.gz"),
)
"""By which a folder is read: the first kind that it has. Other JSON may describe the data set."""

_BATCH_ROWS = 4096
"""Rows of a Parquet file held at a time; an embedding of OpenAI's has 12 kB."""

_array_decoder = msgspec.json.Decoder(list[RawObject])


def table_files(source: Path) -> list[Path]:
    """Return the files of a data set, in order; where some are for training, those alone.

    Raises:
        ConfigError: there is none of a kind that can be read.
    """
    found = [source] if source.is_file() else sorted(source.rglob("*"))
    for endings in _KINDS:
        files = [path for path in found if path.name.lower().endswith(endings)]
        if files:
            return [path for path in files if "train" in path.name] or files
    kinds = ", ".join(ending for endings in _KINDS for ending in endings)
    raise ConfigError(f"{source}: there is no data here; these can be read: {kinds}")


def read_table(path: Path, columns: Sequence[str]) -> Iterator[Row]:
    """Yield the rows of a file, with these columns at least as far as it has them.

    Raises:
        ConfigError: the file cannot be read.
    """
    name = path.name.lower()
    if name.endswith(".parquet"):
        return _parquet_rows(path, columns)
    if name.endswith(".npy"):
        raise ConfigError(f"{path}: an array has no columns; rows with {columns[0]} are needed")
    if name.endswith(".json") and path.read_bytes().lstrip()[:1] == b"[":
        return _array_rows(path)
    return read_rows(str(path))


def read_vectors(source: Path, column: str) -> NDArray[np.float32]:
    """Return float32[n, d]: a column of lists of numbers, or an array, over all files of a source.

    Raises:
        ConfigError: a file cannot be read, or its rows are no vectors of one length.
    """
    parts = [_vectors(path, column) for path in table_files(source)]
    widths = sorted({part.shape[1] for part in parts})
    if len(widths) != 1:
        raise ConfigError(f"{source}: its files have vectors of {widths} numbers; name one model's")
    return np.concatenate(parts)


def _vectors(path: Path, column: str) -> NDArray[np.float32]:
    vectors: NDArray[Any]
    if path.name.lower().endswith(".npy"):
        try:
            vectors = np.load(path, allow_pickle=False)
        except (OSError, ValueError, EOFError) as error:
            raise ConfigError(f"{path} cannot be read as an array: {error}") from error
    elif path.name.lower().endswith(".parquet"):
        vectors = _parquet_vectors(path, column)
    else:
        vectors = _stacked(path, [_numbers(row, column) for row in read_table(path, (column,))])
    if vectors.ndim != 2 or not np.issubdtype(vectors.dtype, np.floating):
        raise ConfigError(f"{path}: {vectors.dtype}{list(vectors.shape)} are no rows of vectors")
    with np.errstate(over="ignore"):  # what float32 cannot hold is found below
        result: NDArray[np.float32] = vectors.astype(np.float32)
    if not np.isfinite(result).all():
        raise ConfigError(f"{path}: has numbers that are not finite")
    return result


def _stacked(path: Path, rows: list[NDArray[np.float64]]) -> NDArray[np.float64]:
    for number, row in enumerate(rows, start=1):
        if len(row) != len(rows[0]):
            raise ConfigError(
                f"{path}, row {number}: a vector of {len(row)} numbers among some of {len(rows[0])}"
            )
    return np.stack(rows) if rows else np.empty((0, 0))


def _numbers(row: Row, column: str) -> NDArray[np.float64]:
    try:
        numbers = msgspec.json.decode(bytes(row.members[column]), type=list[float])
    except (KeyError, msgspec.DecodeError) as error:
        known = ", ".join(row.members)
        raise ConfigError(
            f"{row.place}: {column} is no list of numbers: {error}; there are {known}"
        ) from error
    return np.asarray(numbers)


def _parquet_rows(path: Path, columns: Sequence[str]) -> Iterator[Row]:
    number = 0
    for batch in _parquet_batches(path, columns):
        for values in batch.to_pylist():
            number += 1
            yield Row(f"{path}, row {number}", _members(values))


def _parquet_vectors(path: Path, column: str) -> NDArray[Any]:
    """Return [n, d], without a Python object for each number: there may be hundreds of millions."""
    parts: list[NDArray[Any]] = []
    for batch in _parquet_batches(path, [column]):
        if batch.num_columns != 1:
            raise ConfigError(f"{path}: there is no column {column}")
        vectors = batch.column(0)
        numbers = vectors.flatten().to_numpy(zero_copy_only=False)
        if vectors.null_count or len(numbers) % len(vectors):
            raise ConfigError(f"{path}: {column} is no column of vectors of one length")
        parts.append(numbers.reshape(len(vectors), -1))
    return np.concatenate(parts) if parts else np.empty((0, 0))


def _parquet_batches(path: Path, columns: Sequence[str]) -> Iterator[Any]:
    """Yield record batches with those of the columns that there are."""
    with needed_from("import", "reading Parquet"):
        import pyarrow
        from pyarrow import parquet
    try:
        with parquet.ParquetFile(path) as file:
            present = [name for name in columns if name in file.schema_arrow.names]
            yield from file.iter_batches(batch_size=_BATCH_ROWS, columns=present)
    except (OSError, pyarrow.ArrowException) as error:
        raise ConfigError(f"{path} cannot be read as Parquet: {error}") from error


def _members(values: dict[str, Any]) -> RawObject:
    return {name: raw(value) for name, value in values.items()}


def _array_rows(path: Path) -> Iterator[Row]:
    try:
        rows = _array_decoder.decode(path.read_bytes())
    except msgspec.DecodeError as error:
        raise ConfigError(f"{path}: not a JSON array of objects: {error}") from error
    for number, members in enumerate(rows, start=1):
        yield Row(f"{path}, row {number}", members)
