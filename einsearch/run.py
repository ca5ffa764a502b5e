"""Running a study for a person: the live view, then the answer and the report."""

from __future__ import annotations

import os
import shlex
import signal
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from einsearch.output import line_width
from einsearch.standings import COLUMNS, fitted_to_line, standings
from search import DEFAULT_DB
from space.errors import RunError

if TYPE_CHECKING:
    from search.driver import Driver
    from search.study import Study


class Stopped(RunError):
    """Ctrl-C was pressed."""


def run(study: Study, *, create: bool, concurrency: int | None, report_: Path, quiet: bool) -> None:
    """Run or resume a study under a live view, then print the leaderboard and the laws, and write the report.

    Raises:
        EinsearchError: as `Study.run`.
    """
    if create:
        rehearse(study)
    try:
        with study.driver(create=create) as driver:
            spend(study, driver, concurrency, quiet)
    except (KeyboardInterrupt, Stopped):
        click.echo(f"stopped; nothing recorded is lost. Go on with:\n  {resume_command(study)}", err=True)
        raise click.exceptions.Exit(130) from None
    answer(study, report_)


def spend(study: Study, driver: Driver, concurrency: int | None, quiet: bool) -> None:
    """Run what is left of the budget."""
    from einsearch.live import watching
    from storage.status import status

    now = status(driver.database, study.name)
    place = driver.database.location.path or now.url_shown
    if not quiet:
        click.echo(f"study {study.name!r} in {place}: {now.done} of {now.budget} trials done", err=True)
    if now.done < now.budget:
        with stopping(driver), watching(driver, driver.database, study.name, quiet):
            study.execute(driver, concurrency)
    elif not quiet:
        click.echo(f"nothing is left to run; for more: {resume_command(study)} --trials +10", err=True)


@contextmanager
def stopping(driver: Driver) -> Iterator[None]:
    """Let Ctrl-C stop the driver between two of its steps, never in the middle of a transaction; a second one stops at once."""

    def stop(*_: Any) -> None:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        driver.fault = driver.fault or Stopped("stopped from the keyboard")
        click.echo("stopping; press Ctrl-C again to stop at once", err=True)

    before = signal.signal(signal.SIGINT, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def rehearse(study: Study) -> None:
    """Create a study in a scratch database first, so that a mistake leaves no file behind where the real one is to be.

    Raises:
        UserError: what is wrong with the study.
    """
    from search.study import Study as Rehearsal
    from storage.urls import locate

    path = locate(study.db).path
    if path is None or path.exists() or not path.parent.is_dir():
        return
    with tempfile.TemporaryDirectory(prefix="einsearch-") as scratch:
        url = f"sqlite:///{scratch}/rehearsal.db"
        with Rehearsal(study.name, db=url, trials=study.trials, settings=study.settings).driver(create=True):
            pass


def resume_command(study: Study) -> str:
    """What to type to go on with a study; a password is left out."""
    from storage.urls import locate

    known = study.db in (DEFAULT_DB, os.environ.get("EINSEARCH_DB"))
    return shlex.join(["einsearch", "resume", study.name, *([] if known else ["--db", locate(study.db).shown])])


def answer(study: Study, report_: Path) -> None:
    """The end of a run: leaderboard, laws, report."""
    from dashboards.laws import laws_text
    from dashboards.tables import table
    from einsearch.report import write

    board = standings(study)
    if not board.empty:
        click.echo(f"\nLeaderboard of {study.name!r}: compute multiplier against dense, 90 % interval\n")
        click.echo(table(fitted_to_line(board), COLUMNS, width=line_width()))
        click.echo(f"\n{laws_text(study.laws(), study.forecast(), width=line_width())}\n")
    click.echo(f"report: {write(study, report_)}")
