"""Free SQL reads, and can do nothing else."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from sqlalchemy import inspect, text

from space.errors import DatabaseError, UserError
from storage.database import Database
from storage.free_sql import VIEWS, sql, sql_pieces
from storage.studies import open_study

FOREVER = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT count(*) FROM n"


def test_it_answers_over_the_documented_views(standing: Database) -> None:
    frame = sql(standing, "SELECT number, structure, theta_XA, width FROM einsearch_trial_view ORDER BY number")
    assert [list(row) for row in frame.itertuples(index=False)] == [
        [0, "dense", 1.0, 64],
        [1, "monarch", 0.5, 256],
    ]
    assert sql(standing, "SELECT count(*) AS points FROM einsearch_point_view")["points"].tolist() == [0]
    assert sql(standing, "SELECT number, loss FROM einsearch_point_view").columns.tolist() == [
        "number",
        "loss",
    ]


def test_the_views_have_the_same_columns_on_every_backend(standing: Database) -> None:
    trials = sql(standing, "SELECT * FROM einsearch_trial_view").columns.tolist()
    assert " ".join(trials) == (
        "study number kind structure key factors theta theta_xa theta_xb theta_xab theta_ya theta_yb "
        "theta_yab theta_ab omega psi nu realised_omega realised_psi realised_nu sizes rung width state "
        "attempts steps tokens flops loss seconds value optuna_number origin seed config error created "
        "started finished"
    )
    points = sql(standing, "SELECT * FROM einsearch_point_view").columns.tolist()
    assert " ".join(points) == (
        "study number structure key kind rung width state step tokens flops loss train_loss seconds warmup attempt"
    )
    with standing.engine.begin() as connection:
        assert [c["name"] for c in inspect(connection).get_columns("einsearch_trial_view")] == trials


@pytest.mark.parametrize(
    "statement",
    [
        "SELECT 1 AS one",
        "  select 1 as one;",
        "-- a comment\n/* and; another */ SELECT 1 AS one",
        "WITH a AS (SELECT 1 AS one) SELECT * FROM a",
        "VALUES (1)",
        "SELECT 1 AS one -- 100% sure; :name %s",
    ],
)
def test_every_form_of_a_question_is_taken(standing: Database, statement: str) -> None:
    assert sql(standing, statement).iloc[:, 0].tolist() == [1]


@pytest.mark.parametrize(
    "statement",
    [
        "",
        "DELETE FROM einsearch_trials",
        "UPDATE einsearch_studies SET budget = 99",
        "INSERT INTO einsearch_studies (name) VALUES ('x')",
        "DROP VIEW einsearch_trial_view",
        "CREATE TABLE mine (id INTEGER)",
        "PRAGMA query_only = OFF",
        "ATTACH DATABASE 'other.db' AS other",
        "VACUUM INTO 'copy.db'",
        "COPY (SELECT 1) TO PROGRAM 'touch owned'",
        "DO $$ BEGIN DELETE FROM einsearch_trials; END $$",
        "SET TRANSACTION READ WRITE",
        "SELECT 1; DELETE FROM einsearch_trials",
        "SELECT 1; COMMIT; DELETE FROM einsearch_trials",
        "WITH gone AS (DELETE FROM einsearch_trials RETURNING id) SELECT * FROM gone",
        "WITH a AS (SELECT 1) DELETE FROM einsearch_trials",
        "SELECT * INTO mine FROM einsearch_trials",
        "SELECT load_extension('evil')",
        "SELECT pg_advisory_lock('nonsense')",
        "SELEC 1",
        "SELECT nothing FROM nowhere",
    ],
)
def test_everything_else_is_refused_and_changes_nothing(standing: Database, statement: str) -> None:
    before = open_study(standing, "first")
    with pytest.raises(UserError) as caught:
        sql(standing, statement)
    assert not isinstance(caught.value, DatabaseError)
    assert open_study(standing, "first") == before
    with standing.reading() as session:
        assert session.scalar(text("SELECT count(*) FROM einsearch_trials")) == 2
    assert "mine" not in inspect(standing.engine).get_table_names()


def test_a_question_that_takes_too_long_is_stopped(standing: Database) -> None:
    with pytest.raises(UserError, match=r"took longer than 0.05 seconds; ask for less"):
        sql(standing, FOREVER, seconds=0.05)


@pytest.mark.parametrize(
    "statement",
    [
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity",
        'SELECT "pg_cancel_backend" (1)',
        "SELECT set_config('statement_timeout', '0', true)",
        "SELECT PG_TRY_ADVISORY_LOCK(1)",
    ],
)
def test_functions_that_act_on_the_server_are_refused(standing: Database, statement: str) -> None:
    with pytest.raises(UserError, match="acts on the server; only reading is allowed here"):
        sql(standing, statement)


@pytest.mark.parametrize("seconds", [0.0, -1.0, 1e-4, float("nan"), float("inf"), 1e9])
def test_a_time_limit_that_is_none_is_refused(standing: Database, seconds: float) -> None:
    with pytest.raises(UserError, match=r"time limit of .* seconds: give one from 0.001 to 86400"):
        sql(standing, FOREVER, seconds=seconds)


def test_an_answer_that_is_too_long_is_refused(standing: Database) -> None:
    many = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 11) SELECT i FROM n"
    assert len(sql(standing, many, most_rows=11)) == 11
    with pytest.raises(UserError, match="more than 10 rows; add a LIMIT"):
        sql(standing, many, most_rows=10)


def test_a_name_that_is_given_twice_is_numbered(standing: Database) -> None:
    frame = sql(standing, "SELECT 1 AS a, 2 AS a, 3 AS a_2, 4 AS a")
    assert frame.to_dict("records") == [{"a": 1, "a_2": 2, "a_2_2": 3, "a_3": 4}]


def test_a_long_answer_comes_in_pieces_under_the_same_limits(standing: Database) -> None:
    many = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 25) SELECT i, NULL AS x FROM n"
    pieces = list(sql_pieces(standing, many, size=10))
    assert [len(piece) for piece in pieces] == [10, 10, 5]
    assert [value for piece in pieces for value in piece["i"]] == list(range(1, 26))
    with pytest.raises(UserError, match="more than 15 rows"):
        list(sql_pieces(standing, many, size=10, most_rows=15))
    with pytest.raises(UserError, match="took longer than"):
        list(sql_pieces(standing, FOREVER, seconds=0.05))
    (empty,) = sql_pieces(standing, "SELECT number FROM einsearch_trial_view WHERE number > 99")
    assert list(empty.columns) == ["number"] and len(empty) == 0


@pytest.mark.parametrize("view", VIEWS)
def test_every_view_is_there(standing: Database, view: str) -> None:
    assert "study" in sql(standing, f"SELECT * FROM {view} LIMIT 1").columns


def test_a_question_leaves_nothing_behind_in_the_session(standing: Database) -> None:
    if standing.dialect == "postgresql":
        lock, setting = 'U&"pg\\005fadvisory\\005flock"', 'U&"set\\005fconfig"'  # names that no look at the text sees through
        sql(standing, f"SELECT {setting}('statement_timeout', '1', false), {lock}(42)::text")
        with standing.reading() as session:
            assert session.scalar(text("SHOW statement_timeout")) == "0"
        while _advisory_locks(standing):
            pass
    else:
        with pytest.raises(UserError, match="not authorized"):
            sql(standing, "SELECT * FROM pragma_table_info('einsearch_trials') WHERE load_extension('x')")
    with standing.session() as session:
        assert standing.now(session) > 0


def _advisory_locks(database: Database) -> int:
    with database.reading() as session:
        locks = "SELECT count(*) FROM pg_locks l JOIN pg_database d ON d.oid = l.database"
        mine = f"{locks} WHERE locktype = 'advisory' AND datname = current_database()"
        return int(session.scalar(text(mine)) or 0)


def test_a_server_that_is_lost_in_mid_answer_is_a_database_error(
    migrated: Callable[[str], str], caplog: pytest.LogCaptureFixture
) -> None:
    many = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 25) SELECT i FROM n"
    with Database.open(migrated("postgresql")) as database:
        pieces = sql_pieces(database, many, size=10)
        assert len(next(pieces)) == 10
        with database.session() as session:
            reader = "datname = current_database() AND query LIKE 'FETCH%'"
            ended = session.scalars(text(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE {reader}")).all()
        assert ended == [True]
        with pytest.raises(DatabaseError, match="terminating connection"):
            list(pieces)
    assert not caplog.records  # nothing is printed beside the error


def test_a_database_that_is_gone_is_a_database_error(tmp_path: Path) -> None:
    path = tmp_path / "study.db"
    with Database.open(f"sqlite:///{path}", create=True) as database:
        database.engine.dispose()
        path.unlink()
        with pytest.raises(DatabaseError, match="cannot be opened"):
            sql(database, "SELECT 1")
