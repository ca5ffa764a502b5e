"""A study in memory, as columns of numbers: what filters, sorts and plots of 100 000 trials are fast on.

Losses in nats per token, compute in FLOPs of the study's convention, times in epoch seconds, `value` the log compute
multiplier. A number that a trial does not have is NaN, a structure that it does not have is -1.
"""

from __future__ import annotations

import threading
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
from sqlalchemy import ColumnElement, Select, case, func, select
from sqlalchemy.orm import Session

from storage.schema import TRIAL_KINDS, TRIAL_STATES, PointRow, StructureRow, Trial

Array = npt.NDArray[np.float64]
Index = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]

MEASURED = tuple(TRIAL_STATES.index(state) for state in ("completed", "truncated"))
T = TypeVar("T")
_CHUNK = 2_000
_REMEMBERED = 10
_KEEPING = threading.Lock()
_MOST_RELOADED = 500
"""Above this many changed trials, all points are read again."""

NUMBERS = ("number", "rung", "width", "attempts", "steps", "tokens", "flops", "loss", "value", "seconds", "created", "finished")
THETA = ("theta_xa", "theta_xb", "theta_xab", "theta_ya", "theta_yb", "theta_yab", "theta_ab")


@dataclass(frozen=True, eq=False)
class Structures:
    """The structures of a study: keys and names, (S,) each; theta (S, 7); omega, psi, nu (S, 3)."""

    ids: Index
    keys: list[str]
    names: list[str]
    theta: Array
    place: Array

    @cached_property
    def row(self) -> dict[str, int]:
        """The row of each key."""
        return {key: row for row, key in enumerate(self.keys)}

    @cached_property
    def folded(self) -> list[tuple[str, str]]:
        """Names and keys without regard to case."""
        return [(name.casefold(), key.casefold()) for name, key in zip(self.names, self.keys, strict=True)]

    @cached_property
    def full(self) -> Mask:
        """(S,) no parameter sharing and full rank: omega = 0 and psi = 1."""
        return np.asarray((self.place[:, 0] < 1e-6) & (self.place[:, 1] > 1 - 1e-6))


@dataclass(frozen=True, eq=False)
class Snapshot:
    """The trials of a study by number, (T,) per column, at one moment.

    Attributes:
        ids: rows of the ledger. kind, state: places in TRIAL_KINDS and TRIAL_STATES. structure: row of `structures`.
        numbers: the columns named in NUMBERS, NaN where unknown.
        version: changes when anything here does.
    """

    study: int
    ids: Index
    kind: npt.NDArray[np.int8]
    state: npt.NDArray[np.int8]
    structure: npt.NDArray[np.int32]
    numbers: dict[str, Array]
    structures: Structures
    version: str

    def __len__(self) -> int:
        return len(self.ids)

    @cached_property
    def _memory(self) -> dict[Any, Any]:
        return {}

    def remembered(self, what: Any, make: Callable[[], T]) -> T:
        """What `make` makes of this snapshot, made once; the latest few such things are kept."""
        found: T | None = self._memory.get(what)
        if found is None:
            found = make()
            with _KEEPING:
                self._memory[what] = found
                while len(self._memory) > _REMEMBERED:
                    self._memory.pop(next(iter(self._memory)))
        return found

    @cached_property
    def orders(self) -> dict[str, Any]:
        """What `dashboards.web.ordering` has sorted of this snapshot, by column."""
        return {}

    @cached_property
    def measured(self) -> Mask:
        """(T,) trials whose results count: completed or truncated."""
        return np.asarray(np.isin(self.state, MEASURED) & (self.structure >= 0))

    @cached_property
    def fit_version(self) -> str:
        """Changes when the laws may."""
        return f"{zlib.crc32(self.ids[self.measured].tobytes()):08x}-{int(self.measured.sum())}"

    def place(self, quantity: str) -> Array:
        """(T,) omega, psi or nu of each trial's structure."""
        column = self.structures.place[:, ("omega", "psi", "nu").index(quantity)]
        return np.where(self.structure >= 0, np.append(column, np.nan)[self.structure], np.nan)

    def name(self, row: int) -> str:
        """The name of a trial's structure, empty while it has none."""
        number = int(self.structure[row])
        return self.structures.names[number] if number >= 0 else ""


@dataclass(frozen=True, eq=False)
class Points:
    """All evaluations of a study after the warmup, (P,) each: row of the trial, FLOPs, loss."""

    trial: npt.NDArray[np.int32]
    flops: npt.NDArray[np.float32]
    loss: npt.NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.trial)


def _code(column: Any, names: Sequence[str]) -> ColumnElement[int]:
    return case({name: place for place, name in enumerate(names)}, value=column, else_=-1)


def _fetched(session: Session, query: Select[Any], columns: int) -> Iterator[Array]:
    """The rows of a query of numbers, (n, columns) at a time, straight from the driver.

    Few at a time, for as Python's numbers they need ten times the memory.
    """
    result = session.connection().execute(query)
    cursor = result.cursor
    assert cursor is not None
    while rows := cursor.fetchmany(_CHUNK):
        yield np.array(rows, dtype=np.float64).reshape(len(rows), columns)
    result.close()


def _placed(parts: Iterator[Array]) -> Iterator[tuple[slice, Array]]:
    """Each part with where it goes."""
    start = 0
    for part in parts:
        yield slice(start, start + len(part)), part
        start += len(part)


def read_snapshot(session: Session, study: int) -> Snapshot:
    """The trials of a study as they are now."""
    numbers = [getattr(Trial, name) for name in NUMBERS]
    codes = (_code(Trial.kind, TRIAL_KINDS), _code(Trial.state, TRIAL_STATES))
    query = select(Trial.id, *codes, Trial.structure_id, *numbers).where(Trial.study_id == study).order_by(Trial.number)
    width = 4 + len(NUMBERS)
    count = session.scalar(select(func.count()).select_from(Trial).where(Trial.study_id == study)) or 0
    table = np.empty((width, count))
    for place, rows in _placed(_fetched(session, query, width)):
        table[:, place] = rows.T
    ids, kind, state = table[0].astype(np.int64), table[1].astype(np.int8), table[2].astype(np.int8)
    structures = _structures(session, study)
    owner = np.nan_to_num(table[3], nan=-1).astype(np.int64)
    structure = np.where(owner < 0, -1, np.searchsorted(structures.ids, owner)).astype(np.int32)
    columns = {name: table[4 + place] for place, name in enumerate(NUMBERS)}
    version = f"{zlib.crc32(table.data):08x}"
    return Snapshot(study, ids, kind, state, structure, columns, structures, version)


def _structures(session: Session, study: int) -> Structures:
    mine = select(Trial.structure_id).where(Trial.study_id == study, Trial.structure_id.is_not(None)).distinct()
    numbers = [getattr(StructureRow, name) for name in (*THETA, "omega", "psi", "nu")]
    query = select(StructureRow.id, StructureRow.key, StructureRow.name, *numbers).where(StructureRow.id.in_(mine))
    rows = session.execute(query.order_by(StructureRow.id)).all()
    values = np.array([row[3:] for row in rows], dtype=np.float64).reshape(len(rows), len(numbers))
    ids = np.array([row[0] for row in rows], dtype=np.int64)
    return Structures(ids, [row[1] for row in rows], [row[2] for row in rows], values[:, :7], values[:, 7:])


def read_points(session: Session, now: Snapshot, before: Snapshot | None = None, known: Points | None = None) -> Points:
    """The points of a snapshot; what `before` had and has not changed since is taken from `known`."""
    if before is None or known is None:
        return _points(session, now, PointRow.trial_id.in_(select(Trial.id).where(Trial.study_id == now.study)))
    changed = _changed(now, before)
    if len(changed) > _MOST_RELOADED:
        return read_points(session, now)
    new = _points(session, now, PointRow.trial_id.in_([int(value) for value in now.ids[changed]]))
    kept = ~np.isin(known.trial, changed)
    both = (np.concatenate([getattr(known, name)[kept], getattr(new, name)]) for name in Points.__dataclass_fields__)
    return Points(*both)


def _changed(now: Snapshot, before: Snapshot) -> npt.NDArray[np.int32]:
    """Rows of trials that are new, or have gone on. Rows of the ledger stay in place: numbers only grow."""
    same = min(len(now), len(before))
    moved = np.zeros(len(now), dtype=np.bool_)
    moved[same:] = True
    for name in ("attempts", "steps", "tokens"):
        moved[:same] |= now.numbers[name][:same] != before.numbers[name][:same]
    moved[:same] |= now.state[:same] != before.state[:same]
    return np.flatnonzero(moved).astype(np.int32)


def _points(session: Session, now: Snapshot, which: ColumnElement[bool]) -> Points:
    columns: list[Any] = [PointRow.trial_id, PointRow.flops, PointRow.loss]
    query = select(*columns).where(which, ~PointRow.warmup)
    order = np.argsort(now.ids)
    count = session.scalar(select(func.count()).select_from(PointRow).where(which, ~PointRow.warmup)) or 0
    trial, numbers = np.empty(count, dtype=np.int32), np.empty((2, count), dtype=np.float32)
    for where, rows in _placed(_fetched(session, query, 3)):
        place = order[np.minimum(np.searchsorted(now.ids, rows[:, 0], sorter=order), len(order) - 1)]
        trial[where] = np.where(now.ids[place] == rows[:, 0], place, -1)
        numbers[:, where] = rows[:, 1:].T
    known = trial >= 0  # not of a trial that was added since the snapshot
    if known.all():
        return Points(trial, *numbers)
    return Points(trial[known], *numbers[:, known])
