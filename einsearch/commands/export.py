"""`einsearch export`: take the winning layer home."""

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
def command(study: str, db: str, output: Path, structure: str | None) -> None:
    """Write the best structure of STUDY as a PyTorch module.

    winner.py defines Winner(d_in, d_out, bias=False), a drop-in for torch.nn.Linear; winner.json says where it comes from;
    winner.pt holds the weights of its best trial, where its checkpoint is on this machine. STUDY can be left out where the
    database holds one study.
    """
    from einsearch.winner import export
    from search.study import Study

    for path in export(Study(study, db=db), output, structure):
        click.echo(str(path))
