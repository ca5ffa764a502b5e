"""Watching a study while this process drives it: from the driver and the database to the terminal's live view."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from dashboards.answer import Leader
from dashboards.moments import LiveSnapshot, RunningTrial
from dashboards.terminal import LiveView
from einsearch.observe import finished, rows_of
from space.errors import EinsearchError

if TYPE_CHECKING:
    import pandas as pd

    from search.driver import Driver, Progress
    from storage.database import Database

TICK = 0.5
"""Seconds between two looks."""

PEERS = 5.0
"""Seconds between two looks at what other drivers did."""


@contextmanager
def watching(driver: Driver, database: Database, study: str, quiet: bool) -> Iterator[LiveView]:
    """Show the study until the block ends; a thread of its own does the looking."""
    done = threading.Event()
    watcher = Watcher(driver, database, study)

    def watch() -> None:
        while not done.wait(TICK):
            with suppress(EinsearchError):  # the driver meets the same fault, and reports it
                view.update(watcher.snapshot())

    with LiveView(quiet=quiet) as view:
        view.update(watcher.snapshot())
        thread = threading.Thread(target=watch, name="einsearch-live", daemon=True)
        thread.start()
        try:
            yield view
        finally:
            done.set()
            thread.join()
            view.update(watcher.snapshot())


class Watcher:
    """Makes snapshots; all trials are read only when one has ended since the last time, here or at another driver."""

    def __init__(self, driver: Driver, database: Database, study: str) -> None:
        self._driver, self._database, self._study = driver, database, study
        self._start = time.monotonic()
        self._ended, self._done = -1, -1
        self._asked = -PEERS
        self._trials: pd.DataFrame
        self._budget = 0
        self._earlier: set[int] = set()

    def snapshot(self) -> LiveSnapshot:
        """The study now."""
        running = self._driver.running
        if self._is_stale():
            self._read()
        done = self._trials[self._trials["finished"].notna()]
        elapsed = time.monotonic() - self._start
        return LiveSnapshot(
            study=self._study,
            done=len(done),
            budget=self._budget,
            database=self._database.url_shown,
            elapsed=elapsed,
            seconds_left=self._left(elapsed, len(done), running),
            flops_spent=float(self._trials["flops"].sum()),
            best=_best(done),
            running=tuple(_running(progress) for progress in running),
            finished=tuple(map(finished, rows_of(done[~done["number"].isin(self._earlier)]))),
        )

    def _is_stale(self) -> bool:
        from storage.status import status

        ended, done = self._driver.ended, self._done
        if time.monotonic() - self._asked > PEERS:
            self._asked = time.monotonic()
            self._done = status(self._database, self._study).done
        stale = ended != self._ended or done != self._done
        self._ended = ended
        return stale

    def _read(self) -> None:
        from storage import queries
        from storage.studies import open_study

        first = self._budget == 0
        self._trials = queries.trials_frame(self._database, self._study)
        self._budget = open_study(self._database, self._study).budget
        if first:
            self._earlier = set(self._trials.loc[self._trials["finished"].notna(), "number"])

    def _left(self, elapsed: float, done: int, running: list[Progress]) -> float | None:
        """Time left at the rate of this run so far, trials under way counted by their share."""
        share = sum(progress.report.progress for progress in running if progress.report is not None)
        worked = done - len(self._earlier) + share
        left = self._budget - done - share
        return elapsed * left / worked if worked >= 1 and left > 0 else None


def _best(done: pd.DataFrame) -> Leader | None:
    ranked = done[done["value"].notna() & (done["key"] != "dense")]
    if ranked.empty:
        return None
    row = ranked.nlargest(1, "value").to_dict("records")[0]
    return Leader(row["key"], row["structure"], math.exp(row["value"]), math.nan, math.nan, "one trial")


def _running(progress: Progress) -> RunningTrial:
    task, report = progress.task, progress.report
    loss = report.loss if report is not None else None
    return RunningTrial(
        number=task.claim.number,
        kind=task.claim.kind,
        structure=task.structure.name,
        rung=task.rung,
        width=task.width,
        progress=report.progress if report is not None else 0.0,
        loss=math.nan if loss is None else loss,
    )
