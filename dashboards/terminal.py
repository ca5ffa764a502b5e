"""The live view of a study: a full display on a terminal, plain lines everywhere else.

`einsearch search` feeds it from the driver, `einsearch watch` from the database alone.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from types import TracebackType
from typing import TYPE_CHECKING, TextIO

from dashboards.moments import LiveSnapshot, finished_line

if TYPE_CHECKING:
    from rich.live import Live

RECENT = 4
"""How many finished trials the live display keeps in sight."""


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
