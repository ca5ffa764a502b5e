"""Database URLs: what is allowed, and how one is shown without its password."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import URL, make_url
from sqlalchemy.exc import ArgumentError

from space.errors import DatabaseError

ALLOWED = "sqlite:///path/to/file.db or postgresql://user@host/name"
_SECRETS = ("password", "sslpassword", "passfile")


@dataclass(frozen=True, slots=True)
class Location:
    """Where a database is. `shown` is its URL without secrets; `path` is the file of SQLite, else None."""

    url: URL
    shown: str
    path: Path | None


def locate(text: str) -> Location:
    """The location that `text` names.

    >>> locate("postgresql://ann:secret@db.example/nas").shown
    'postgresql://ann:***@db.example/nas'

    Raises:
        DatabaseError: not a URL of SQLite or PostgreSQL, or a SQLite URL without a file or with options.
    """
    try:
        url = make_url(text)
    except (ArgumentError, ValueError):
        raise DatabaseError(f"{_masked(text)!r} is not a database URL; write {ALLOWED}") from None
    shown = url.set(query={k: "***" if k in _SECRETS else v for k, v in url.query.items()})
    label = shown.render_as_string(hide_password=True)
    if url.drivername in ("sqlite", "sqlite+pysqlite"):
        return Location(url, label, _file(url, label))
    if url.drivername in ("postgresql", "postgresql+psycopg", "postgres"):
        return Location(url.set(drivername="postgresql+psycopg"), label, None)
    raise DatabaseError(f"{label}: {url.drivername} is not supported; write {ALLOWED}")


def _file(url: URL, label: str) -> Path:
    if url.query or (url.database or "").startswith("file:"):
        raise DatabaseError(f"{label}: a SQLite URL takes a path and no options; write sqlite:///path/to/file.db")
    if not url.database or url.database == ":memory:":
        raise DatabaseError(f"{label}: a study needs a file that outlives the process; write sqlite:///path/to/file.db")
    return Path(url.database).absolute()


def _masked(text: str) -> str:
    return re.sub(r"(://[^/@]*?:)[^/]*@", r"\1***@", text)
