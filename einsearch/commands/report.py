"""`einsearch report`: a study as one HTML file."""

from __future__ import annotations

from pathlib import Path

import click

from einsearch import options


@click.command("report")
@options.study
@options.database
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    default="einsearch-report.html",
    show_default=True,
    metavar="FILE",
    help="Where to write.",
)
def command(study: str, db: str, output: Path) -> None:
    """Write STUDY's report: one HTML file that opens offline, with the answer, the leaderboard, the laws and the plots."""
    from einsearch.report import write
    from search.study import Study

    click.echo(f"report: {write(Study(study, db=db), output)}")
