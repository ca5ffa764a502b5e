"""Alembic's entry: runs the revisions in the transaction that `storage.upgrade` hands over."""

from __future__ import annotations

from alembic import context

from storage.schema import VERSION_TABLE, Base
from storage.upgrade import is_ours


def run() -> None:
    """Run the revisions that Alembic asks for."""
    context.configure(
        connection=context.config.attributes["connection"],
        target_metadata=Base.metadata,
        version_table=VERSION_TABLE,
        include_object=is_ours,
    )
    with context.begin_transaction():
        context.run_migrations()


if hasattr(context, "config"):  # Alembic runs this file; whoever else imports it migrates nothing
    run()
