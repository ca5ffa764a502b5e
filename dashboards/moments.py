"""One moment of a study that runs, and its words in lines: what the live view and `einsearch watch` show."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from dashboards.numbers import decimal_text, flops_text, interval_text, seconds_text

if TYPE_CHECKING:
    from dashboards.answer import Leader


@dataclass(frozen=True, slots=True, kw_only=True)
class RunningTrial:
    """A trial that is training now; `progress` is the share of its budget spent, in [0, 1]."""

    number: int
    kind: str
    structure: str
    rung: int
    width: int
    progress: float
    loss: float  # last validation loss in nats per token; NaN before the first evaluation


@dataclass(frozen=True, slots=True, kw_only=True)
class FinishedTrial:
    """A trial that ended; `multiplier` is NaN where none could be measured."""

    number: int
    kind: str
    structure: str
    rung: int
    width: int
    state: str
    loss: float  # nats per token
    multiplier: float
    flops: float
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class LiveSnapshot:
    """What a study looks like at one moment.  `finished` holds all finished trials, or just the new ones.

    `states` counts trials by state, `failures` by reason, `drivers` the processes at work (None where nobody asked);
    `rate` is in FLOPs per second of the clock, NaN while it is not known.  Of the leader's interval the ends may be NaN.
    """

    study: str
    done: int
    budget: int
    database: str  # as shown to people, password hidden
    elapsed: float  # seconds
    seconds_left: float | None = None
    flops_spent: float = 0.0
    best: Leader | None = None
    running: tuple[RunningTrial, ...] = ()
    finished: tuple[FinishedTrial, ...] = ()
    rate: float = float("nan")
    states: Mapping[str, int] = field(default_factory=dict)
    failures: Mapping[str, int] = field(default_factory=dict)
    drivers: int | None = None


def best_text(best: Leader | None) -> str:
    """The leader in one line."""
    if best is None:
        return "nothing ranked yet"
    return f"{best.name}, compute multiplier {interval_text(best.multiplier, best.low, best.high)}"


def spent_text(snapshot: LiveSnapshot) -> str:
    """Compute spent, and how fast it is being spent."""
    rate = f", {flops_text(snapshot.rate)} FLOPs a second" if snapshot.rate > 0 else ""
    return f"{flops_text(snapshot.flops_spent)} FLOPs{rate}"


def states_text(snapshot: LiveSnapshot) -> str:
    """Trials by state, those without a trial left out."""
    return ", ".join(f"{count} {state}" for state, count in snapshot.states.items() if count) or "no trial yet"


def drivers_text(snapshot: LiveSnapshot) -> str:
    """Who is at work, and what to do where nobody is."""
    if snapshot.drivers:
        return f"{snapshot.drivers} at work"
    return "none" if snapshot.done >= snapshot.budget else f"none; go on with `einsearch resume {snapshot.study}`"


def finished_line(trial: FinishedTrial, done: int, budget: int) -> str:
    """One finished trial in one line without control codes."""
    return (
        f"[{done}/{budget}] trial {trial.number} {trial.state}: {trial.kind} {trial.structure} rung "
        f"{trial.rung} width {trial.width}, loss {decimal_text(trial.loss, 4)}, multiplier "
        f"{decimal_text(trial.multiplier, 2)}, {flops_text(trial.flops)} FLOPs, {seconds_text(trial.seconds)}"
    )


def snapshot_lines(snapshot: LiveSnapshot) -> list[str]:
    """The study at one moment as lines without control codes, each running trial on one of its own."""
    left = "" if snapshot.seconds_left is None else f", about {seconds_text(snapshot.seconds_left)} left"
    lines = [
        f"study {snapshot.study!r} in {snapshot.database}: {snapshot.done} of {snapshot.budget} trials done{left}",
        f"trials: {states_text(snapshot)}; drivers: {drivers_text(snapshot)}",
        f"best so far: {best_text(snapshot.best)}; spent: {spent_text(snapshot)}",
    ]
    lines += [f"failed: {count} × {reason}" for reason, count in snapshot.failures.items()]
    return lines + [running_line(trial) for trial in snapshot.running]


def running_line(trial: RunningTrial) -> str:
    """One running trial in one line without control codes."""
    return (
        f"trial {trial.number} running: {trial.kind} {trial.structure} rung {trial.rung} width {trial.width}, "
        f"{100 * trial.progress:.0f} % done, loss {decimal_text(trial.loss, 4)}"
    )
