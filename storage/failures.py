"""What a driver of SQLite or PostgreSQL reports, as an error that says what is wrong and what to do."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy.exc import DataError, DBAPIError, IntegrityError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from space.errors import DatabaseError, DiskError, EinsearchError

_SQLITE = {
    "file is not a database": "is not a SQLite database; give another path",
    "malformed": "is corrupt; restore a copy, or recover what is left with `sqlite3 FILE .recover`",
    "readonly": "is read-only here; make the file and its folder writable, or copy it",
    "locked": "is locked by another process that does not let go; end that process, then resume",
    "unable to open": "cannot be opened; check that the folder exists and that you may write in it",
}

_POSTGRESQL = {
    "25006": "is read-only here; use the primary server and a user who may write",
    "55P03": "is locked by another session that does not let go; end that session, then resume",
    "42501": "refuses this user; grant the right, or connect as another user",
}

_FULL = ("full", "No space left")

_PASSING = ("08", "57P", "40", "55P03", "53300", "25P03")
"""States of PostgreSQL that pass: no connection, a shutdown, a deadlock, a lock held too long, too many clients, a cut-off."""


class UnavailableError(DatabaseError):
    """A database that cannot be used just now: unreachable, restarting or locked. What was asked may have been done."""


@contextmanager
def translated(shown: str) -> Iterator[None]:
    """Turn a failure of the database into ours. `shown` is its URL without secrets.

    Broken constraints and values out of range are our own mistakes and pass through unchanged.

    Raises:
        DatabaseError: it cannot be reached, read, written or locked; the message gives the reason. UnavailableError where
            trying again may help.
        DiskError: there is no space left.
    """
    try:
        yield
    except (IntegrityError, DataError):
        raise
    except DBAPIError as error:
        raise failure(error.orig, shown) from error
    except sqlite3.Error as error:
        raise failure(error, shown) from error
    except PoolTimeout as error:
        raise UnavailableError(f"the database {shown} has no free connection; use fewer threads") from error


def failure(error: BaseException | None, shown: str) -> EinsearchError:
    """The error of ours that stands for `error` of the driver."""
    reason = " ".join(str(error).split())
    state = getattr(error, "sqlstate", None)
    if state == "53100" or any(word in reason for word in _FULL):
        return DiskError(f"the disk of the database {shown} is full ({reason}); make room, then resume")
    advice = _POSTGRESQL.get(state or "") or next((_SQLITE[key] for key in _SQLITE if key in reason), None)
    local = shown.startswith("sqlite")
    passing = "locked" in reason if local else state is None or state.startswith(_PASSING)
    kind = UnavailableError if passing else DatabaseError
    if advice is None:
        advice = "cannot be used" if state or local else "cannot be reached"
        return kind(f"the database {shown} {advice}: {reason}")
    return kind(f"the database {shown} {advice} ({reason})")
