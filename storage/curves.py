"""The curves of finished trials, as the laws take them.

A run that was stopped early is a censored observation of what it would have come to at its budget: all that is known is a
bound, which its loss would not have gone below (`schema.Decision`). It enters with the bound as its last point: left out, it
would make its structure look better than it is; as it was when it stopped, worse, since its size is meant for the budget.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator

from sqlalchemy import Select, select

from storage.database import Database
from storage.laws import Run
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
    query = (
        select(Trial.number, StructureRow.key, Trial.state, PointRow.flops, PointRow.loss, PointRow.seconds, PointRow.tokens)
        .join(PointRow, PointRow.trial_id == Trial.id)
        .join(StructureRow, StructureRow.id == Trial.structure_id)
        .where(Trial.study_id == study.id, Trial.state.in_(MEASURED), ~PointRow.warmup)
        .order_by(Trial.number, PointRow.step)
    )
    if kind is not None:
        query = query.where(Trial.kind == kind)
    if structures is not None:
        query = query.where(StructureRow.key.in_(structures))
    found: list[Run] = []
    for piece in _pieces(query, numbers):
        found += _read(database, study, piece)
    return found


def by_chunks(database: Database, study: StudyRecord, structures: Collection[str]) -> Iterator[list[Run]]:
    """All curves of some structures, a few structures at a time: memory does not grow with the study."""
    keys = sorted(structures)
    for start in range(0, len(keys), CHUNK):
        yield runs(database, study, structures=keys[start : start + CHUNK])


def measured(database: Database, study: StudyRecord) -> dict[str, tuple[int, float]]:
    """Number and FLOPs of the measured trials of each structure, by key: they change when its curves do."""
    rows = (
        select(StructureRow.key, Total.trials, Total.flops)
        .join(StructureRow, StructureRow.id == Total.structure_id)
        .where(Total.study_id == study.id, Total.state.in_(MEASURED))
    )
    found: dict[str, tuple[int, float]] = {}
    with database.reading() as session:
        for key, trials, flops in session.execute(rows):
            before = found.get(key, (0, 0.0))
            found[key] = before[0] + trials, before[1] + flops
    return found


def _pieces(query: Select, numbers: Collection[int] | None) -> Iterator[Select]:  # type: ignore[type-arg]
    """The query, in pieces that a backend takes: SQLite has a limit on parameters."""
    if numbers is None:
        yield query
        return
    wanted = sorted(numbers)
    for start in range(0, len(wanted), 10 * CHUNK):
        yield query.where(Trial.number.in_(wanted[start : start + 10 * CHUNK]))


def _bounds(database: Database, study: StudyRecord) -> dict[int, tuple[float, float]]:
    """(budget, least loss possible there) of the trials that were stopped early, by number."""
    rows = (
        select(Trial.number, Decision.budget, Decision.bound)
        .join(Trial, Trial.id == Decision.trial_id)
        .where(Trial.study_id == study.id, Trial.state == "truncated", Decision.stopped)
    )
    with database.reading() as session:
        return {number: (budget, bound) for number, budget, bound in session.execute(rows)}


def _read(database: Database, study: StudyRecord, query: Select) -> list[Run]:  # type: ignore[type-arg]
    curves: dict[tuple[int, str], list[tuple[float, ...]]] = {}
    truncated = False
    with database.reading() as session:
        for number, key, state, *point in session.execute(query):
            curves.setdefault((number, key), []).append(tuple(point))
            truncated = truncated or state == "truncated"
    bounds, found = _bounds(database, study) if truncated else {}, []
    for (number, key), points in curves.items():
        if number in bounds:
            points.append(_censored(points[-1], *bounds[number]))
        compute, loss, seconds, tokens = (list(column) for column in zip(*points, strict=True))
        found.append(Run(key, str(number), compute, loss, seconds, compute[-1] / tokens[-1]))  # type: ignore[arg-type]
    return found


def _censored(last: tuple[float, ...], budget: float, bound: float) -> tuple[float, ...]:
    """A point at the budget of a run that was stopped at its `last`: seconds and tokens in proportion."""
    compute, _, seconds, tokens = last
    return budget, bound, seconds * budget / compute, tokens * budget / compute
