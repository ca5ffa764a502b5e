"""Writing answers of any length: in pieces, so that memory does not grow with them, and files whole or not at all."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import click

from einsearch.output import json_value, record

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

TEXTS = ("csv", "json", "jsonl")
"""Formats for programs that are text."""

Pieces = Callable[[], Iterator["pd.DataFrame"]]
"""Asks a question anew, and gives its answer in frames that have the same columns."""


def print_text(pieces: Pieces, format_: str) -> None:
    """Print an answer as one of `TEXTS`, as far as it is read: a reader that leaves, as `head` does, is no error."""
    try:
        for text in texts(pieces(), format_):
            click.echo(text, nl=False)
    except BrokenPipeError:
        raise click.exceptions.Exit(0) from None


def write_file(path: Path, pieces: Pieces, format_: str) -> int:
    """Write an answer to a file, as one of `TEXTS` or as Parquet; return its number of rows.

    Raises:
        DiskError: it cannot be written; an older file at that place is left as it was.
    """
    counter = _Counter()
    with whole_file(path) as file:
        if format_ == "parquet":
            _write_parquet(file, pieces, counter)
        else:
            for text in texts(counter(pieces()), format_):
                file.write(text.encode())
    return counter.rows


def texts(pieces: Iterator[pd.DataFrame], format_: str) -> Iterator[str]:
    """The text of an answer in parts: CSV, a JSON array with a record a line, or such lines alone."""
    if format_ == "csv":
        for number, frame in enumerate(pieces):
            yield frame.to_csv(index=False, header=number == 0)
        return
    array = format_ == "json"
    between = "[\n" if array else ""
    for line in _lines(pieces):
        yield between + line
        between = ",\n" if array else "\n"
    if array:
        yield "[]\n" if between == "[\n" else "\n]\n"
    elif between:
        yield "\n"


def _lines(pieces: Iterator[pd.DataFrame]) -> Iterator[str]:
    """Each row as a JSON object; the exponents of a typed frame are one list."""
    for frame in pieces:
        typed = not _untyped(frame)
        rows = frame.astype(object).where(frame.notna(), None).to_dict("records")
        for row in rows:
            yield json.dumps(json_value(record(row) if typed else row))


@contextmanager
def whole_file(path: Path) -> Iterator[IO[bytes]]:
    """A file to write to, which takes its place at the end; a device or a pipe is written at once.

    Raises:
        DiskError: it cannot be written; an older file at that place is left as it was.
    """
    from space.errors import DiskError

    target = path.resolve()
    special = target.exists() and not target.is_file()
    scratch = target if special else target.with_name(f".{target.name}.{os.getpid()}")
    try:
        with scratch.open("wb") as file:
            yield file
        if not special:
            scratch.replace(target)
    except OSError as error:
        raise DiskError(f"{path} cannot be written ({error.strerror}); give another place with -o, or make room") from error
    finally:
        if not special:
            with suppress(OSError):  # there may be no folder to remove it from
                scratch.unlink(missing_ok=True)


def _untyped(frame: pd.DataFrame) -> bool:
    """Whether the frame is of free SQL."""
    return all(kind.kind == "O" and kind.name == "object" for kind in frame.dtypes)


class _Counter:
    """Counts the rows that pass."""

    def __init__(self) -> None:
        self.rows = 0

    def __call__(self, pieces: Iterator[pd.DataFrame]) -> Iterator[pd.DataFrame]:
        for frame in pieces:
            self.rows += len(frame)
            yield frame


def _write_parquet(file: IO[bytes], pieces: Pieces, counter: _Counter) -> None:
    """Parquet has one type a column: free SQL, whose columns may hold anything, is asked twice, first for the types."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    first = next(pieces())
    untyped = _untyped(first)
    schema = _schema(pieces()) if untyped else pa.Schema.from_pandas(first, preserve_index=False)
    with pq.ParquetWriter(file, schema) as writer:
        for frame in counter(pieces()):
            writer.write_table(_table(frame, schema) if untyped else pa.Table.from_pandas(frame, schema, preserve_index=False))


def _schema(pieces: Iterator[pd.DataFrame]) -> pa.Schema:
    """The narrowest types that hold all values: numbers stay numbers, and what is of several kinds becomes text."""
    import pyarrow as pa

    kinds: dict[str, set[type]] = {}
    for frame in pieces:
        for name in frame.columns:
            kinds.setdefault(str(name), set()).update(map(_kind, frame[name]))
    return pa.schema([(name, _arrow(found - {type(None)})) for name, found in kinds.items()])


def _kind(value: Any) -> type:
    """The value's type; an integer that 64 bits do not hold counts as a float."""
    wide = type(value) is int and not -(2**63) <= value < 2**63
    return float if wide else type(value)


def _arrow(kinds: set[type]) -> pa.DataType:
    import pyarrow as pa

    if kinds == {bool}:
        return pa.bool_()
    if kinds == {int}:
        return pa.int64()
    return pa.float64() if kinds and kinds <= {int, float} else pa.string()


def _table(frame: pd.DataFrame, schema: pa.Schema) -> pa.Table:
    import pyarrow as pa

    columns = []
    for field in schema:
        cast: Callable[[Any], Any] = {pa.string(): str, pa.float64(): float}.get(field.type, lambda value: value)
        columns.append(pa.array([None if value is None else cast(value) for value in frame[field.name]], field.type))
    return pa.table(columns, schema=schema)
