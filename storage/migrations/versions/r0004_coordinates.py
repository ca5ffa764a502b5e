"""Coordinate checks: how far the activations of a trial moved in its first steps."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from storage.migrations.versions.r0001_ledger import _amount, _check, _column, _reference

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

_KINDS = ("qkv", "out", "up", "down", "head")


def upgrade() -> None:
    op.create_table(
        "einsearch_coordinates",
        _column("trial_id", sa.Integer),
        _column("step", sa.BigInteger),
        *(_column(kind, sa.Double) for kind in _KINDS),
        _reference("coordinates", "trial_id", "trials"),
        _check("coordinates", "counts", "step >= 1"),
        *(_amount("coordinates", kind) for kind in _KINDS),
        sa.PrimaryKeyConstraint("trial_id", "step", name=op.f("pk_einsearch_coordinates")),
        sqlite_with_rowid=False,
    )


def downgrade() -> None:
    op.drop_table("einsearch_coordinates")
