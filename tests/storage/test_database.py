"""Opening databases, sessions and every way in which a database cannot be used."""

from __future__ import annotations

import os
import shutil
import sqlite3
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from sqlalchemy import Connection, create_engine, event, make_url, select, text

from space.errors import DatabaseError, DiskError
from storage.database import Database
from storage.ledger import Ledger
from storage.schema import REVISION, VERSION_TABLE, Study
from storage.studies import StudyRecord, open_study

Place = Callable[[], str]


def test_a_new_database_is_ready_and_opens_again(empty_place: Place) -> None:
    url = empty_place()
    with Database.open(url, create=True) as database, database.reading() as session:
        assert session.scalars(select(Study)).all() == []
    with Database.open(url) as database, database.session() as session:
        assert session.scalars(select(Study)).all() == []
        if database.dialect == "sqlite":
            assert session.scalar(text("PRAGMA journal_mode")) == "wal"
    Database.open(url, create=True).close()


def test_the_clock_is_the_databases(database: Database) -> None:
    with database.session() as session:
        first, second = database.now(session), database.now(session)
        assert first <= second
    with database.reading() as session:
        assert database.now(session) >= second > 1.7e9


def test_a_failing_session_leaves_nothing(database: Database, study: StudyRecord) -> None:
    with pytest.raises(KeyError), database.session() as session:
        session.get_one(Study, study.id).budget = 99
        session.flush()
        raise KeyError
    assert open_study(database, study.name).budget == study.budget


def test_reading_cannot_write(database: Database, study: StudyRecord) -> None:
    with pytest.raises(DatabaseError, match="read-only here"), database.reading() as session:
        session.execute(text("UPDATE einsearch_studies SET budget = 99"))
    with database.session() as session:
        session.get_one(Study, study.id).budget = 11
    assert open_study(database, study.name).budget == 11


def test_readers_wait_for_no_writer_and_see_one_snapshot(url: str, database: Database, study: StudyRecord) -> None:
    with Database.open(url, timeout=0.05) as other, other.reading() as reader:
        before = reader.scalars(select(Study.budget)).one()
        with database.session() as session:
            session.get_one(Study, study.id).budget = 77
            session.flush()
            assert reader.scalars(select(Study.budget)).one() == before
        assert reader.scalars(select(Study.budget)).one() == before
        with other.reading() as later:
            assert later.scalars(select(Study.budget)).one() == 77


def test_a_lock_that_is_not_let_go_is_reported(url: str, database: Database, study: StudyRecord) -> None:
    with Database.open(url, timeout=0.05) as hasty, database.session() as holder:
        database.lock(holder, study.id)
        ledger = Ledger(hasty, study.id)
        with pytest.raises(DatabaseError, match="is locked by another"):
            ledger.reap()


def test_a_missing_file_is_not_made(tmp_path: Path) -> None:
    path = tmp_path / "none.db"
    with pytest.raises(DatabaseError, match=f"no database at {path}; start one with"):
        Database.open(f"sqlite:///{path}")
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_vanishes_is_not_made_again(tmp_path: Path, migrated_file: Path) -> None:
    path = tmp_path / "study.db"
    shutil.copy(migrated_file, path)
    with Database.open(f"sqlite:///{path}") as database:
        database.engine.dispose()
        for file in tmp_path.iterdir():
            file.unlink()
        with pytest.raises(DatabaseError, match="cannot be opened"), database.session():
            pass
    assert list(tmp_path.iterdir()) == []


def test_a_path_with_odd_characters_is_that_path(tmp_path: Path) -> None:
    folder = tmp_path / "50% of #1, what?"
    folder.mkdir()
    url = make_url("sqlite://").set(database=f"{folder}/a b.db").render_as_string()
    Database.open(url, create=True).close()
    assert (folder / "a b.db").exists()


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("study.db", "is not a database URL; write sqlite:///"),
        ("", "is not a database URL"),
        ("mysql://ann:secret@host/nas", "mysql is not supported; write sqlite:///"),
        ("sqlite://", "needs a file that outlives the process"),
        ("sqlite:///:memory:", "needs a file that outlives the process"),
        ("sqlite:///a.db?mode=ro", "takes a path and no options"),
        ("postgresql://ann:secret@host:port/nas", "is not a database URL"),
    ],
)
def test_a_url_that_cannot_be_is_refused_without_its_password(url: str, reason: str) -> None:
    for create in (False, True):
        with pytest.raises(DatabaseError, match=reason) as caught:
            Database.open(url, create=create)
        assert "secret" not in str(caught.value)


def test_a_folder_is_refused(tmp_path: Path) -> None:
    for create in (False, True):
        with pytest.raises(DatabaseError, match="is a folder; give the path of a file"):
            Database.open(f"sqlite:///{tmp_path}", create=create)
    with pytest.raises(DatabaseError, match=r"the folder .*nowhere does not exist"):
        Database.open(f"sqlite:///{tmp_path}/nowhere/study.db", create=True)


@pytest.mark.parametrize("create", [False, True])
def test_a_file_of_something_else_stays_as_it_is(tmp_path: Path, create: bool) -> None:
    path = tmp_path / "notes.db"
    path.write_text("these are my notes, " * 50)
    before = path.read_bytes()
    with pytest.raises(DatabaseError, match="is not a SQLite database; give another path"):
        Database.open(f"sqlite:///{path}", create=create)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(("create", "reason"), [(False, "is not einsearch's"), (True, "database of something else")])
def test_a_database_of_something_else_stays_as_it_is(tmp_path: Path, create: bool, reason: str) -> None:
    path = tmp_path / "shop.db"
    with sqlite3.connect(path) as shop:
        shop.execute("CREATE TABLE orders (id INTEGER)")
    shop.close()
    before = path.read_bytes()
    with pytest.raises(DatabaseError, match=reason):
        Database.open(f"sqlite:///{path}", create=create)
    assert path.read_bytes() == before


def test_an_empty_database_is_not_ours_until_created(empty_place: Place) -> None:
    url = empty_place()
    if url.startswith("sqlite"):
        Path(str(make_url(url).database)).touch()
    with pytest.raises(DatabaseError, match="is not einsearch's: it holds no study"):
        Database.open(url)
    Database.open(url, create=True).close()


@pytest.mark.parametrize(
    ("start", "length"),
    [(100, 4096), (4096, 400_000)],
    ids=["the schema is garbage", "the tables are garbage"],
)
def test_a_corrupt_file_is_reported(tmp_path: Path, migrated_file: Path, start: int, length: int) -> None:
    path = tmp_path / "study.db"
    content = bytearray(migrated_file.read_bytes())
    content[start : start + length] = b"\xa5" * (min(len(content), start + length) - start)
    path.write_bytes(content)
    with (
        pytest.raises(DatabaseError, match="is corrupt; restore a copy"),
        Database.open(f"sqlite:///{path}") as opened,
    ):
        open_study(opened, "any")


@pytest.mark.parametrize(("revision", "reason"), [("9999", "is of a newer einsearch"), ("0000", "has the older schema")])
def test_another_schema_is_refused(url: str, database: Database, revision: str, reason: str) -> None:
    with database.session() as session:
        session.execute(text(f"UPDATE {VERSION_TABLE} SET version_num = '{revision}'"))
    with pytest.raises(DatabaseError, match=reason):
        Database.open(url)


def test_a_newer_schema_is_refused_also_when_creating(url: str, database: Database) -> None:
    with database.session() as session:
        session.execute(text(f"UPDATE {VERSION_TABLE} SET version_num = '9999'"))
    with pytest.raises(DatabaseError, match=rf"schema 9999, this one knows {REVISION}\); upgrade einsearch"):
        Database.open(url, create=True)


def test_a_server_that_does_not_answer_is_named_without_its_password() -> None:
    with pytest.raises(DatabaseError, match="cannot be reached") as caught:
        Database.open("postgresql://ann:secret@127.0.0.1:1/nas?sslpassword=hidden", create=True)
    assert "ann:***@127.0.0.1:1/nas" in str(caught.value)
    assert "secret" not in str(caught.value) and "hidden" not in str(caught.value)


def test_a_database_that_the_server_does_not_have_is_named(server: str) -> None:
    with pytest.raises(DatabaseError, match='database "nowhere" does not exist'):
        Database.open(make_url(server).set(database="nowhere").render_as_string(hide_password=False))


def test_a_user_without_rights_is_told(new_postgresql: Callable[[str], str]) -> None:
    url = make_url(new_postgresql("template1"))
    engine = create_engine(url, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.execute(text(f"CREATE ROLE guest_{url.database} LOGIN"))
    engine.dispose()
    with pytest.raises(DatabaseError, match="refuses this user; grant the right"):
        Database.open(url.set(username=f"guest_{url.database}").render_as_string(hide_password=False), create=True)


def test_the_plain_postgresql_scheme_is_taken(new_postgresql: Callable[[str], str]) -> None:
    url = new_postgresql("template1").replace("postgresql+psycopg://", "postgresql://")
    with Database.open(url, create=True) as database:
        assert database.dialect == "postgresql"
        assert database.url_shown == url.replace("postgres:@", "postgres:***@")


@pytest.fixture
def guarded(migrated_file: Path) -> Iterator[Path]:
    """A migrated file that this process, for the time being, may read but not write."""
    folder = Path(tempfile.mkdtemp())
    path = folder / "study.db"
    shutil.copy(migrated_file, path)
    path.chmod(0o444)
    folder.chmod(0o555)
    me = os.geteuid()
    if me == 0:
        os.seteuid(65534)
    yield path
    os.seteuid(me)
    folder.chmod(0o755)
    shutil.rmtree(folder)


def test_a_read_only_file_is_reported(guarded: Path) -> None:
    with pytest.raises(DatabaseError, match=r"is read-only here|cannot be opened"):
        Database.open(f"sqlite:///{guarded}")


def test_a_full_disk_is_a_disk_error(tmp_path: Path, migrated_file: Path, new_study: Callable[..., StudyRecord]) -> None:
    shutil.copy(migrated_file, tmp_path / "study.db")
    with Database.open(f"sqlite:///{tmp_path}/study.db") as database:
        study = new_study(database)

        @event.listens_for(database.engine, "begin", insert=True)
        def _no_more_pages(connection: Connection) -> None:
            connection.exec_driver_sql("PRAGMA max_page_count = 1")

        with pytest.raises(DiskError, match="is full"), database.session() as session:
            session.get_one(Study, study.id).settings = {"long": "x" * 500_000}
        assert open_study(database, study.name) == study
