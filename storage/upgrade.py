"""Bringing a database to the current schema, or saying why it cannot be used.

Our tables have their own prefix and their own Alembic version table, so that Optuna's tables and its version
table can live in the same database. All revisions run in one transaction under one lock.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sqlalchemy import Connection, Engine, inspect, text
from sqlalchemy.exc import IntegrityError

from space.errors import DatabaseError
from storage.engines import LOCK_CLASS, reading_engine
from storage.schema import PREFIX, REVISION, VERSION_TABLE
from storage.urls import Location

if TYPE_CHECKING:
    from alembic.config import Config

_OPTUNA = {"studies", "version_info"}
_LOCK = f"SELECT pg_advisory_xact_lock({LOCK_CLASS}, -1)"


def prepare(engine: Engine, location: Location, create: bool, timeout: float) -> None:
    """Check the database's revision; with `create`, bring it to the current one first.

    Raises:
        DatabaseError: not ours, or of another revision than this version can use.
    """
    with reading_engine(engine).connect() as connection:
        tables = set(inspect(connection).get_table_names())
        if create and location.path and not _may_hold_ours(tables):
            raise DatabaseError(f"{location.path} is a database of something else; give another path for the study")
        revision = revision_of(connection)
    if create and (revision is None or revision < REVISION):
        if location.path:
            _write_ahead(engine, timeout)
        with engine.begin() as connection:
            if not location.path:
                connection.execute(text(_LOCK))
            _migrate(connection, location)
            revision = revision_of(connection)
    problem = mismatch(revision)
    if problem:
        raise DatabaseError(f"the database {location.shown} {problem}")


def revision_of(connection: Connection) -> str | None:
    """The schema revision of our tables, None where there are none."""
    if not inspect(connection).has_table(VERSION_TABLE):
        return None
    revision: str | None = connection.scalar(text(f"SELECT version_num FROM {VERSION_TABLE}"))
    return revision


def mismatch(revision: str | None) -> str | None:
    """What is wrong with a database of `revision`, None where nothing is."""
    if revision is None:
        return "is not einsearch's: it holds no study; check the URL, or start one with `einsearch search`"
    if revision > REVISION:
        return f"is of a newer einsearch (schema {revision}, this one knows {REVISION}); upgrade einsearch"
    if revision < REVISION:
        return f"has the older schema {revision} (this one needs {REVISION}); upgrade it with `einsearch upgrade`"
    return None


def migrate(connection: Connection, revision: str = "head") -> None:
    """Run the migrations up to `revision` in the connection's transaction."""
    from alembic import command

    command.upgrade(configuration(connection), revision)


def _migrate(connection: Connection, location: Location) -> None:
    try:
        migrate(connection)
    except IntegrityError as error:
        reason = " ".join(str(error.orig).split())
        raise DatabaseError(
            f"the database {location.shown} holds what schema {REVISION} forbids ({reason}); mend it, then upgrade (nothing was"
            " changed)"
        ) from error


def is_ours(thing: Any, name: str | None, kind: str, reflected: bool, compared: Any) -> bool:  # noqa: ARG001
    """Alembic's `include_object`: leaves alone the tables of others, such as Optuna's."""
    return kind != "table" or (name or "").startswith(PREFIX)


def configuration(connection: Connection) -> Config:
    """What Alembic's commands need to run our migrations in the connection's transaction."""
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations").replace("%", "%%"))
    config.attributes["connection"] = connection
    return config


def _may_hold_ours(tables: Collection[str]) -> bool:
    return not tables or bool(_OPTUNA & set(tables)) or any(table.startswith(PREFIX) for table in tables)


def _write_ahead(engine: Engine, timeout: float) -> None:
    """Switch the file to WAL, which lasts. SQLite does not wait for locks here, so we do."""
    deadline = time.monotonic() + timeout
    while True:
        raw = engine.raw_connection()
        try:
            raw.cursor().execute("PRAGMA journal_mode = WAL")
            return
        except sqlite3.OperationalError as error:
            if "locked" not in str(error) or time.monotonic() > deadline:
                raise
            time.sleep(0.01)
        finally:
            raw.close()
