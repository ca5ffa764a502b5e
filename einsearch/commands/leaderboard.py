"""`einsearch leaderboard`: the structures of a study, best first."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from einsearch import options
from einsearch.output import emit_frame
from einsearch.standings import COLUMNS, fitted_to_line, folded, standings, units

if TYPE_CHECKING:
    from search.study import Study


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
        click.echo(f"\n{units(asked)}{sizes(asked)}")


def sizes(study: Study) -> str:
    """What the law L(N, D) of the dense runs says about their best size, on a line of its own; nothing without enough sizes."""
    from storage.database import Database
    from storage.laws.surface import NOT_ENOUGH
    from storage.results import surface

    with Database.open(study.db) as database:
        law = surface(database, study.record())
    if law.verdict == NOT_ENOUGH:
        return ""
    best = "" if law.best_params != law.best_params else f"best at {law.best_params:.3g} MACs a token, loss {law.loss:.3f}; "
    return "\n" + folded(f"dense size, by L(N, D): {best}{law.verdict}.")
