"""Free SQL over the database, which can read and do nothing else.

The views in `VIEWS` are documented and stay as they are (docs/database.md). One statement that starts with SELECT, WITH
or VALUES is taken, without functions that act on a server; on top of that SQLite opens the file read-only, refuses every
action but reading, and is interrupted in time; PostgreSQL runs one statement of a read-only transaction under a timeout, on
a connection that is closed afterwards.
"""

from __future__ import annotations

import re
import sqlite3
import time
from collections.abc import Iterator, Sequence
from contextlib import closing
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any

from space.errors import UserError
from storage.database import Database
from storage.engines import connect_sqlite
from storage.failures import failure, translated
from storage.frames import PIECE

if TYPE_CHECKING:
    import pandas as pd

VIEWS = (
    "einsearch_trial_view",
    "einsearch_point_view",
    "einsearch_attempt_view",
    "einsearch_structure_view",
    "einsearch_study_view",
)
MOST_ROWS = 1_000_000
SECONDS = 30.0
SHORTEST, LONGEST = 0.001, 86400.0
"""Time limits that a question can be given, seconds. PostgreSQL counts milliseconds, and takes none for no limit."""

_LONGEST_VALUE = 100_000_000
_OPENING = re.compile(r"(\s|\(|--[^\n]*(\n|$)|/\*.*?\*/)*(select|with|values)\b", re.IGNORECASE | re.DOTALL)
_ACTING = re.compile(
    r"\b(set_config|lo_\w+|pg_(?:(?:terminate|cancel)_backend|(?:try_)?advisory_\w+|notify|promote|reload_conf|logical_\w+))\b",
    re.IGNORECASE,
)
"""PostgreSQL's functions that do more than read in a read-only transaction too: to other sessions, its own limits, files."""

_ALLOWED = {
    sqlite3.SQLITE_SELECT,
    sqlite3.SQLITE_READ,
    sqlite3.SQLITE_FUNCTION,
    sqlite3.SQLITE_RECURSIVE,
}
_STEPS_BETWEEN_LOOKS = 10_000
_PLAIN = (type(None), bool, int, float, str)

Rows = list[tuple[Any, ...]]
Reading = Iterator[tuple[list[str], Rows]]
"""Names of the columns and some rows, again and again."""


def sql(database: Database, text: str, *, seconds: float = SECONDS, most_rows: int = MOST_ROWS) -> pd.DataFrame:
    """The rows of one reading statement, under the names that it gives its columns; a name given twice becomes `name_2`.

    >>> sql(database, "SELECT structure, min(loss) FROM einsearch_trial_view GROUP BY 1")    # doctest: +SKIP

    Args:
        seconds: time limit, from SHORTEST to LONGEST.
        most_rows: the largest answer that is taken.

    Raises:
        UserError: not one reading statement, an error in it, a time limit that is none, too long, or too many rows; the message
            says which.
        DatabaseError: the database cannot be used.
    """
    import pandas as pd

    parts = list(_read(database, text, seconds, most_rows))
    return pd.DataFrame.from_records([row for _, rows in parts for row in rows], columns=parts[0][0])


def sql_pieces(
    database: Database, text: str, *, seconds: float = SECONDS, most_rows: int = MOST_ROWS, size: int = PIECE
) -> Iterator[pd.DataFrame]:
    """The same in frames of at most `size` rows, whose columns hold the values as they come (of dtype object).

    Raises as `sql`, in the middle of the answer where the time or the rows run out there.
    """
    import pandas as pd

    for names, rows in _read(database, text, seconds, most_rows, size):
        yield pd.DataFrame(rows, columns=names, dtype=object)


def _read(database: Database, text: str, seconds: float, most_rows: int, size: int = PIECE) -> Reading:
    if not _OPENING.match(text):
        raise UserError(f"{_short(text)}: only reading is allowed here; write one SELECT (views: {', '.join(VIEWS)})")
    if acting := _ACTING.search(text):
        raise UserError(f"{_short(text)}: {acting[1]} acts on the server; only reading is allowed here")
    if not SHORTEST <= seconds <= LONGEST:
        raise UserError(f"a time limit of {seconds:g} seconds: give one from {SHORTEST:g} to {LONGEST:g}")
    path, count = database.location.path, 0
    with translated(database.url_shown):
        reading = _postgresql(database, text, seconds, size) if path is None else _sqlite(path, text, seconds, size)
        for names, rows in reading:
            count += len(rows)
            if count > most_rows:
                raise UserError(f"{_short(text)}: more than {most_rows} rows; add a LIMIT or an aggregate")
            yield _unique(names), [_plain(row) for row in rows]


def _sqlite(path: Path, text: str, seconds: float, size: int) -> Reading:
    with closing(connect_sqlite(path, "ro", seconds)) as connection:
        connection.execute("PRAGMA query_only = ON")
        connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, _LONGEST_VALUE)
        connection.set_authorizer(lambda action, *_: sqlite3.SQLITE_OK if action in _ALLOWED else sqlite3.SQLITE_DENY)
        deadline = time.monotonic() + seconds
        connection.set_progress_handler(lambda: time.monotonic() > deadline, _STEPS_BETWEEN_LOOKS)
        try:
            cursor = connection.execute(text)
            names = [column[0] for column in cursor.description]
            yield names, cursor.fetchmany(size)
            while rows := cursor.fetchmany(size):
                yield names, rows
        except (sqlite3.Error, sqlite3.Warning) as error:
            raise _refusal(text, error, "interrupted" in str(error), seconds) from error


def _postgresql(database: Database, text: str, seconds: float, size: int) -> Reading:
    import psycopg

    pooled = database.engine.raw_connection()
    connection: Any = pooled.driver_connection
    pooled.detach()
    with closing(connection):
        connection.read_only = True
        deadline = time.monotonic() + seconds
        connection.execute(f"SET LOCAL statement_timeout = {round(seconds * 1000)}")  # of each fetch
        try:
            with connection.cursor("einsearch") as cursor:
                cursor.execute(text)
                names = [column.name for column in cursor.description]
                yield names, cursor.fetchmany(size)
                while rows := cursor.fetchmany(size):
                    if time.monotonic() > deadline:
                        raise psycopg.errors.QueryCanceled
                    yield names, rows
        except psycopg.Error as error:
            if connection.broken:
                raise failure(error, database.url_shown) from error
            late = isinstance(error, psycopg.errors.QueryCanceled)
            raise _refusal(text, error, late, seconds) from error


def _unique(names: Sequence[str]) -> list[str]:
    """The names, numbered from their second use on."""
    taken: list[str] = []
    for name in names:
        tries = (name if number == 1 else f"{name}_{number}" for number in range(1, len(names) + 2))
        taken.append(next(one for one in tries if one not in taken))
    return taken


def _plain(row: Sequence[Any]) -> tuple[Any, ...]:
    """The row in numbers and text: what JSON, CSV and Parquet can hold."""
    return tuple(value if type(value) in _PLAIN else _text(value) for value in row)


def _text(value: Any) -> Any:
    if isinstance(value, Decimal):
        return int(value) if value.is_finite() and value == value.to_integral_value() else float(value)
    return value.hex() if isinstance(value, bytes) else str(value)


def _refusal(text: str, error: Exception, late: bool, seconds: float) -> UserError:
    if late:
        return UserError(f"{_short(text)}: took longer than {seconds:g} seconds; ask for less")
    return UserError(f"{_short(text)}: {' '.join(str(error).split())}")


def _short(text: str) -> str:
    line = " ".join(text.split())
    return repr(line if len(line) <= 80 else line[:79] + "…")
