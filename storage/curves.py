"""The curves of finished trials, as the laws take them.

A run that was stopped early is a censored observation of what it would have come to at its budget: all that is known is a
bound, which its loss would not have gone below (`schema.Decision`). It enters with the bound as its last point: left out, it
would make its structure look better than it is; as it was when it stopped, worse, since its size is meant for the budget.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from itertools import chain, pairwise

import numpy as np
from sqlalchemy import ColumnElement, func, select
from sqlalchemy.orm import Session

from storage.database import Database
from storage.laws import Run
from storage.laws.run import Array
from storage.schema import Decision, PointRow, StructureRow, Total, Trial
from storage.studies import StudyRecord

MEASURED = ("completed", "truncated")
"""Final states whose curves are legitimate."""

CHUNK = 100


def runs(
    database: Database,
    study: StudyRecord,
    kind: str | None = None,
    *,
    numbers: Collection[int] | None = None,
    structures: Collection[str] | None = None,
) -> list[Run]:
    """The curves of measured trials, by number, their points after the warmup; `run_id` is the trial's number.

    Args:
        kind: of trials, None for all.
        numbers: trials to read, None for all.
        structures: keys of structures to read, None for all.
    """
    wanted: list[ColumnElement[bool]] = [Trial.state.in_(MEASURED)]
    if kind is not None:
        wanted.append(Trial.kind == kind)
    if structures is None:
        wanted.append(Trial.study_id == study.id)
    else:  # by the index of structures, not by that of a study, which has all of them
        mine = select(StructureRow.id).where(StructureRow.key.in_(structures))
        wanted += [Trial.structure_id.in_(mine), Trial.study_id + 0 == study.id]
    return [run for piece in _pieces(numbers) for run in _read(database, [*wanted, *piece])]


def by_chunks(database: Database, study: StudyRecord, structures: Collection[str]) -> Iterator[list[Run]]:
    """All curves of some structures, a few structures at a time: memory does not grow with the study."""
    keys = sorted(structures)
    for start in range(0, len(keys), CHUNK):
        yield runs(database, study, structures=keys[start : start + CHUNK])


def measured(database: Database, study: StudyRecord) -> dict[str, tuple[int, float]]:
    """Number and FLOPs of the measured trials of each structure, by key: they change when its curves do."""
    rows = (
        select(StructureRow.key, func.sum(Total.trials), func.sum(Total.flops))
        .join(StructureRow, StructureRow.id == Total.structure_id)
        .where(Total.study_id == study.id, Total.state.in_(MEASURED))
        .group_by(StructureRow.id, StructureRow.key)
        .having(func.sum(Total.trials) > 0)
    )
    with database.reading() as session:  # ten digits, for a sum depends on its order in the last ones
        return {key: (trials, float(f"{flops:.9e}")) for key, trials, flops in session.connection().execute(rows).all()}


def _pieces(numbers: Collection[int] | None) -> Iterator[list[ColumnElement[bool]]]:
    """The condition on numbers, in pieces that a backend takes: SQLite has a limit on parameters."""
    if numbers is None:
        yield []
        return
    wanted = sorted(numbers)
    for start in range(0, len(wanted), 10 * CHUNK):
        yield [Trial.number.in_(wanted[start : start + 10 * CHUNK])]


def _read(database: Database, wanted: list[ColumnElement[bool]]) -> list[Run]:
    """The curves of the trials that meet the conditions: rows become arrays at once, since there may be a million."""
    trials = select(Trial.number, StructureRow.key, Trial.state).join(StructureRow, StructureRow.id == Trial.structure_id)
    points = (
        select(Trial.number, PointRow.flops, PointRow.loss, PointRow.seconds, PointRow.tokens)
        .join(PointRow, PointRow.trial_id == Trial.id)
        .where(*wanted, ~PointRow.warmup)
        .order_by(Trial.number, PointRow.step)
    )
    with database.reading() as session:
        known = {number: (key, state) for number, key, state in session.connection().execute(trials.where(*wanted))}
        cursor = session.connection().execute(points).cursor
        assert cursor is not None
        rows = cursor.fetchall()  # the driver's own tuples: to wrap a million of them takes as long as to read them
        stopped = any(state == "truncated" for _, state in known.values())
        bounds = _bounds(session, wanted) if stopped else {}
    table = np.fromiter(chain.from_iterable(rows), np.float64, 5 * len(rows)).reshape(-1, 5)
    found = []
    for curve in _split(table):
        number, (compute, loss, seconds, tokens) = int(curve[0, 0]), curve[:, 1:].T
        size = compute.item(-1) / tokens.item(-1) if tokens.item(-1) else float("nan")
        if number in bounds:
            compute, loss, seconds = _censored(compute, loss, seconds, *bounds[number])
        found.append(Run(known[number][0], str(number), compute, loss, seconds, size))
    return found


def _split(table: Array) -> Iterator[Array]:
    """The rows of each number, which stands first in them; equal ones follow one another."""
    ends = np.flatnonzero(np.diff(table[:, 0])) + 1
    for start, end in pairwise([0, *ends.tolist(), len(table)] if len(table) else []):
        yield table[start:end]


def _bounds(session: Session, wanted: list[ColumnElement[bool]]) -> dict[int, tuple[float, float]]:
    """(budget, least loss possible there) of those of the trials that were stopped early, by number."""
    rows = select(Trial.number, Decision.budget, Decision.bound).join(Trial, Trial.id == Decision.trial_id)
    stopped = rows.where(*wanted, Trial.state == "truncated", Decision.stopped)
    return {number: (budget, bound) for number, budget, bound in session.connection().execute(stopped)}


def _censored(compute: Array, loss: Array, seconds: Array, budget: float, bound: float) -> tuple[Array, Array, Array]:
    """A curve that was stopped, with its bound at the budget as its last point: seconds in proportion."""
    end = seconds[-1] * budget / compute[-1]
    return np.append(compute, budget), np.append(loss, bound), np.append(seconds, end)
