"""The live view of a study: a full display on a terminal, plain lines everywhere else.

`einsearch search` feeds it from the driver, `einsearch watch` from the database alone.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import TracebackType
from typing import TYPE_CHECKING, TextIO

from dashboards.numbers import decimal_text, flops_text, interval_text, seconds_text

if TYPE_CHECKING:
    from rich.live import Live

    from dashboards.answer import Leader

RECENT = 4
"""How many finished trials the live display keeps in sight."""


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


@dataclass
class LiveView:
    """Shows a search while it runs: a context manager, fed by `update`.

    On a terminal it redraws a display in place; elsewhere it writes one line for each finished trial, never a
    control code; with `quiet` only notes are written.  Not thread-safe: call it from one thread.
    """

    quiet: bool = False
    stream: TextIO = field(default_factory=lambda: sys.stderr)
    _live: Live | None = field(default=None, init=False)
    _seen: set[int] = field(default_factory=set, init=False)
    _recent: list[str] = field(default_factory=list, init=False)

    def __enter__(self) -> LiveView:
        if not self.quiet and self.stream.isatty():
            from rich.console import Console
            from rich.live import Live

            self._live = Live(console=Console(file=self.stream), auto_refresh=False, redirect_stdout=True)
            self._live.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._live is not None:
            self._live.stop()
            self._live = None

    def update(self, snapshot: LiveSnapshot) -> None:
        """Show this moment.  A finished trial is announced once, however often it appears in snapshots."""
        fresh = [trial for trial in snapshot.finished if trial.number not in self._seen]
        self._seen.update(trial.number for trial in fresh)
        first = snapshot.done - len(fresh) + 1
        lines = [finished_line(trial, first + i, snapshot.budget) for i, trial in enumerate(fresh)]
        self._recent = (self._recent + lines)[-RECENT:]
        if self._live is not None:
            from dashboards.display import display

            self._live.update(display(snapshot, self._recent), refresh=True)
        elif not self.quiet:
            self._write(lines)

    def note(self, text: str) -> None:
        """Say something that stays on the screen, above the display."""
        if self._live is not None:
            self._live.console.print(text, markup=False, highlight=False)
        else:
            self._write([text])

    def _write(self, lines: list[str]) -> None:
        for line in lines:
            print(line, file=self.stream, flush=True)
