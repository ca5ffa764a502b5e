"""`einsearch import`: studies of other labs."""

from __future__ import annotations

from pathlib import Path

import click

from einsearch import options


@click.command("import")
@click.argument("files", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="FILE.parquet...")
@options.database
@click.option("--as", "name", metavar="NAME", help="Call the study NAME here.")
@click.option("--into", metavar="STUDY", help="Pool the finished trials into STUDY, under new numbers.")
def command(files: tuple[Path, ...], db: str, name: str | None, into: str | None) -> None:
    """Bring in studies that other labs exported.

    FILE.parquet is what `einsearch export STUDY --data FILE.parquet` writes.

    All FILEs are checked and enter the database together, or none does; importing twice changes nothing. A study that is
    here already is completed; where its trials ended otherwise here, that is explained and nothing is imported. The database
    is made, or brought to this version's schema, where needed.
    """
    from einsearch.mirror import mirror
    from storage.database import Database
    from storage.exported import Exported
    from storage.importing import import_files

    if name is not None and (into is not None or len(files) > 1):
        raise click.UsageError("--as names one study: give one FILE with it, and not --into")
    for file in files:
        with Exported(file):  # what is no export is refused before there is a database
            pass
    with Database.open(db, create=True) as database:
        for one in import_files(database, files, name=name, into=into):
            entered = mirror(database, one.study)
            click.echo(
                f"{one.study}: {one.added} new trials, {one.completed} completed, {one.known} here already;"
                f" {entered} entered in Optuna's tables"
            )
