"""`einsearch resume`: go on with a study, from any machine that reaches its database."""

from __future__ import annotations

import dataclasses
from typing import Any

import click

from einsearch import options


class Budget(click.ParamType[tuple[bool, int]]):
    """`60`, or `+20` for more than there are."""

    name = "N|+N"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[bool, int]:
        """Whether the number is to be added, and the number."""
        text = str(value)
        if not text.lstrip("+").isdigit():
            self.fail(f"{value!r} is not a number of trials; write 60, or +20 to extend", param, ctx)
        return text.startswith("+"), int(text)


@click.command("resume")
@options.study
@click.option("--trials", type=Budget(), help="A larger budget: 60 trials in all, or +20 for as many more.")
@click.option("--target-compute", type=options.Flops(), metavar="FLOPS", help="Compare and aim at this compute from now on.")
@click.option(
    "--early-stopping/--no-early-stopping",
    default=None,
    help="End runs that cannot reach the dense frontier at their own budget, or do so no more.",
)
@options.running
def command(
    study: str,
    db: str,
    trials: tuple[bool, int] | None,
    target_compute: float | None,
    early_stopping: bool | None,
    **given: Any,
) -> None:
    """Go on with STUDY after a stop, or with a larger budget.

    Nothing that finished is trained again; what was cut off goes on from its last checkpoint. STUDY can be left out where
    the database holds one study.
    """
    from einsearch.run import Running, run
    from search.settings import StudySettings
    from search.study import Study
    from storage.database import Database
    from storage.studies import open_study

    budget = None
    if trials is not None:
        more, number = trials
        with Database.open(db) as database:
            budget = open_study(database, study).budget * more + number
    settings = None
    if early_stopping is not None:
        recorded = StudySettings.from_dict(Study(study, db=db).record().settings)
        settings = dataclasses.replace(recorded, early_stopping=early_stopping)
    running = Running.taken_from(given)
    checkpoints = running.checkpoints
    wanted = Study(study, db=db, trials=budget, settings=settings, target_compute=target_compute, checkpoints=checkpoints)
    run(wanted, running, create=False)
