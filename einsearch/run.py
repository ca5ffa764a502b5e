"""Running a study for a person: the live view, then the answer and the report."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from einsearch.commands.leaderboard import COLUMNS

if TYPE_CHECKING:
    from search.study import Study


def run(study: Study, *, create: bool, concurrency: int | None, report_: str | None, quiet: bool) -> None:
    """Run or resume a study under a live view, then print the leaderboard and the laws, and write the report.

    Raises:
        EinsearchError: as `Study.run`.
    """
    from einsearch.live import watching

    with study.driver(create=create) as driver:
        database = driver.database
        click.echo(f"study {study.name!r} in {database.url_shown}", err=True)
        with watching(driver, database, study.name, quiet):
            study.execute(driver, concurrency)
    answer(study, report_)


def answer(study: Study, report_: str | None) -> None:
    """The end of a run: leaderboard, laws, report."""
    from dashboards.laws import laws_text
    from dashboards.tables import table
    from einsearch.report import write

    click.echo(f"\nLeaderboard of {study.name!r}: compute multiplier against dense, 90 % interval\n")
    click.echo(table(study.leaderboard(), COLUMNS))
    click.echo(f"\n{laws_text(study.laws())}\n")
    path = write(study, Path(report_ or "einsearch-report.html"))
    click.echo(f"report: {path}")
