"""Running a study for a person: the live view, then the answer and the report."""

from __future__ import annotations

import dataclasses
import os
import shlex
import signal
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

import click

from einsearch.output import line_width
from einsearch.standings import COLUMNS, fitted_to_line, standings
from search import DEFAULT_DB
from space.errors import RunError

if TYPE_CHECKING:
    from search.driver import Driver
    from search.session import Session
    from search.study import Study


class Stopped(RunError):
    """A person, or the system, asked for an end."""


@dataclass(frozen=True, slots=True)
class Running:
    """How trials run: what `einsearch.options.running` asks."""

    concurrency: int | None
    address: str
    resources: Mapping[str, float]
    checkpoints: str | None
    report_: Path
    quiet: bool

    @classmethod
    def taken_from(cls, given: dict[str, Any]) -> Running:
        """The options among others of a command; they are taken out."""
        return cls(**{field.name: given.pop(field.name) for field in dataclasses.fields(cls)})


def run(study: Study, running: Running, *, create: bool) -> None:
    """Run or resume a study under a live view, then print the leaderboard and the laws, and write the report.

    Raises:
        EinsearchError: as `Study.run`.
    """
    from search.cluster import Cluster

    stop = Stop()
    try:
        cluster = Cluster(running.address, running.resources)
        with stop, study.session(create=create, concurrency=running.concurrency, cluster=cluster) as session:
            spend(study, session, running, stop)
    except (KeyboardInterrupt, Stopped):
        click.echo(f"stopped; nothing recorded is lost. Go on with:\n  {resume_command(study)}", err=True)
        raise click.exceptions.Exit(128 + stop.signal) from None
    answer(study, running.report_)


def spend(study: Study, session: Session, running: Running, stop: Stop) -> None:
    """Run what is left of the budget."""
    from einsearch.live import watching
    from storage.status import status

    driver = session.driver
    now = status(driver.database, study.name)
    place = driver.database.location.path or now.url_shown
    if not running.quiet:
        click.echo(f"study {study.name!r} in {place}: {now.done} of {now.budget} trials done", err=True)
    if now.done < now.budget:
        with stop.of(driver), watching(driver, driver.database, study.name, running.quiet):
            session.execute()
    elif not running.quiet:
        click.echo(f"nothing is left to run; for more: {resume_command(study)} --trials +10", err=True)


class Stop:
    """What Ctrl-C and SIGTERM do: the first one stops the driver between two of its steps, a second one stops at once.

    A driver that stops lets its workers keep a checkpoint, and gives its trials back. A machine that is to be taken away says
    so by SIGTERM.
    """

    def __init__(self) -> None:
        self.signal = signal.SIGINT
        self._driver: Driver | None = None

    def __enter__(self) -> None:
        self._before = {number: signal.signal(number, self._asked) for number in (signal.SIGINT, signal.SIGTERM)}

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    @contextmanager
    def of(self, driver: Driver) -> Iterator[None]:
        """While the driver runs trials, the first signal is a wish."""
        self._driver = driver
        try:
            yield
        finally:
            self._driver = None

    def _asked(self, number: int, _: FrameType | None) -> None:
        self.signal, driver = signal.Signals(number), self._driver
        if driver is None:
            raise KeyboardInterrupt
        self._driver = None
        driver.stop(Stopped(f"stopped by {self.signal.name}"))
        click.echo("stopping after a checkpoint; again to stop at once", err=True)


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
        click.echo(table(fitted_to_line(board), COLUMNS, width=line_width(), below="verdict"))
        click.echo(f"\n{laws_text(study.laws(), study.forecast(), width=line_width())}\n")
    click.echo(f"report: {write(study, report_)}")
