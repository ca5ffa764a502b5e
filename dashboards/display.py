"""One moment of a study as a rich renderable: what `dashboards.terminal.LiveView` draws on a terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.console import Group
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from dashboards.moments import best_text, drivers_text, spent_text, states_text
from dashboards.numbers import count_text, decimal_text, seconds_text

if TYPE_CHECKING:
    from dashboards.moments import LiveSnapshot, RunningTrial

CAUSES = 3
"""How many reasons for failures are named."""

MOST_RUNNING = 16
"""How many running trials are listed; a cluster has more than a screen has lines."""

LABEL = 13
"""Characters of the column of labels."""


def display(snapshot: LiveSnapshot, recent: list[str]) -> Group:
    """The whole display; `recent` are lines of trials that ended lately."""
    head = Text.assemble(("einsearch ", "bold cyan"), (snapshot.study, "bold"), overflow="ellipsis", no_wrap=True)
    lines = [_line(line, "dim") for line in recent]
    place = _line(f"database {snapshot.database}", "dim")
    running = [_running(snapshot.running)] if snapshot.running else []
    return Group(head, _bar(snapshot), *_facts(snapshot), *running, *_causes(snapshot), *lines, place)


def _line(text: str, style: str = "") -> Text:
    return Text(text, style=style, overflow="ellipsis", no_wrap=True)


def _bar(snapshot: LiveSnapshot) -> Table:
    """Trials done of the budget, time gone and time left, on one line."""
    left = "" if snapshot.seconds_left is None else f", about {seconds_text(snapshot.seconds_left)} left"
    row = Table.grid(padding=(0, 1), expand=True)
    row.add_column(ratio=1)
    row.add_column(no_wrap=True)
    times = Text(f"{snapshot.done}/{snapshot.budget} trials, {seconds_text(snapshot.elapsed)}{left}")
    row.add_row(ProgressBar(total=max(snapshot.budget, 1), completed=snapshot.done), times)
    return row


def _facts(snapshot: LiveSnapshot) -> list[Text]:
    """The leader, the compute, and, where the snapshot has them, states and drivers."""
    facts = [("best so far", best_text(snapshot.best), "bold"), ("spent", spent_text(snapshot), "")]
    if snapshot.states:
        facts.append(("trials", states_text(snapshot), ""))
    if snapshot.drivers is not None:
        idle = not snapshot.drivers and snapshot.done < snapshot.budget
        facts.append(("drivers", drivers_text(snapshot), "yellow" if idle else ""))
    texts = [((label.ljust(LABEL), "dim"), (said, style)) for label, said, style in facts]
    return [Text.assemble(*parts, overflow="ellipsis", no_wrap=True) for parts in texts]


def _causes(snapshot: LiveSnapshot) -> list[Text]:
    """Why trials failed, the most frequent reasons first."""
    causes = sorted(snapshot.failures.items(), key=lambda cause: -cause[1])
    more = [_line(f"{'':{LABEL}}and {len(causes) - CAUSES} other reasons", "dim")] if len(causes) > CAUSES else []
    return [_line(f"{'failed':{LABEL}}{count} × {reason}", "red") for reason, count in causes[:CAUSES]] + more


def _running(trials: tuple[RunningTrial, ...]) -> Table:
    """The running trials, one a row."""
    rows = Table(box=None, padding=(0, 2, 0, 0), header_style="dim", expand=True)
    for name in ("trial", "kind"):
        rows.add_column(name, no_wrap=True)
    rows.add_column("structure", no_wrap=True, overflow="ellipsis", ratio=1)
    for name in ("rung", "width", "progress", "loss"):
        rows.add_column(name, no_wrap=True, justify="right")
    for trial in trials[:MOST_RUNNING]:
        bar = ProgressBar(total=1.0, completed=trial.progress, width=10)
        numbers = (str(trial.rung), str(trial.width), bar, decimal_text(trial.loss, 4))
        rows.add_row(str(trial.number), trial.kind, Text(trial.structure), *numbers)
    if len(trials) > MOST_RUNNING:
        rows.add_row("…", Text(f"and {count_text(len(trials) - MOST_RUNNING, 'more trial')}"))
    return rows
