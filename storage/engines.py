"""SQLAlchemy engines whose transactions do what the ledger needs.

SQLite: the driver's own transaction handling is switched off. A writing transaction starts with BEGIN
IMMEDIATE, so that it holds the write lock before it reads what it decides on; a reading one starts with BEGIN
on a connection that refuses to write, and needs no lock in WAL mode. `synchronous` is NORMAL: what was committed
survives any crash of the process; a power cut may take the last commits, as a whole and in order, and such a trial
is run again. FULL would wait for the disk at every commit of every driver. PostgreSQL: a writing transaction is READ
COMMITTED and gives up on locks in time; a reading one is one read-only snapshot.
"""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Any
from urllib.parse import quote

from sqlalchemy import Connection, Engine, create_engine, event

from storage.urls import Location

READING = "einsearch_reading"
"""Execution option of an engine whose transactions only read."""

LOCK_CLASS = 0x65696E73
"""Our class of PostgreSQL's advisory locks, "eins"."""

_CONNECT_SECONDS = 10


def writing_engine(location: Location, create: bool, timeout: float) -> Engine:
    """An engine for transactions that write, not yet connected; it makes a missing file only with `create`.

    `timeout` is how long a transaction waits for a lock, in seconds.
    """
    if location.path is None:
        return _postgresql(location, timeout)
    path, mode = location.path, "rwc" if create else "rw"
    engine = create_engine(location.url, creator=lambda: connect_sqlite(path, mode, timeout))
    immediate(engine, timeout)
    return engine


def reading_engine(engine: Engine) -> Engine:
    """A view of a writing engine, over the same connections, whose transactions only read."""
    if engine.dialect.name == "sqlite":
        return engine.execution_options(**{READING: True})
    return engine.execution_options(**{READING: True}, isolation_level="REPEATABLE READ", postgresql_readonly=True)


def connect_sqlite(path: Path, mode: str, timeout: float) -> sqlite3.Connection:
    """A plain connection to a file; mode is `ro`, `rw` (the file must exist) or `rwc`."""
    uri = f"file:{quote(str(path))}?mode={mode}"
    return sqlite3.connect(uri, uri=True, timeout=timeout, isolation_level=None, check_same_thread=False)


def immediate(engine: Engine, timeout: float = 30.0) -> None:
    """Give every SQLite engine on the file, Optuna's included, transactions that lock before they read.

    Call it before the engine's first connection, or after `engine.dispose()`.
    """

    @event.listens_for(engine, "connect")
    def _connected(connection: sqlite3.Connection, record: Any) -> None:  # noqa: ARG001
        connection.isolation_level = None
        connection.execute(f"PRAGMA busy_timeout = {round(timeout * 1000)}")
        connection.execute("PRAGMA synchronous = NORMAL")
        connection.execute("PRAGMA foreign_keys = ON")

    @event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:
        reading = connection.get_execution_options().get(READING, False)
        connection.exec_driver_sql(f"PRAGMA query_only = {'ON' if reading else 'OFF'}")
        connection.exec_driver_sql("BEGIN" if reading else "BEGIN IMMEDIATE")


def _postgresql(location: Location, timeout: float) -> Engine:
    arguments = {} if "connect_timeout" in location.url.query else {"connect_timeout": _CONNECT_SECONDS}
    engine = create_engine(location.url, pool_pre_ping=True, connect_args=arguments)

    @event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:
        if connection.get_execution_options().get(READING, False):
            # answers follow indexes to few rows of large tables; the defaults, made for spinning disks, read all of them, and
            # take longer to compile a query or to start workers for it than to answer it
            settings = {"random_page_cost": "1.1", "jit": "off", "max_parallel_workers_per_gather": "0"}
            given = ", ".join(f"set_config('{name}', '{value}', true)" for name, value in settings.items())
            connection.exec_driver_sql(f"SELECT {given}")
        else:
            lock, idle = round(timeout * 1000), round(2 * timeout * 1000)
            connection.exec_driver_sql(
                f"SELECT set_config('lock_timeout', '{lock}', true),"
                f" set_config('idle_in_transaction_session_timeout', '{idle}', true)"
            )

    return engine
