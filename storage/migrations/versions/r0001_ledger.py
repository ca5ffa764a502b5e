"""The ledger: studies, structures, drivers, trials, attempts, points, fits, and two views for free SQL."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

TABLES = ("studies", "structures", "drivers", "trials", "attempts", "points", "fits")
EDGES = ("xa", "xb", "xab", "ya", "yb", "yab", "ab")


def _column(name: str, kind: Any, null: bool = False) -> sa.Column[Any]:
    return sa.Column(name, kind, nullable=null)


def _table(name: str, *parts: sa.schema.SchemaItem, key: tuple[str, ...] = ("id",)) -> None:
    op.create_table(f"einsearch_{name}", *parts, sa.PrimaryKeyConstraint(*key, name=op.f(f"pk_einsearch_{name}")))


def _check(table: str, name: str, condition: str) -> sa.CheckConstraint:
    return sa.CheckConstraint(condition, name=op.f(f"ck_einsearch_{table}_{name}"))


def _amount(table: str, column: str) -> sa.CheckConstraint:
    return _check(table, f"{column}_amount", f"{column} >= 0 AND {column} < 1e300")


def _finite(table: str, column: str) -> sa.CheckConstraint:
    return _check(table, f"{column}_finite", f"{column} > -1e300 AND {column} < 1e300")


def _unique(table: str, *columns: str) -> sa.UniqueConstraint:
    return sa.UniqueConstraint(*columns, name=op.f(f"uq_einsearch_{table}_{'_'.join(columns)}"))


def _reference(table: str, column: str, target: str) -> sa.ForeignKeyConstraint:
    name = op.f(f"fk_einsearch_{table}_{column}")
    return sa.ForeignKeyConstraint([column], [f"einsearch_{target}.id"], name=name)


def _index(table: str, *columns: str) -> None:
    op.create_index(op.f(f"ix_einsearch_{table}_{'_'.join(columns)}"), f"einsearch_{table}", list(columns))


def upgrade() -> None:
    _studies()
    _structures()
    _drivers()
    _trials()
    _attempts()
    _points()
    _fits()
    op.execute(TRIAL_VIEW)
    op.execute(POINT_VIEW)


def downgrade() -> None:
    op.execute("DROP VIEW einsearch_point_view")
    op.execute("DROP VIEW einsearch_trial_view")
    for table in reversed(TABLES):
        op.drop_table(f"einsearch_{table}")


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
        _column("created", sa.Double),
        _unique("studies", "name"),
        _check("studies", "budget", "budget >= 1"),
        _amount("studies", "target_compute"),
    )


def _structures() -> None:
    _table(
        "structures",
        _column("id", sa.Integer),
        _column("key", sa.Text),
        _column("name", sa.Text),
        *(_column(f"theta_{edge}", sa.Double) for edge in EDGES),
        _column("omega", sa.Double),
        _column("psi", sa.Double),
        _column("nu", sa.Double),
        _unique("structures", "key"),
        *(_check("structures", f"theta_{edge}", f"theta_{edge} >= 0 AND theta_{edge} <= 1") for edge in EDGES),
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
        _reference("drivers", "study_id", "studies"),
        _check("drivers", "state", "state IN ('alive', 'closed', 'dead')"),
    )
    _index("drivers", "study_id", "state")


def _trials() -> None:
    _table(
        "trials",
        _column("id", sa.Integer),
        _column("study_id", sa.Integer),
        _column("number", sa.Integer),
        _column("kind", sa.String(16)),
        _column("state", sa.String(16)),
        _column("structure_id", sa.Integer, null=True),
        _column("rung", sa.Integer, null=True),
        _column("width", sa.Integer, null=True),
        _column("config", sa.Text, null=True),
        _column("sizes", sa.Text, null=True),
        _column("realised_omega", sa.Double, null=True),
        _column("realised_psi", sa.Double, null=True),
        _column("realised_nu", sa.Double, null=True),
        _column("seed", sa.BigInteger),
        _column("driver_id", sa.Integer, null=True),
        _column("attempts", sa.Integer),
        _column("optuna_number", sa.Integer, null=True),
        _column("told", sa.Boolean),
        _column("loss", sa.Double, null=True),
        _column("value", sa.Double, null=True),
        _column("flops", sa.Double),
        _column("tokens", sa.BigInteger),
        _column("steps", sa.BigInteger),
        _column("seconds", sa.Double),
        _column("error", sa.Text, null=True),
        _column("created", sa.Double),
        _column("started", sa.Double, null=True),
        _column("updated", sa.Double, null=True),
        _column("finished", sa.Double, null=True),
        _unique("trials", "study_id", "number"),
        _unique("trials", "study_id", "optuna_number"),
        _reference("trials", "study_id", "studies"),
        _reference("trials", "structure_id", "structures"),
        _reference("trials", "driver_id", "drivers"),
        *_trial_checks(),
    )
    _index("trials", "study_id", "state", "number")
    _index("trials", "structure_id")


def _trial_checks() -> list[sa.CheckConstraint]:
    whole = " AND ".join(f"(structure_id IS NULL) = ({c} IS NULL)" for c in ("rung", "width", "config", "sizes"))
    conditions = {
        "kind": "kind IN ('baseline', 'known', 'proposal', 'random')",
        "state": "state IN ('queued', 'running', 'completed', 'truncated', 'diverged', 'failed')",
        "queued_is_free": "state <> 'queued' OR driver_id IS NULL",
        "running_is_held": "state <> 'running' OR (driver_id IS NOT NULL AND attempts >= 1)",
        "finished_has_an_end": "(state IN ('queued', 'running')) = (finished IS NULL)",
        "measured": "state NOT IN ('completed', 'truncated') OR (loss IS NOT NULL AND flops > 0)",
        "failed_has_a_reason": "state <> 'failed' OR error IS NOT NULL",
        "proposed_as_a_whole": whole,
        "only_reservations_are_blank": "structure_id IS NOT NULL"
        " OR (kind = 'proposal' AND state IN ('queued', 'running', 'failed'))",
        "told_when_finished": "NOT told OR finished IS NOT NULL",
        "counts": "number >= 0 AND attempts >= 0 AND tokens >= 0 AND steps >= 0 AND rung >= 0 AND width >= 1"
        " AND optuna_number >= 0",
    }
    ranges = [
        _amount("trials", "flops"),
        _amount("trials", "seconds"),
        _finite("trials", "loss"),
        _finite("trials", "value"),
    ]
    return [_check("trials", name, condition) for name, condition in conditions.items()] + ranges


def _attempts() -> None:
    _table(
        "attempts",
        _column("trial_id", sa.Integer),
        _column("attempt", sa.Integer),
        _column("driver_id", sa.Integer),
        _column("state", sa.String(16)),
        _column("start_flops", sa.Double, null=True),
        _column("start_seconds", sa.Double, null=True),
        _column("flops", sa.Double),
        _column("seconds", sa.Double),
        _column("started", sa.Double),
        _column("ended", sa.Double, null=True),
        _column("error", sa.Text, null=True),
        _reference("attempts", "trial_id", "trials"),
        _reference("attempts", "driver_id", "drivers"),
        _check(
            "attempts",
            "state",
            "state IN ('running', 'completed', 'truncated', 'diverged', 'failed', 'preempted')",
        ),
        _check("attempts", "running_has_no_end", "(state = 'running') = (ended IS NULL)"),
        _check("attempts", "attempt", "attempt >= 1"),
        *(_amount("attempts", column) for column in ("start_flops", "start_seconds", "flops", "seconds")),
        key=("trial_id", "attempt"),
    )
    running = sa.text("state = 'running'")
    op.create_index(
        "uq_einsearch_attempts_running",
        "einsearch_attempts",
        ["trial_id"],
        unique=True,
        sqlite_where=running,
        postgresql_where=running,
    )


def _points() -> None:
    _table(
        "points",
        _column("trial_id", sa.Integer),
        _column("step", sa.BigInteger),
        _column("attempt", sa.Integer),
        _column("tokens", sa.BigInteger),
        _column("flops", sa.Double),
        _column("loss", sa.Double),
        _column("train_loss", sa.Double, null=True),
        _column("seconds", sa.Double),
        _column("warmup", sa.Boolean),
        sa.ForeignKeyConstraint(
            ["trial_id", "attempt"],
            ["einsearch_attempts.trial_id", "einsearch_attempts.attempt"],
            name="fk_einsearch_points_attempt",
        ),
        _check("points", "counts", "step >= 0 AND tokens >= 0"),
        _amount("points", "flops"),
        _amount("points", "seconds"),
        _finite("points", "loss"),
        _finite("points", "train_loss"),
        key=("trial_id", "step"),
    )


def _fits() -> None:
    _table(
        "fits",
        _column("id", sa.Integer),
        _column("study_id", sa.Integer),
        _column("kind", sa.String(64)),
        _column("settings_hash", sa.String(64)),
        _column("payload", sa.Text),
        _column("created", sa.Double),
        _unique("fits", "study_id", "kind", "settings_hash"),
        _reference("fits", "study_id", "studies"),
    )


TRIAL_VIEW = """
CREATE VIEW einsearch_trial_view AS
SELECT s.name AS study, t.number, t.kind, r.name AS structure, r.key,
       r.theta_xa, r.theta_xb, r.theta_xab, r.theta_ya, r.theta_yb, r.theta_yab, r.theta_ab,
       r.omega, r.psi, r.nu, t.realised_omega, t.realised_psi, t.realised_nu, t.sizes,
       t.rung, t.width, t.state, t.attempts, t.steps, t.tokens, t.flops, t.loss, t.seconds, t.value,
       t.optuna_number, t.config, t.error, t.created, t.started, t.finished
FROM einsearch_trials t
JOIN einsearch_studies s ON s.id = t.study_id
LEFT JOIN einsearch_structures r ON r.id = t.structure_id
"""

POINT_VIEW = """
CREATE VIEW einsearch_point_view AS
SELECT s.name AS study, t.number, r.name AS structure, r.key, t.kind, t.rung, t.width, t.state,
       p.step, p.tokens, p.flops, p.loss, p.train_loss, p.seconds, p.warmup, p.attempt
FROM einsearch_points p
JOIN einsearch_trials t ON t.id = p.trial_id
JOIN einsearch_studies s ON s.id = t.study_id
LEFT JOIN einsearch_structures r ON r.id = t.structure_id
"""
