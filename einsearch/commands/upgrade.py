"""`einsearch upgrade`: an older database, for this version."""

from __future__ import annotations

import click

from einsearch import options


@click.command("upgrade")
@options.database
def command(db: str) -> None:
    """Bring an older database to this version's schema.

    Everything in it stays, and so do Optuna's tables. It happens as a whole or not at all.
    """
    from storage.database import Database
    from storage.schema import REVISION
    from storage.urls import locate

    file = locate(db).path
    with Database.open(db, create=file is None or file.exists()) as database:
        click.echo(f"{database.url_shown}: schema {REVISION}")
