"""The migrations make exactly the models' tables, and live beside Optuna's."""

from __future__ import annotations

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
from sqlalchemy import CheckConstraint, inspect, text

from storage import upgrade
from storage.database import Database
from storage.engines import immediate
from storage.ledger import Ledger
from storage.schema import PREFIX, REVISION, VERSION_TABLE, Base
from storage.studies import StudyRecord, open_study

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
        assert sorted(inspector.get_view_names()) == ["einsearch_point_view", "einsearch_trial_view"]


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


def test_processes_that_create_at_once_share_one_study(empty_place: Place, program_path: dict[str, str]) -> None:
    url = empty_place()
    command_line = [sys.executable, str(CLAIMER), url, "0", "create"]
    crowd = [subprocess.Popen(command_line, env=program_path, stdout=subprocess.PIPE, text=True) for _ in range(4)]
    answers = [process.communicate(timeout=60)[0] for process in crowd]
    assert [process.returncode for process in crowd] == [0] * 4
    assert answers == ["1 2\n"] * 4
