"""`einsearch status`: how a study stands."""

from __future__ import annotations

import dataclasses
import math
from typing import TYPE_CHECKING

import click

from einsearch import options
from einsearch.output import emit_pairs

if TYPE_CHECKING:
    from storage.drivers import DriverAtWork
    from storage.status import StudyStatus

SILENT = 20.0
"""Seconds without a sign of life that are worth a word; drivers give one every ten."""


@click.command("status")
@options.study
@options.formats()
def command(study: str, db: str, format_: str) -> None:
    """How STUDY stands: trials by state, compute spent, the best.

    STUDY can be left out where the database holds one study.
    """
    from storage.database import Database
    from storage.drivers import drivers_at_work
    from storage.status import status

    with Database.open(db) as database:
        now = status(database, study)
        drivers = drivers_at_work(database, study)
        place = str(database.location.path or now.url_shown)
    best = now.best
    facts = {
        "study": now.study,
        "trials": dict(now.states),
        "done": now.done,
        "budget": now.budget,
        "flops": now.flops,
        "seconds": now.seconds,
        "best": best.structure if best else None,
        "best_multiplier": math.exp(best.value) if best and best.value is not None else None,
        "best_loss": best.loss if best else None,
        "drivers": now.drivers_alive,
        "at_work": [dataclasses.asdict(driver) for driver in drivers],
        "database": now.url_shown,
    }
    emit_pairs(facts, format_, lines(now, drivers, place))


def lines(now: StudyStatus, drivers: list[DriverAtWork], place: str) -> dict[str, str]:
    """The same for people."""
    from dashboards.numbers import flops_text, seconds_text

    states = ", ".join(f"{count} {state}" for state, count in now.states.items() if count)
    return {
        "study": now.study,
        "trials": f"{now.done} of {now.budget} done ({states or 'none begun'})",
        "spent": f"{flops_text(now.flops)} FLOPs, {seconds_text(now.seconds)} of training",
        "best": _best(now),
        "drivers": _drivers(now),
        **{f"driver {driver.id}": _at_work(driver) for driver in drivers},
        "database": place,
    }


def _drivers(now: StudyStatus) -> str:
    if now.drivers_alive:
        return f"{now.drivers_alive} at work"
    return "none" if now.done >= now.budget else f"none; go on with `einsearch resume {now.study}`"


def _at_work(driver: DriverAtWork) -> str:
    """`on HOST (process 7), trials of 1 CPU on this machine; trial 5 is waiting for 1 GPU: the cluster has none`."""
    who = f"on {driver.host} (process {driver.pid})"
    if driver.silent > SILENT:
        who += f", silent for {driver.silent:.0f} s"
    if not driver.place:
        return who
    taken = ", ".join(f"{amount:g} {name}" for name, amount in driver.place["resources"].items())
    where = "its own machine" if driver.place["address"] == "local" else driver.place["address"]
    waiting = driver.place["waiting"]
    held_up = ""
    if waiting:
        trials = f"trial {waiting[0]}" if len(waiting) == 1 else f"{len(waiting)} trials"
        held_up = f"; {trials} {driver.place['reason'] or 'waiting for a worker to start'}"
    return f"{who}, {taken} a trial on {where}{held_up}"


def _best(now: StudyStatus) -> str:
    best = now.best
    if best is None:
        return "nothing ranked yet"
    multiplier = "" if best.value is None else f", multiplier {math.exp(best.value):.2f}"
    return f"{best.structure}{multiplier}, loss {best.loss:.4f}, trial {best.number}"
