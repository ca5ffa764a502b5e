"""Indexes and totals that questions need, provenance, structures of any number of factors, no negative losses, more views.

SQLite cannot add a constraint to a table, so all tables are made anew, and what they held is copied.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

import sqlalchemy as sa
from alembic import op

from storage.migrations.sql_0002 import VIEWS, functions, triggers
from storage.migrations.versions import r0001_ledger as before
from storage.migrations.versions.r0001_ledger import TABLES, _amount, _check, _column, _index, _reference, _table, _unique

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

MEASURED = "state IN ('completed', 'truncated')"
EDGES = tuple(f"theta_{edge}" for edge in before.EDGES)
NEW = {
    "studies": ["code_commit", "checkpoints"],
    "structures": ["factors", "theta"],
    "drivers": ["versions", "place"],
    "trials": ["origin"],
}
"""Columns that a downgrade drops."""


def upgrade() -> None:
    for view in ("einsearch_point_view", "einsearch_trial_view"):
        op.execute(f"DROP VIEW {view}")
    columns = _set_aside()
    _studies()
    _structures()
    _drivers()
    _trials()
    before._attempts()
    _partial_index(
        "ix_einsearch_attempts_wrong", "attempts", "error IS NOT NULL OR state IN ('failed', 'diverged')", "trial_id"
    )
    _points()
    before._fits()
    _totals()
    for statement in triggers(op.get_bind().dialect.name):
        op.execute(statement)
    _bring_back(columns, {"structures": _whole_theta, "drivers": _no_versions})
    for view in VIEWS.values():
        op.execute(view)


def downgrade() -> None:
    for view in VIEWS:
        op.execute(f"DROP VIEW {view}")
    op.drop_table("einsearch_totals")
    columns = _set_aside()
    if op.get_bind().dialect.name == "postgresql":
        for function in functions():
            op.execute(f"DROP FUNCTION {function}")
    before.upgrade()
    _bring_back({table: [c for c in names if c not in NEW.get(table, [])] for table, names in columns.items()}, {})


def _set_aside() -> dict[str, list[str]]:
    """Copy the tables and drop them; return the columns of each."""
    connection = op.get_bind()
    columns = {t: [c["name"] for c in sa.inspect(connection).get_columns(f"einsearch_{t}")] for t in TABLES}
    for table in TABLES:
        op.execute(f"CREATE TABLE einsearch_old_{table} AS SELECT * FROM einsearch_{table}")
    for table in reversed(TABLES):
        op.drop_table(f"einsearch_{table}")
    return columns


def _bring_back(columns: Mapping[str, list[str]], changes: Mapping[str, Callable[[dict[str, Any]], dict[str, Any]]]) -> None:
    """Copy the columns back, with what `changes` makes of each row, and drop the copies."""
    connection = op.get_bind()
    for table in TABLES:
        names = ", ".join(columns[table])
        if table in changes:
            rows = [
                changes[table](dict(row))
                for row in connection.execute(sa.text(f"SELECT * FROM einsearch_old_{table}")).mappings()
            ]
            if rows:
                given = ", ".join(f":{name}" for name in rows[0])
                connection.execute(sa.text(f"INSERT INTO einsearch_{table} ({', '.join(rows[0])}) VALUES ({given})"), rows)
        else:
            op.execute(f"INSERT INTO einsearch_{table} ({names}) SELECT {names} FROM einsearch_old_{table}")
        op.drop_table(f"einsearch_old_{table}")
        if connection.dialect.name == "postgresql" and "id" in columns[table]:
            op.execute(
                f"SELECT setval(pg_get_serial_sequence('einsearch_{table}', 'id'), COALESCE(MAX(id), 1), MAX(id) IS NOT NULL)"
                f" FROM einsearch_{table}"
            )


def _whole_theta(row: dict[str, Any]) -> dict[str, Any]:
    dense = row["key"] == "dense"
    theta = [1.0, 1.0] if dense else [row[edge] for edge in EDGES]
    return row | {"factors": 1 if dense else 2, "theta": json.dumps(theta)}


def _no_versions(row: dict[str, Any]) -> dict[str, Any]:
    return row | {"versions": "{}"}


def _leaders(by: str) -> tuple[str, ...]:
    return ("study_id", "structure_id", by, "number", "kind", "state", "rung", "width")


def _partial_index(name: str, table: str, condition: str, *columns: str) -> None:
    where = sa.text(condition)
    op.create_index(name, f"einsearch_{table}", list(columns), sqlite_where=where, postgresql_where=where)


def _studies() -> None:
    _table(
        "studies",
        _column("id", sa.Integer),
        _column("name", sa.String(128)),
        _column("settings", sa.Text),
        _column("budget", sa.Integer),
        _column("seed", sa.BigInteger),
        _column("corpus_fingerprint", sa.Text),
        _column("flop_convention", sa.String(32)),
        _column("target_compute", sa.Double),
        _column("versions", sa.Text),
        _column("code_commit", sa.String(64), null=True),
        _column("checkpoints", sa.Text, null=True),
        _column("created", sa.Double),
        _unique("studies", "name"),
        _check("studies", "budget", "budget >= 1"),
        _check("studies", "seed", "seed >= 0"),
        _check("studies", "flop_convention", "flop_convention IN ('train_flops', 'paper_macs')"),
        _check("studies", "target_compute", "target_compute > 0 AND target_compute < 1e300"),
    )


def _structures() -> None:
    known = " AND ".join(f"{edge} IS NOT NULL" for edge in EDGES)
    sums = "ABS(theta_xa + theta_xb + theta_xab - 1) < 1e-6 AND ABS(theta_ya + theta_yb + theta_yab - 1) < 1e-6"
    _table(
        "structures",
        _column("id", sa.Integer),
        _column("key", sa.Text),
        _column("name", sa.Text),
        _column("factors", sa.Integer),
        _column("theta", sa.Text),
        *(_column(edge, sa.Double, null=True) for edge in EDGES),
        *(_column(name, sa.Double) for name in ("omega", "psi", "nu")),
        _unique("structures", "key"),
        _check("structures", "factors", "factors >= 1"),
        *(_check("structures", edge, f"{edge} >= 0 AND {edge} <= 1") for edge in EDGES),
        _check("structures", "simplex", f"factors > 2 OR ({known} AND {sums})"),
        _amount("structures", "omega"),
        _check("structures", "psi", "psi >= 0 AND psi <= 1"),
        _amount("structures", "nu"),
    )


def _drivers() -> None:
    _table(
        "drivers",
        _column("id", sa.Integer),
        _column("study_id", sa.Integer),
        _column("host", sa.Text),
        _column("machine", sa.Text),
        _column("pid", sa.BigInteger),
        _column("process_start", sa.Text),
        _column("state", sa.String(16)),
        _column("joined", sa.Double),
        _column("heartbeat", sa.Double),
        _column("versions", sa.Text),
        _column("place", sa.Text, null=True),
        _reference("drivers", "study_id", "studies"),
        _check("drivers", "state", "state IN ('alive', 'closed', 'dead')"),
    )
    _index("drivers", "study_id", "state")


def _trials() -> None:
    numbers = [("seed", sa.BigInteger), ("attempts", sa.Integer), ("flops", sa.Double), ("tokens", sa.BigInteger)]
    numbers += [("steps", sa.BigInteger), ("seconds", sa.Double), ("created", sa.Double), ("told", sa.Boolean)]
    maybe = [("structure_id", sa.Integer), ("rung", sa.Integer), ("width", sa.Integer), ("config", sa.Text), ("sizes", sa.Text)]
    maybe += [(f"realised_{name}", sa.Double) for name in ("omega", "psi", "nu")] + [("driver_id", sa.Integer)]
    maybe += [("optuna_number", sa.Integer), ("origin", sa.Text), ("loss", sa.Double), ("value", sa.Double), ("error", sa.Text)]
    maybe += [(name, sa.Double) for name in ("started", "updated", "finished")]
    checks = [c for c in before._trial_checks() if c.name != "ck_einsearch_trials_loss_finite"]
    _table(
        "trials",
        *(_column(name, sa.Integer) for name in ("id", "study_id", "number")),
        *(_column(name, sa.String(16)) for name in ("kind", "state")),
        *(_column(name, kind) for name, kind in numbers),
        *(_column(name, kind, null=True) for name, kind in maybe),
        _unique("trials", "study_id", "number"),
        _unique("trials", "study_id", "optuna_number"),
        _unique("trials", "study_id", "origin"),
        _reference("trials", "study_id", "studies"),
        _reference("trials", "structure_id", "structures"),
        _reference("trials", "driver_id", "drivers"),
        *checks,
        _check("trials", "only_measured_has_a_value", f"value IS NULL OR {MEASURED}"),
        _amount("trials", "loss"),
    )
    _index("trials", "study_id", "state", "number")
    _index("trials", "structure_id", "study_id", "number")
    wanted = ["study_id", "number", "structure_id", "kind", "state", "rung", "width"]
    op.create_index("ix_einsearch_trials_filters", "einsearch_trials", wanted)
    _partial_index("ix_einsearch_trials_value", "trials", "value IS NOT NULL", "study_id", "value", "structure_id")
    _partial_index("ix_einsearch_trials_best_value", "trials", "value IS NOT NULL", *_leaders("value"))
    _partial_index("ix_einsearch_trials_best_loss", "trials", MEASURED, *_leaders("loss"))
    _partial_index("ix_einsearch_trials_frontier", "trials", MEASURED, "study_id", "flops", "loss", "structure_id")


def _points() -> None:
    pair = ["einsearch_attempts.trial_id", "einsearch_attempts.attempt"]
    op.create_table(
        "einsearch_points",
        _column("trial_id", sa.Integer),
        _column("step", sa.BigInteger),
        _column("attempt", sa.Integer),
        _column("tokens", sa.BigInteger),
        *(_column(name, sa.Double) for name in ("flops", "loss")),
        _column("train_loss", sa.Double, null=True),
        _column("seconds", sa.Double),
        _column("warmup", sa.Boolean),
        sa.ForeignKeyConstraint(["trial_id", "attempt"], pair, name="fk_einsearch_points_attempt"),
        _check("points", "counts", "step >= 0 AND tokens >= 0"),
        *(_amount("points", name) for name in ("flops", "seconds", "loss", "train_loss")),
        sa.PrimaryKeyConstraint("trial_id", "step", name="pk_einsearch_points"),
        sqlite_with_rowid=False,
    )


def _totals() -> None:
    op.create_table(
        "einsearch_totals",
        _column("study_id", sa.Integer),
        _column("structure_id", sa.Integer),
        *(_column(name, sa.String(16)) for name in ("kind", "state")),
        _column("trials", sa.Integer),
        *(_column(name, sa.Double) for name in ("flops", "seconds")),
        _reference("totals", "study_id", "studies"),
        _check("totals", "trials", "trials > 0"),
        sa.PrimaryKeyConstraint("study_id", "structure_id", "kind", "state", name="pk_einsearch_totals"),
        sqlite_with_rowid=False,
    )
