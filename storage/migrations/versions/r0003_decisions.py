"""Decisions whether a run may go on, with their evidence."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from storage.migrations.versions.r0001_ledger import _amount, _check, _column, _reference

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "einsearch_decisions",
        _column("trial_id", sa.Integer),
        _column("step", sa.BigInteger),
        *(_column(name, sa.Double) for name in ("flops", "loss", "budget", "bound", "frontier")),
        _column("stopped", sa.Boolean),
        _column("decided", sa.Double),
        _reference("decisions", "trial_id", "trials"),
        _check("decisions", "stopped_above_the_frontier", "stopped = (bound > frontier)"),
        _check("decisions", "counts", "step >= 0 AND flops <= budget"),
        *(_amount("decisions", column) for column in ("flops", "loss", "budget", "bound", "frontier")),
        sa.PrimaryKeyConstraint("trial_id", "step", name=op.f("pk_einsearch_decisions")),
        sqlite_with_rowid=False,
    )
    op.create_index(
        "uq_einsearch_decisions_stopped",
        "einsearch_decisions",
        ["trial_id"],
        unique=True,
        sqlite_where=sa.text("stopped"),
        postgresql_where=sa.text("stopped"),
    )


def downgrade() -> None:
    op.drop_table("einsearch_decisions")
