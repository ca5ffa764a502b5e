"""`einsearch leaderboard`: the structures of a study, best first."""

from __future__ import annotations

import click

from einsearch import options
from einsearch.output import emit_frame
from einsearch.standings import COLUMNS, fitted_to_line, standings, units


@click.command("leaderboard")
@options.study
@options.formats()
def command(study: str, db: str, format_: str) -> None:
    """The structures of STUDY, best first.

    Ordered by the lower end of the 90 % interval of the compute multiplier: how many times its compute a dense model
    needs to reach the same loss, at the study's target compute. STUDY can be left out where the database holds one study.
    """
    from search.study import Study

    asked = Study(study, db=db)
    board = standings(asked)
    emit_frame(fitted_to_line(board) if format_ == "table" else board, format_, COLUMNS, below="verdict")
    if format_ == "table" and not board.empty:
        click.echo(f"\n{units(asked)}")
