"""Free SQL over the database, which can read and do nothing else.

Two views are documented and stay as they are: `einsearch_trial_view` (one row per trial, with its study and
structure) and `einsearch_point_view` (one row per evaluation). One statement that starts with SELECT, WITH
or VALUES is taken; on top of that SQLite opens the file read-only, refuses every action but reading,
and is interrupted in time; PostgreSQL runs one statement of a read-only transaction under a timeout, on a
connection that is closed afterwards.
"""

from __future__ import annotations

import re
import sqlite3
import time
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

from space.errors import UserError
from storage.database import Database
from storage.engines import connect_sqlite
from storage.failures import translated

if TYPE_CHECKING:
    import pandas as pd

VIEWS = ("einsearch_trial_view", "einsearch_point_view")
MOST_ROWS = 1_000_000
SECONDS = 30.0

_LONGEST_VALUE = 100_000_000
_OPENING = re.compile(r"(\s|\(|--[^\n]*(\n|$)|/\*.*?\*/)*(select|with|values)\b", re.IGNORECASE | re.DOTALL)
_ALLOWED = {
    sqlite3.SQLITE_SELECT,
    sqlite3.SQLITE_READ,
    sqlite3.SQLITE_FUNCTION,
    sqlite3.SQLITE_RECURSIVE,
}
_STEPS_BETWEEN_LOOKS = 10_000

Answer = tuple[list[str], list[Any]]


def sql(database: Database, text: str, *, seconds: float = SECONDS, most_rows: int = MOST_ROWS) -> pd.DataFrame:
    """The rows of one reading statement, under the names that it gives its columns.

    >>> sql(database, "SELECT structure, min(loss) FROM einsearch_trial_view GROUP BY 1")    # doctest: +SKIP

    Args:
        seconds: time limit.
        most_rows: the largest answer that is taken.

    Raises:
        UserError: not one reading statement, an error in it, too long, or too many rows; the message says
            which.
        DatabaseError: the database cannot be used.
    """
    import pandas as pd

    if not _OPENING.match(text):
        raise UserError(f"{_short(text)}: only reading is allowed here; write one SELECT (views: {', '.join(VIEWS)})")
    with translated(database.url_shown):
        path = database.location.path
        if path is None:
            names, rows = _postgresql(database, text, seconds, most_rows)
        else:
            names, rows = _sqlite(path, text, seconds, most_rows)
    if len(rows) > most_rows:
        raise UserError(f"{_short(text)}: more than {most_rows} rows; add a LIMIT or an aggregate")
    return pd.DataFrame.from_records([tuple(row) for row in rows], columns=names)


def _sqlite(path: Path, text: str, seconds: float, most_rows: int) -> Answer:
    with closing(connect_sqlite(path, "ro", seconds)) as connection:
        connection.execute("PRAGMA query_only = ON")
        connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, _LONGEST_VALUE)
        connection.set_authorizer(lambda action, *_: sqlite3.SQLITE_OK if action in _ALLOWED else sqlite3.SQLITE_DENY)
        deadline = time.monotonic() + seconds
        connection.set_progress_handler(lambda: time.monotonic() > deadline, _STEPS_BETWEEN_LOOKS)
        try:
            cursor = connection.execute(text)
            rows = cursor.fetchmany(most_rows + 1)
            return [column[0] for column in cursor.description], rows
        except (sqlite3.Error, sqlite3.Warning) as error:
            raise _refusal(text, error, "interrupted" in str(error), seconds) from error


def _postgresql(database: Database, text: str, seconds: float, most_rows: int) -> Answer:
    import psycopg

    pooled = database.engine.raw_connection()
    connection: Any = pooled.driver_connection
    pooled.detach()
    with closing(pooled):
        connection.read_only = True
        connection.execute(f"SET LOCAL statement_timeout = {round(seconds * 1000)}")
        try:
            with connection.cursor("einsearch") as cursor:
                cursor.execute(text)
                return [column.name for column in cursor.description], cursor.fetchmany(most_rows + 1)
        except psycopg.Error as error:
            late = isinstance(error, psycopg.errors.QueryCanceled)
            raise _refusal(text, error, late, seconds) from error


def _refusal(text: str, error: Exception, late: bool, seconds: float) -> UserError:
    if late:
        return UserError(f"{_short(text)}: took longer than {seconds:g} seconds; ask for less")
    return UserError(f"{_short(text)}: {' '.join(str(error).split())}")


def _short(text: str) -> str:
    line = " ".join(text.split())
    return repr(line if len(line) <= 80 else line[:79] + "…")
