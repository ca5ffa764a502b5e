"""`Database`: one SQLite file or PostgreSQL database that holds our tables, and perhaps Optuna's too."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType

from sqlalchemy import Connection, Engine, text
from sqlalchemy.orm import Session

from space.errors import DatabaseError
from storage import upgrade
from storage.engines import LOCK_CLASS, reading_engine, writing_engine
from storage.failures import translated
from storage.urls import Location, locate

_CLOCK = {
    "sqlite": text("SELECT (julianday('now') - 2440587.5) * 86400.0"),
    "postgresql": text("SELECT extract(epoch FROM clock_timestamp())::float8"),
}

_LOCK = text("SELECT pg_advisory_xact_lock(:c, :n)")


class Database:
    """An open database of the current schema. Threads may share it; processes open their own.

    Attributes:
        engine: its SQLAlchemy engine, for writing.
        location: where it is.
    """

    def __init__(self, engine: Engine, location: Location) -> None:
        self.engine = engine
        self.location = location
        self._reader = reading_engine(engine)

    @classmethod
    def open(cls, url: str, create: bool = False, *, timeout: float = 30.0) -> Database:
        """Open the database at `url`.

        With `create`, the database is brought to the current schema first, in one transaction: several
        processes may do so at once, and a failure leaves what was there. Without, nothing is created or
        changed.

        Args:
            url: `sqlite:///file` or `postgresql://…`.
            create: make or upgrade our tables; a missing SQLite file is made.
            timeout: how long a transaction waits for a lock, in seconds.

        Raises:
            DatabaseError: missing, unreachable, corrupt, not ours, read-only, locked, or of another schema
            revision. DiskError: there is no space left.
        """
        location = locate(url)
        _check_file(location, create)
        engine = writing_engine(location, create, timeout)
        try:
            with translated(location.shown):
                upgrade.prepare(engine, location, create, timeout)
        except BaseException:
            engine.dispose()
            raise
        return cls(engine, location)

    @property
    def url_shown(self) -> str:
        """The URL with its password hidden."""
        return self.location.shown

    @property
    def dialect(self) -> str:
        """`sqlite` or `postgresql`."""
        return self.engine.dialect.name

    @contextmanager
    def session(self) -> Iterator[Session]:
        """A transaction that writes: committed at the end, rolled back on any exception.

        On SQLite it holds the write lock from its start.

        Raises:
            DatabaseError, DiskError: see `storage.failures.translated`.
        """
        with translated(self.url_shown), Session(self.engine) as session, session.begin():
            session.connection()
            yield session

    @contextmanager
    def reading(self) -> Iterator[Session]:
        """A transaction that only reads: one consistent snapshot. It waits for no writer, no writer for it.

        Raises:
            DatabaseError: see `storage.failures.translated`; also for an attempt to write.
        """
        with translated(self.url_shown), Session(self._reader) as session, session.begin():
            yield session

    def now(self, session: Session | Connection) -> float:
        """The database's clock, in epoch seconds: one clock for all drivers."""
        return float(session.scalar(_CLOCK[self.dialect]) or 0.0)

    def lock(self, session: Session, number: int) -> None:
        """Hold lock `number` to the end of the transaction. On SQLite a writing session holds all of them."""
        if self.dialect == "postgresql":
            session.execute(_LOCK, {"c": LOCK_CLASS, "n": number})

    def close(self) -> None:
        """Close every connection."""
        self.engine.dispose()

    def __enter__(self) -> Database:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"Database({self.url_shown!r})"


def _check_file(location: Location, create: bool) -> None:
    """Refuse a path at which no database can be, before SQLite touches it."""
    path = location.path
    if path is None:
        return
    if path.is_dir():
        raise DatabaseError(f"{path} is a folder; give the path of a file, sqlite:///{path}/einsearch.db")
    if not create and not path.exists():
        raise DatabaseError(f"no database at {path}; start one with `einsearch search --db {location.shown}`")
    if create and not path.parent.is_dir():
        raise DatabaseError(f"{path}: the folder {path.parent} does not exist; create it, or give another path")
