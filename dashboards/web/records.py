"""What the database says about one study, trial or structure: read when a page asks for it, never changed."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from sqlalchemy import func, select, text
from sqlalchemy.orm import Session

from dashboards.web.snapshot import Snapshot
from storage.database import Database
from storage.schema import (
    FINAL_STATES,
    TRIAL_STATES,
    WENT_WRONG,
    Attempt,
    CoordinatesRow,
    Decision,
    Driver,
    PointRow,
    StructureRow,
    Study,
    Trial,
)
from storage.studies import StudyRecord, read_study

LEASE_SECONDS = 60.0
RATE_WINDOW = 20
"""The rate of a study is that of so many trials that ended last."""
CAUSES = 12
_LONGEST_CAUSE = 160
_STOPS = 100
_AT_ONCE = 500
"""Trials asked for in one query: every database has a limit on parameters."""


@dataclass(frozen=True, slots=True)
class StudyLine:
    """A study in the list of studies; `fingerprint` is that of its data, `updated` when a trial last said something."""

    id: int
    name: str
    budget: int
    trials: int
    done: int
    running: int
    flops: float
    seconds: float
    seed: int
    target_compute: float
    fingerprint: str
    created: float
    updated: float | None


@dataclass(frozen=True, slots=True)
class DriverLine:
    """A driver and its lease: `age` is how long ago it was last heard of, in seconds; `holds` its running trials."""

    id: int
    host: str
    pid: int
    state: str
    joined: float
    age: float
    holds: tuple[int, ...]

    @property
    def overdue(self) -> bool:
        """Whether its lease has run out, though no peer has declared it dead yet."""
        return self.state == "alive" and self.age > LEASE_SECONDS


@dataclass(frozen=True, slots=True)
class StopLine:
    """A trial that was stopped early: where, the loss there, the least it could have come to, dense there; FLOPs saved."""

    number: int
    key: str
    name: str
    rung: int
    step: int
    flops: float
    budget: float
    loss: float
    bound: float
    frontier: float
    saved: float


@dataclass(frozen=True, slots=True)
class Overview:
    """How a study stands. `rate` is finished trials per hour, `left` seconds to the end at that rate; None: not known."""

    study: StudyRecord
    now: float
    states: Mapping[str, int]
    done: int
    flops: float
    seconds: float
    rate: float | None
    left: float | None
    causes: tuple[tuple[str, str, int], ...]
    drivers: tuple[DriverLine, ...]

    @property
    def share(self) -> float:
        """Of the budget of trials, how much has ended."""
        return min(self.done / self.study.budget, 1.0)


def studies(database: Database) -> list[StudyLine]:
    """All studies, newest first."""
    done = func.count(Trial.finished)
    running = func.sum(func.coalesce(Trial.state == "running", False).cast(Trial.number.type))
    spent = (func.coalesce(func.sum(column), 0.0) for column in (Trial.flops, Trial.seconds))
    query = (
        select(Study.id, Study.name, Study.budget, func.count(Trial.id), done, running, *spent)
        .add_columns(Study.seed, Study.target_compute, Study.corpus_fingerprint, Study.created, func.max(Trial.updated))
        .outerjoin(Trial, Trial.study_id == Study.id)
        .group_by(Study.id)
        .order_by(Study.created.desc(), Study.id.desc())
    )
    with database.reading() as session:
        return [StudyLine(*row) for row in session.execute(query)]


def find(database: Database, study: int) -> StudyRecord | None:
    """The study of an id, None where there is none."""
    with database.reading() as session:
        found = session.get(Study, study)  # held, so that it is asked for once
        return read_study(session, study) if found is not None else None


def overview(database: Database, record: StudyRecord, snapshot: Snapshot) -> Overview:
    """How a study stands: what its snapshot counts, and what the database says of drivers and failures now."""
    counts = np.bincount(snapshot.state, minlength=len(TRIAL_STATES)).tolist()
    states = dict(zip(TRIAL_STATES, counts, strict=True))
    with database.reading() as session:
        now = database.now(session)
        causes, drivers = _causes(session, record.id), _drivers(session, record.id, now)
    done = sum(states[state] for state in FINAL_STATES)
    remaining, rate = max(record.budget - done, 0), _rate(snapshot)
    at_work = any(driver.state == "alive" and not driver.overdue for driver in drivers)
    left = remaining / rate * 3600 if rate and remaining and at_work else None
    flops, seconds = (float(snapshot.numbers[name].sum()) for name in ("flops", "seconds"))
    return Overview(record, now, states, done, flops, seconds, rate, left, causes, drivers)


def _rate(snapshot: Snapshot) -> float | None:
    """Finished trials per hour over the last ones, None before there are two."""
    ends = snapshot.numbers["finished"]
    times = np.sort(ends[np.isfinite(ends)])[-RATE_WINDOW:]
    if len(times) < 2 or times[-1] <= times[0]:
        return None
    return float((len(times) - 1) / (times[-1] - times[0]) * 3600)


def _causes(session: Session, study: int) -> tuple[tuple[str, str, int], ...]:
    """(state, cause, trials), the most frequent first: why trials failed, diverged, or had to begin again."""
    text_of = func.substr(func.coalesce(Attempt.error, ""), 1, _LONGEST_CAUSE).label("cause")
    wrong = select(Attempt.trial_id, Attempt.state, text_of).where(text(WENT_WRONG)).subquery()
    count = func.count()
    rows = session.execute(
        select(wrong.c.state, wrong.c.cause, count)
        .join(Trial, Trial.id == wrong.c.trial_id)
        .where(Trial.study_id == study)
        .group_by(wrong.c.state, wrong.c.cause)
        .order_by(count.desc(), wrong.c.state)
        .limit(CAUSES)
    )
    plain = {
        "preempted": "stopped in good order",
        "diverged": "its loss left the finite numbers",
        "failed": "no reason recorded",
    }
    return tuple((state, _first_line(cause) or plain[state], number) for state, cause, number in rows)


def _first_line(cause: str) -> str:
    lines = [line.strip() for line in cause.splitlines() if line.strip()]
    return lines[-1] if lines and lines[0].startswith("Traceback") else lines[0] if lines else ""


def _drivers(session: Session, study: int, now: float) -> tuple[DriverLine, ...]:
    held: dict[int, list[int]] = {}
    running = select(Trial.driver_id, Trial.number).where(Trial.study_id == study, Trial.state == "running")
    for driver, number in session.execute(running.order_by(Trial.number)):
        held.setdefault(driver or 0, []).append(number)
    rows = session.scalars(select(Driver).where(Driver.study_id == study).order_by(Driver.heartbeat.desc()).limit(50))
    return tuple(
        DriverLine(
            id=row.id,
            host=row.host,
            pid=row.pid,
            state=row.state,
            joined=row.joined,
            age=max(now - row.heartbeat, 0.0),
            holds=tuple(held.get(row.id, ())),
        )
        for row in rows
    )


@dataclass(frozen=True, slots=True)
class TrialRecord:
    """One trial: the ledger's row and its structure as columns, its attempts, evaluations and coordinate checks."""

    row: Mapping[str, Any]
    structure: Mapping[str, Any] | None
    attempts: tuple[Mapping[str, Any], ...]
    points: tuple[Mapping[str, Any], ...]
    coordinates: tuple[Mapping[str, Any], ...]


def trial(database: Database, study: int, number: int) -> TrialRecord | None:
    """A trial of a study by its number, None where there is none."""
    with database.reading() as session:
        row = session.scalar(select(Trial).where(Trial.study_id == study, Trial.number == number))
        if row is None:
            return None
        structure = session.get(StructureRow, row.structure_id) if row.structure_id is not None else None
        attempts = session.scalars(select(Attempt).where(Attempt.trial_id == row.id).order_by(Attempt.attempt)).all()
        points = session.scalars(select(PointRow).where(PointRow.trial_id == row.id).order_by(PointRow.step)).all()
        looks = session.scalars(select(CoordinatesRow).where(CoordinatesRow.trial_id == row.id).order_by(CoordinatesRow.step))
        return TrialRecord(
            _columns(row),
            None if structure is None else _columns(structure),
            tuple(_columns(attempt) | {"host": session.get_one(Driver, attempt.driver_id).host} for attempt in attempts),
            tuple(_columns(point) for point in points),
            tuple(_columns(look) for look in looks),
        )


def stops(database: Database, study: int) -> list[StopLine]:
    """Trials that were stopped early, the latest first."""
    saved = Decision.budget - Decision.flops
    query = (
        select(Trial.number, StructureRow.key, StructureRow.name, Trial.rung, Decision.step, Decision.flops, Decision.budget)
        .add_columns(Decision.loss, Decision.bound, Decision.frontier, saved)
        .join(Trial, Trial.id == Decision.trial_id)
        .join(StructureRow, StructureRow.id == Trial.structure_id)
        .where(Trial.study_id == study, Decision.stopped)
        .order_by(Decision.decided.desc(), Trial.number.desc())
        .limit(_STOPS)
    )
    with database.reading() as session:
        return [StopLine(*row) for row in session.execute(query)]


def curves(database: Database, study: int, numbers: list[int]) -> dict[int, list[tuple[float, float]]]:
    """(tokens, loss) along some trials, by number."""
    found: dict[int, list[tuple[float, float]]] = {}
    query = (
        select(Trial.number, PointRow.tokens, PointRow.loss)
        .join(PointRow, PointRow.trial_id == Trial.id)
        .where(Trial.study_id == study, Trial.number.in_(numbers))
        .order_by(Trial.number, PointRow.step)
    )
    with database.reading() as session:
        for number, tokens, loss in session.execute(query):
            if math.isfinite(loss):
                found.setdefault(number, []).append((float(tokens), loss))
    return found


def learning_rates(database: Database, study: int, numbers: Sequence[int]) -> dict[int, float]:
    """The base learning rate of these trials, by number; of those that have one."""
    wanted = select(Trial.number, Trial.config).where(Trial.study_id == study, Trial.config.is_not(None))
    found: dict[int, float] = {}
    with database.reading() as session:
        for start in range(0, len(numbers), _AT_ONCE):
            rows = session.execute(wanted.where(Trial.number.in_(numbers[start : start + _AT_ONCE])))
            found |= {number: float(config["lr"]) for number, config in rows if _is_number(config.get("lr"))}
    return found


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _columns(row: Any) -> dict[str, Any]:
    return {column.key: getattr(row, column.key) for column in row.__mapper__.column_attrs}
