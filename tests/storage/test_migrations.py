"""The migrations make exactly the models' tables, and live beside Optuna's."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import optuna
import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from optuna.storages import RDBStorage
from sqlalchemy import CheckConstraint, Connection, MetaData, create_engine, insert, inspect, make_url, select, text

from space.errors import DatabaseError
from storage import upgrade
from storage.database import Database
from storage.engines import immediate
from storage.free_sql import VIEWS
from storage.ledger import Ledger
from storage.schema import PREFIX, REVISION, VERSION_TABLE, Base
from storage.status import status
from storage.studies import StudyRecord, create_study, open_study

Place = Callable[[], str]
CLAIMER = Path(__file__).with_name("claimer.py")


@pytest.fixture
def optuna_storages() -> Iterator[Callable[[str], RDBStorage]]:
    """Opens Optuna's own storage at one of our URLs."""
    opened: list[RDBStorage] = []

    def make(url: str) -> RDBStorage:
        storage = RDBStorage(url)
        if url.startswith("sqlite"):
            storage.engine.dispose()
            immediate(storage.engine)
        opened.append(storage)
        return storage

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    yield make
    for storage in opened:
        storage.remove_session()
        storage.engine.dispose()


def search(storage: RDBStorage, trials: int) -> optuna.Study:
    study = optuna.create_study(study_name="theirs", storage=storage, load_if_exists=True)
    study.optimize(lambda trial: trial.suggest_float("x", 0, 1), n_trials=trials)
    return study


def differences(database: Database) -> list[object]:
    options = {"version_table": VERSION_TABLE, "include_object": upgrade.is_ours}
    with database.engine.begin() as connection:
        return list(compare_metadata(MigrationContext.configure(connection, opts=options), Base.metadata))


def test_the_head_is_the_revision_of_the_models(database: Database) -> None:
    with database.engine.begin() as connection:
        script = ScriptDirectory.from_config(upgrade.configuration(connection))
        assert script.get_heads() == [REVISION]
        assert upgrade.revision_of(connection) == REVISION


def test_the_migrations_make_exactly_the_models(database: Database) -> None:
    assert differences(database) == []
    with database.engine.begin() as connection:
        inspector = inspect(connection)
        for table in Base.metadata.sorted_tables:
            wanted = {str(c.name) for c in table.constraints if isinstance(c, CheckConstraint)}
            assert {c["name"] for c in inspector.get_check_constraints(table.name)} == wanted
            assert inspector.get_foreign_keys(table.name) or not table.foreign_keys
        assert sorted(inspector.get_view_names()) == sorted(VIEWS)


@pytest.mark.parametrize("optuna_first", [True, False])
def test_optuna_lives_in_the_same_database(
    empty_place: Place,
    optuna_storages: Callable[[str], RDBStorage],
    new_study: Callable[..., StudyRecord],
    optuna_first: bool,
) -> None:
    url = empty_place()
    if optuna_first:
        search(optuna_storages(url), 2)
    with Database.open(url, create=True) as database:
        study = new_study(database)
        theirs = search(optuna_storages(url), 2)
        ledger = Ledger(database, study.id)
        ledger.claim(ledger.join())
        assert differences(database) == []
        assert len(theirs.get_trials()) == (4 if optuna_first else 2)
        assert open_study(database, "first") == study


def test_a_downgrade_takes_our_tables_and_leaves_optunas(
    empty_place: Place, optuna_storages: Callable[[str], RDBStorage], new_study: Callable[..., StudyRecord]
) -> None:
    url = empty_place()
    search(optuna_storages(url), 2)
    with Database.open(url, create=True) as database:
        theirs = {name for name in inspect(database.engine).get_table_names() if not name.startswith(PREFIX)}
        new_study(database)
        with database.engine.begin() as connection:
            command.downgrade(upgrade.configuration(connection), "base")
        inspector = inspect(database.engine)
        assert set(inspector.get_table_names()) == theirs | {VERSION_TABLE}
        assert inspector.get_view_names() == []
    assert len(search(optuna_storages(url), 1).get_trials()) == 3
    Database.open(url, create=True).close()


def test_a_failing_migration_leaves_what_was_there(empty_place: Place) -> None:
    url = empty_place()
    with Database.open(url, create=True) as database:
        with database.engine.begin() as connection:
            command.downgrade(upgrade.configuration(connection), "base")
            connection.execute(text("CREATE TABLE einsearch_points (id INTEGER)"))
        with pytest.raises(Exception, match="already exists"):
            Database.open(url, create=True)
        assert set(inspect(database.engine).get_table_names()) == {VERSION_TABLE, "einsearch_points"}


ASSET = Path(__file__).parents[1] / "assets" / "ledger-0001.db"
KEPT = {
    "studies": "SELECT id, name, settings, budget, seed, corpus_fingerprint, target_compute, created FROM einsearch_studies",
    "structures": "SELECT id, key, name, theta_xa, theta_ab, omega, psi, nu FROM einsearch_structures",
    "drivers": "SELECT id, host, state, heartbeat FROM einsearch_drivers",
    "trials": "SELECT id, number, kind, state, structure_id, sizes, loss, value, flops, error, told FROM einsearch_trials",
    "attempts": "SELECT trial_id, attempt, state, start_flops, flops, error FROM einsearch_attempts",
    "points": "SELECT trial_id, step, attempt, loss, train_loss, warmup FROM einsearch_points",
    "fits": "SELECT id, kind, settings_hash, payload FROM einsearch_fits",
    "theirs": "SELECT trial_id, number, state FROM trials",
}
"""What every revision since the first holds, and a table of Optuna's."""


def contents(connection: Connection) -> dict[str, list[tuple[object, ...]]]:
    return {name: sorted(map(tuple, connection.execute(text(question))), key=str) for name, question in KEPT.items()}


@pytest.fixture
def old_place(backend: str, empty_place: Place, optuna_storages: Callable[[str], RDBStorage]) -> str:
    """A database that the first revision wrote, with a study in every state and Optuna's tables."""
    url = empty_place()
    if backend == "sqlite":
        shutil.copy(ASSET, str(make_url(url).database))
        return url
    optuna_storages(url)
    source, target = create_engine(f"sqlite:///{ASSET}"), create_engine(url)
    with source.connect() as old, target.begin() as new:
        upgrade.migrate(new, "0001")
        there, here = MetaData(), MetaData()
        there.reflect(old)
        here.reflect(new)
        ours = [f"{PREFIX}{name}" for name in list(KEPT)[:-1]]
        theirs = ["studies", "study_directions", "trials"]
        for name in [*ours, *theirs]:
            rows = [dict(row) for row in old.execute(select(there.tables[name])).mappings()]
            new.execute(insert(here.tables[name]), rows)
    source.dispose()
    target.dispose()
    return url


def test_an_old_database_keeps_everything_forward_and_back(old_place: str) -> None:
    engine = create_engine(old_place)
    with engine.connect() as connection:
        before = contents(connection)
    assert {name: len(rows) for name, rows in before.items()} == {
        "studies": 2, "structures": 6, "drivers": 1, "trials": 8, "attempts": 9, "points": 16, "fits": 1, "theirs": 5,
    }  # fmt: skip
    with pytest.raises(DatabaseError, match=r"older schema 0001 .* `einsearch upgrade`"):
        Database.open(old_place)
    with Database.open(old_place, create=True) as database:
        assert differences(database) == []
        with database.engine.begin() as connection:
            assert contents(connection) == before
        now = status(database, "old")
        assert (now.states["completed"], now.states["failed"], now.done, now.flops) == (3, 1, 6, pytest.approx(1.21e10))
        with database.engine.begin() as connection:
            command.downgrade(upgrade.configuration(connection), "0001")
            assert contents(connection) == before
    with Database.open(old_place, create=True) as database, database.engine.begin() as connection:
        assert contents(connection) == before
        assert not [name for name in inspect(connection).get_table_names() if "einsearch_old" in name]
    engine.dispose()


def test_an_upgraded_study_goes_on(old_place: str) -> None:
    """New rows take new ids; what waited is claimed under its number."""
    with Database.open(old_place, create=True) as database:
        ledger = Ledger(database, open_study(database, "old").id)
        claims = [ledger.claim(ledger.join()) for _ in range(3)]
        assert [getattr(claim, "number", None) for claim in claims] == [7, 8, None]
        create_study(database, "new", {}, 1, [], seed=0, corpus_fingerprint="ab", target_compute=1.0)


def test_what_the_newer_schema_forbids_stops_the_upgrade(old_place: str) -> None:
    engine = create_engine(old_place)
    with engine.begin() as connection:
        connection.execute(text("UPDATE einsearch_points SET loss = -1.5 WHERE step = 8"))
        before = contents(connection)
    with pytest.raises(DatabaseError, match=r"holds what schema \d+ forbids .*loss_amount.*nothing was changed"):
        Database.open(old_place, create=True)
    with engine.connect() as connection:
        assert contents(connection) == before
        assert upgrade.revision_of(connection) == "0001"
    engine.dispose()


def test_processes_that_create_at_once_share_one_study(empty_place: Place, program_path: dict[str, str]) -> None:
    url = empty_place()
    command_line = [sys.executable, str(CLAIMER), url, "0", "create", "4"]
    answers = subprocess.run(command_line, env=program_path, stdout=subprocess.PIPE, text=True, timeout=60, check=True).stdout
    assert answers == "1 2\n" * 4
