"""`einsearch report`: a study as one HTML file."""

from __future__ import annotations

from pathlib import Path

import click

from einsearch import options


@click.command("report")
@options.study
@options.output_file("einsearch-report.html")
def command(study: str, db: str, output: Path) -> None:
    """Write the report of STUDY as one HTML file.

    It opens offline, and holds the answer, the leaderboard, the laws and the plots. STUDY can be left out where the database
    holds one study.
    """
    from einsearch.report import write
    from search.study import Study

    click.echo(f"report: {write(Study(study, db=db), output)}")
