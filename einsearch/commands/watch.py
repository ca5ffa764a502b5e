"""`einsearch watch`: a study as it goes, from any machine that reaches its database."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from einsearch import options
from einsearch.output import json_value

if TYPE_CHECKING:
    from dashboards.moments import LiveSnapshot
    from storage.database import Database


@click.command("watch")
@options.study
@click.option(
    "--interval", type=click.FloatRange(min=0.1), default=1.0, show_default=True, metavar="SECONDS", help="Time between looks."
)
@click.option("--once", is_flag=True, help="Look once, then end.")
@click.option("--quiet", is_flag=True, help="Show nothing; end when the study is done.")
@click.option(
    "--format", "format_", type=click.Choice(["table", "json"]), default="table", show_default=True, help="How to print."
)
def command(study: str, db: str, interval: float, once: bool, quiet: bool, format_: str) -> None:
    """Watch STUDY while others run it, until it is done.

    Shows trials by state, the compute and its rate, the best so far, what is running and why trials failed. It only reads the
    database. Without a terminal it prints a line for each trial that ends; with --format json a line of JSON whenever
    something changed. Ctrl-C leaves; the study goes on. STUDY can be left out where the database holds one study.
    """
    from storage.database import Database

    try:
        with Database.open(db) as database:
            if once:
                _once(next(looks(database, study, interval)), format_)
            elif format_ == "json":
                _as_json(looks(database, study, interval))
            else:
                _on_screen(looks(database, study, interval), study, quiet)
    except KeyboardInterrupt:
        click.echo("stopped watching; the study goes on", err=True)
        raise click.exceptions.Exit(130) from None


def looks(database: Database, study: str, interval: float) -> Iterator[LiveSnapshot]:
    """The study from one look to the next, the last one when it is done.

    Raises:
        StudyError: there is no such study.
    """
    from einsearch.observe import Observer

    observer = Observer(database, study)
    while True:
        snapshot = observer.snapshot()
        yield snapshot
        if snapshot.done >= snapshot.budget:
            return
        time.sleep(interval)


def _once(snapshot: LiveSnapshot, format_: str) -> None:
    from dashboards.moments import snapshot_lines

    if format_ == "json":
        click.echo(_line(snapshot))
    elif sys.stdout.isatty():
        from rich.console import Console

        from dashboards.display import display

        Console().print(display(snapshot, []))
    else:
        click.echo("\n".join(snapshot_lines(snapshot)))


def _as_json(snapshots: Iterator[LiveSnapshot]) -> None:
    """A line for the first look and for each one that found something new."""
    before = None
    for snapshot in snapshots:
        now = (snapshot.done, snapshot.states, snapshot.running, snapshot.drivers)
        if now != before or snapshot.finished:
            click.echo(_line(snapshot))
            sys.stdout.flush()
        before = now


def _line(snapshot: LiveSnapshot) -> str:
    fields = {name: getattr(snapshot, name) for name in type(snapshot).__dataclass_fields__}
    fields["running"] = [asdict(trial) for trial in snapshot.running]
    fields["finished"] = [asdict(trial) for trial in snapshot.finished]
    fields["best"] = snapshot.best and snapshot.best._asdict()
    return json.dumps(json_value(fields))


def _on_screen(snapshots: Iterator[LiveSnapshot], study: str, quiet: bool) -> None:
    """The live view; what it said last stays on the screen."""
    from dashboards.moments import snapshot_lines
    from dashboards.terminal import LiveView

    with LiveView(quiet=quiet, stream=sys.stdout) as view:
        for number, snapshot in enumerate(snapshots):
            if number == 0 and not quiet and not sys.stdout.isatty():
                view.note("\n".join(snapshot_lines(snapshot)))
            view.update(snapshot)
    if not quiet:
        click.echo(f"done; see `einsearch leaderboard {study}` and `einsearch report {study}`")
