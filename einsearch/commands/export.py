"""`einsearch export`: take the winning layer home, or the whole study."""

from __future__ import annotations

from pathlib import Path

import click

from einsearch import options


@click.command("export")
@options.study
@click.option(
    "-o",
    "--output",
    type=click.Path(file_okay=False, path_type=Path),
    default="einsearch-winner",
    show_default=True,
    metavar="FOLDER",
    help="Folder to write into.",
)
@click.option("--structure", help="Export this structure instead of the leader.")
@click.option(
    "--data",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE.parquet",
    help="Write the whole study as Parquet instead, for `einsearch import`.",
)
def command(study: str, db: str, output: Path, structure: str | None, data: Path | None) -> None:
    """Take the best layer of STUDY home, or all its data.

    winner.py defines Winner(d_in, d_out, bias=False), a drop-in for torch.nn.Linear; winner.json says where it comes from;
    winner.pt holds the weights of its best trial, where its checkpoint is on this machine. STUDY can be left out where the
    database holds one study.
    """
    if data is not None:
        _write_data(study, db, data)
        return
    from einsearch.winner import export
    from search.study import Study

    for path in export(Study(study, db=db), output, structure):
        click.echo(str(path))


def _write_data(study: str, db: str, path: Path) -> None:
    from einsearch.writing import whole_file
    from storage.database import Database
    from storage.exchange import export_study

    with Database.open(db) as database, whole_file(path) as file:
        count = export_study(database, study, file)
    click.echo(f"{path}: {count} trials of {study}")
