"""The leaderboard as people see it."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING

import click

from einsearch.output import line_width

if TYPE_CHECKING:
    import pandas as pd

    from search.study import Study

COLUMNS = ("structure", "multiplier", "loss", "omega", "psi", "nu", "trials", "flops", "seconds", "verdict")
"""Columns of the table, the most important ones first."""

NARROW = 100
"""Characters of a line below which the interval of the loss gives way to other columns."""


def standings(study: Study) -> pd.DataFrame:
    """The leaderboard; without rows, and with the reason on stderr, while nothing can be compared.

    Raises:
        StudyError: there is no such study.
    """
    from space.errors import StudyError
    from storage.results import empty_leaderboard

    study.record()
    try:
        return study.leaderboard()
    except StudyError as not_yet:
        click.echo(f"note: {not_yet}", err=True)
        return empty_leaderboard()


def fitted_to_line(board: pd.DataFrame) -> pd.DataFrame:
    """The leaderboard with what a table of this width has room for."""
    return board.drop(columns=["loss_low", "loss_high"]) if line_width() < NARROW else board


def units(study: Study) -> str:
    """What the numbers of the leaderboard are, folded to the line."""
    target = study.record().target_compute
    said = (
        f"multiplier: how many times its compute dense needs for the same loss, with the 90 % interval; loss in nats per token;"
        f" both at {target:.3g} FLOPs. flops and seconds are what its trials spent."
    )
    return folded(said)


def folded(text: str) -> str:
    """Text folded to the line."""
    return textwrap.fill(text, min(line_width(), 120))
