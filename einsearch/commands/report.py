"""`einsearch report`: a study as one HTML file, or as Markdown."""

from __future__ import annotations

from pathlib import Path

import click

from einsearch import options

NAMES = {"html": "einsearch-report.html", "md": "einsearch-report.md"}


@click.command("report")
@options.study
@options.output_file(help_="Where to write; default einsearch-report.html or .md.")
@click.option(
    "--format",
    "format_",
    type=click.Choice(list(NAMES)),
    help="One HTML file, or Markdown; default what FILE's suffix says, else html.",
)
@click.option(
    "--figures/--no-figures", default=True, show_default=True, help="With Markdown: write SVG files into a folder beside it."
)
def command(study: str, db: str, output: Path | None, format_: str | None, figures: bool) -> None:
    """Write the report of STUDY as one HTML file.

    It opens offline, and holds the answer, the leaderboard, the laws, the plots, the caveats and what it takes to reproduce it.
    STUDY can be left out where the database holds one study.
    """
    from einsearch.report import write
    from search.study import Study

    suffix = output.suffix.removeprefix(".").lower() if output is not None else ""
    chosen = format_ or (suffix if suffix in NAMES else "html")
    target = output if output is not None else Path(NAMES[chosen])
    click.echo(f"report: {write(Study(study, db=db), target, markdown=chosen == 'md', figures=figures)}")
