"""`einsearch leaderboard`: the structures of a study, best first."""

from __future__ import annotations

import click

from einsearch import options
from einsearch.output import emit_frame

COLUMNS = ("structure", "multiplier", "loss", "omega", "psi", "nu", "trials", "flops", "seconds", "verdict")


@click.command("leaderboard")
@options.study
@options.database
@options.formats()
def command(study: str, db: str, format_: str) -> None:
    """The structures of STUDY, best first.

    Ordered by the lower end of the 90 % interval of the compute multiplier: how many times its compute a dense model
    needs to reach the same loss, at the study's target compute.
    """
    from search.study import Study

    emit_frame(Study(study, db=db).leaderboard(), format_, COLUMNS)
