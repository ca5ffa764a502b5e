"""A password in the URL of a database goes nowhere else."""

from __future__ import annotations

from typing import Any

from sqlalchemy import create_engine, inspect, make_url, text

SECRET = "hunter2"


def test_a_password_is_in_no_traceback_and_no_table(server: Any, drivers: Any, check: Any) -> None:
    db = make_url(server.new()).set(password=SECRET).render_as_string(hide_password=False)
    assert SECRET in db
    assert drivers.run(db, lost=0.1, seed=1) == 0, drivers.log
    check(db)
    assert SECRET not in drivers.log
    engine = create_engine(db)
    with engine.connect() as connection:
        for table in inspect(connection).get_table_names():
            rows = connection.scalars(text(f"SELECT CAST(t AS text) FROM {table} t")).all()
            assert not any(SECRET in row for row in rows), table
    engine.dispose()

    away = make_url(db).set(database="nowhere").render_as_string(hide_password=False)
    assert drivers.run(away) == 1
    assert 'database "nowhere" does not exist' in drivers.log and SECRET not in drivers.log
