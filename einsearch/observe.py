"""Watching a study that other processes run: what the database says from one look to the next."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from dashboards.answer import Leader
from dashboards.moments import FinishedTrial, LiveSnapshot, RunningTrial

if TYPE_CHECKING:
    import pandas as pd

    from storage.database import Database
    from storage.status import StudyStatus

_TRIAL = "number, kind, structure, rung, width, state, loss, value, flops, seconds, error, finished"
_RUNNING = """
SELECT t.number, t.kind, t.structure, t.rung, t.width, t.flops, p.loss
FROM einsearch_trial_view t LEFT JOIN einsearch_point_view p
  ON p.study = t.study AND p.number = t.number AND p.step = t.steps
WHERE t.study = {study} AND t.state = 'running' ORDER BY t.number
"""
_ENDED = f"""
SELECT {_TRIAL}, (SELECT count(*) FROM einsearch_trial_view WHERE study = {{study}} AND finished IS NOT NULL) AS done
FROM einsearch_trial_view WHERE study = {{study}} AND finished > {{since!r}} ORDER BY finished, number
"""
_FAILED = """
SELECT error, count(*) AS trials FROM einsearch_trial_view WHERE study = {study} AND state = 'failed' GROUP BY error
"""
_END = "SELECT max(finished) AS finished FROM einsearch_trial_view WHERE study = {study}"
_LAG = 30.0
"""Seconds that may pass between the time a trial is said to have ended and the time others see it."""

_RATED = 60.0
"""Seconds over which the rate of the study is measured, at least."""


class Observer:
    """Makes snapshots of a study; trials that ended before the first look are not announced."""

    def __init__(self, database: Database, study: str) -> None:
        from storage.studies import open_study

        record = open_study(database, study)
        self._database, self._study = database, study
        self._budgets = [float(rung["flops"]) for rung in record.settings["rungs"]]
        self._known: set[int] | None = None
        self._last = 0.0
        self._looks: list[tuple[float, float, float]] = []
        self._failures: dict[str, int] = {}
        self._failed = 0

    def snapshot(self) -> LiveSnapshot:
        """The study now; `finished` holds the trials that ended since the last look.

        Raises:
            DatabaseError: the database cannot be used.
        """
        from storage.status import status

        now = status(self._database, self._study)
        running = tuple(self._running())
        self._last = self._last or now.now
        done, ended = self._ended(now.done)
        rate, left = self._pace(now, now.done + sum(trial.progress for trial in running))
        return LiveSnapshot(
            study=now.study,
            done=done,
            budget=now.budget,
            database=now.url_shown,
            elapsed=self._end(now) - now.started,
            seconds_left=left if now.drivers_alive else None,
            flops_spent=now.flops,
            best=_leader(now),
            running=running,
            finished=ended,
            rate=rate,
            states=now.states,
            failures=self._causes(now.states["failed"]),
            drivers=now.drivers_alive,
        )

    def _end(self, now: StudyStatus) -> float:
        """When the study was done, or now."""
        if now.done < now.budget:
            return now.now
        return float(self._ask(_END)[0]["finished"])

    def _ask(self, question: str, **more: Any) -> list[Mapping[str, Any]]:
        """Rows of the answer to a question about this study."""
        from storage.free_sql import sql

        quoted = "'" + self._study.replace("'", "''") + "'"
        return rows_of(sql(self._database, question.format(study=quoted, **more)))

    def _running(self) -> Iterator[RunningTrial]:
        for row in self._ask(_RUNNING):
            budget = self._budgets[int(row["rung"])] if row["rung"] is not None else math.inf
            yield RunningTrial(
                number=int(row["number"]),
                kind=row["kind"],
                structure=row["structure"] or "being chosen",
                rung=int(row["rung"] or 0),
                width=int(row["width"] or 0),
                progress=min(float(row["flops"]) / budget, 1.0),
                loss=_number(row["loss"]),
            )

    def _ended(self, done: int) -> tuple[int, tuple[FinishedTrial, ...]]:
        """How many trials have ended, and those that did since the last look, in their order: both at one moment."""
        rows = self._ask(_ENDED, since=self._last - _LAG)
        known = {int(row["number"]) for row in rows} if self._known is None else self._known
        self._last = max([self._last, *(float(row["finished"]) for row in rows)])
        self._known = {int(row["number"]) for row in rows}
        new = tuple(finished(row) for row in rows if int(row["number"]) not in known)
        return (int(rows[0]["done"]) if rows else done), new

    def _pace(self, now: StudyStatus, done: float) -> tuple[float, float | None]:
        """FLOPs a second, and seconds to the end, over the last minute of looks or as far back as they go."""
        self._looks.append((now.now, now.flops, done))
        while len(self._looks) > 2 and self._looks[1][0] <= now.now - _RATED:
            self._looks.pop(0)
        first = self._looks[0]
        seconds = now.now - first[0]
        if seconds <= 0 or now.flops <= first[1]:
            return math.nan, None
        trials = (done - first[2]) / seconds
        return (now.flops - first[1]) / seconds, (now.budget - done) / trials if trials > 0 else None

    def _causes(self, failed: int) -> Mapping[str, int]:
        """Failures by the first line of their error; asked again only when there are more."""
        if failed != self._failed:
            causes: dict[str, int] = {}
            for row in self._ask(_FAILED):
                reason = next(iter(str(row["error"]).splitlines()), "")
                causes[reason] = causes.get(reason, 0) + int(row["trials"])
            self._failed, self._failures = failed, causes
        return self._failures


def rows_of(frame: pd.DataFrame) -> list[Mapping[str, Any]]:
    """The rows of a frame, None where one has no value."""
    rows = frame.astype(object).where(frame.notna(), None).to_dict("records")
    return [{str(name): value for name, value in row.items()} for row in rows]


def finished(row: Mapping[str, Any]) -> FinishedTrial:
    """A trial that ended, from a row of `einsearch_trial_view` or of the trials' frame."""
    value = _number(row["value"])
    return FinishedTrial(
        number=int(row["number"]),
        kind=row["kind"],
        structure=row["structure"] or "no structure",
        rung=int(row["rung"] or 0),
        width=int(row["width"] or 0),
        state=row["state"],
        loss=_number(row["loss"]),
        multiplier=math.exp(value) if math.isfinite(value) else math.nan,
        flops=float(row["flops"]),
        seconds=float(row["seconds"]),
    )


def _leader(now: StudyStatus) -> Leader | None:
    """The best single trial; the leaderboard, with its intervals, is fitted from all."""
    best = now.best
    if best is None or best.value is None:
        return None
    return Leader(best.structure, best.structure, math.exp(best.value), math.nan, math.nan, "one trial")


def _number(value: Any) -> float:
    return math.nan if value is None else float(value)
