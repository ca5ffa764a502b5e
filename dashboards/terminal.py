"""The live view of a running search: a full display on a terminal, plain lines everywhere else."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from types import TracebackType
from typing import TYPE_CHECKING, TextIO

from dashboards.laws import laws_text
from dashboards.numbers import flops_text, interval_text, plain, seconds_text
from dashboards.tables import table

if TYPE_CHECKING:
    from rich.console import Group
    from rich.live import Live
    from rich.table import Table
    from rich.text import Text

__all__ = ["Best", "FinishedTrial", "LiveSnapshot", "LiveView", "RunningTrial", "laws_text", "table"]

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
class Best:
    """The leader so far: its compute multiplier with the ends of its interval (NaN where unknown)."""

    structure: str
    multiplier: float
    low: float
    high: float


@dataclass(frozen=True, slots=True, kw_only=True)
class LiveSnapshot:
    """What a search looks like at one moment.  `finished` holds all finished trials, or just the new ones."""

    study: str
    done: int
    budget: int
    database: str  # as shown to people, password hidden
    elapsed: float  # seconds
    seconds_left: float | None = None
    flops_spent: float = 0.0
    best: Best | None = None
    running: tuple[RunningTrial, ...] = ()
    finished: tuple[FinishedTrial, ...] = ()


def best_text(best: Best | None) -> str:
    """The leader in one line."""
    if best is None:
        return "nothing ranked yet"
    return f"{best.structure}, compute multiplier {interval_text(best.multiplier, best.low, best.high)}"


def finished_line(trial: FinishedTrial, done: int, budget: int) -> str:
    """One finished trial in one line without control codes."""
    return (
        f"[{done}/{budget}] trial {trial.number} {trial.state}: {trial.kind} {trial.structure} rung "
        f"{trial.rung} width {trial.width}, loss {plain(trial.loss, 4)}, multiplier "
        f"{plain(trial.multiplier, 2)}, {flops_text(trial.flops)} FLOPs, {seconds_text(trial.seconds)}"
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


def display(snapshot: LiveSnapshot, recent: list[str]) -> Group:
    """The whole display as one rich renderable."""
    from rich.console import Group
    from rich.text import Text

    quiet_lines = [Text(line, style="dim", overflow="ellipsis", no_wrap=True) for line in recent]
    place = Text(f"database {snapshot.database}", style="dim", overflow="ellipsis", no_wrap=True)
    top = (_head(snapshot), _bar(snapshot), _facts(snapshot))
    return Group(*top, _running(snapshot.running), *quiet_lines, place)


def _head(snapshot: LiveSnapshot) -> Text:
    from rich.text import Text

    parts = (("einsearch ", "bold cyan"), (snapshot.study, "bold"))
    return Text.assemble(*parts, overflow="ellipsis", no_wrap=True)


def _bar(snapshot: LiveSnapshot) -> Table:
    """Trials done of the budget, time gone and time left, on one line."""
    from rich.progress_bar import ProgressBar
    from rich.table import Table
    from rich.text import Text

    left = "" if snapshot.seconds_left is None else f", about {seconds_text(snapshot.seconds_left)} left"
    row = Table.grid(padding=(0, 1), expand=True)
    row.add_column(ratio=1)
    row.add_column(no_wrap=True)
    times = Text(f"{snapshot.done}/{snapshot.budget} trials, {seconds_text(snapshot.elapsed)}{left}")
    row.add_row(ProgressBar(total=max(snapshot.budget, 1), completed=snapshot.done), times)
    return row


def _facts(snapshot: LiveSnapshot) -> Text:
    from rich.text import Text

    return Text.assemble(
        ("best so far  ", "dim"),
        (best_text(snapshot.best), "bold"),
        ("\nspent        ", "dim"),
        f"{flops_text(snapshot.flops_spent)} FLOPs",
    )


def _running(trials: tuple[RunningTrial, ...]) -> Table:
    """The running trials, one a row."""
    from rich.progress_bar import ProgressBar
    from rich.table import Table
    from rich.text import Text

    rows = Table(box=None, padding=(0, 2, 0, 0), header_style="dim", expand=True)
    for name in ("trial", "kind"):
        rows.add_column(name, no_wrap=True)
    rows.add_column("structure", no_wrap=True, overflow="ellipsis", ratio=1)
    for name in ("rung", "width", "progress", "loss"):
        rows.add_column(name, no_wrap=True, justify="right")
    for t in trials:
        bar = ProgressBar(total=1.0, completed=t.progress, width=12)
        numbers = (str(t.rung), str(t.width), bar, plain(t.loss, 4))
        rows.add_row(str(t.number), t.kind, Text(t.structure), *numbers)
    return rows
