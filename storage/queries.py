"""Questions to the database, answered as pandas frames or typed records. Nothing here writes.

Frames have the same columns everywhere (command line, web page, Parquet), also when they are empty. Compute
is in FLOPs of the study's convention, losses in nats per token, `seconds` a duration, `created` and
`finished` epoch seconds, `value` the log compute multiplier.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sqlalchemy import ColumnElement, Select, case, func
from sqlalchemy import select as choose

from space.edges import EDGES
from space.errors import ConfigError
from space.structure import Structure
from storage.database import Database
from storage.free_sql import sql
from storage.schema import TRIAL_KINDS, TRIAL_STATES, PointRow, StructureRow, Study, Trial
from storage.status import StudyStatus, status
from storage.studies import find_study

if TYPE_CHECKING:
    import pandas as pd

__all__ = [
    "Filters",
    "StudyStatus",
    "points_frame",
    "select",
    "sql",
    "status",
    "studies_frame",
    "trials_frame",
]

_SLACK = 1e-9  # exponents are fractions rounded to binary

_THETA = {f"theta_{edge}": "float64" for edge in EDGES}
_EXPONENTS = {"omega": "float64", "psi": "float64", "nu": "float64"}
TRIAL_COLUMNS: dict[str, str] = {
    "number": "int64",
    "kind": "str",
    "structure": "str",
    "key": "str",
    **_THETA,
    **_EXPONENTS,
    "rung": "Int64",
    "width": "Int64",
    "state": "str",
    "attempts": "int64",
    "steps": "int64",
    "tokens": "int64",
    "flops": "float64",
    "loss": "float64",
    "seconds": "float64",
    "value": "float64",
    "optuna_number": "Int64",
    "created": "float64",
    "finished": "float64",
}
"""Columns of a trials frame and their types. What a reservation without a proposal lacks is missing."""

POINT_COLUMNS: dict[str, str] = {
    "number": "int64",
    "structure": "str",
    "key": "str",
    "rung": "int64",
    "width": "int64",
    "step": "int64",
    "tokens": "int64",
    "flops": "float64",
    "loss": "float64",
    "train_loss": "float64",
    "seconds": "float64",
    "warmup": "bool",
}
"""Columns of a points frame and their types."""

STUDY_COLUMNS: dict[str, str] = {
    "study": "str",
    "budget": "int64",
    "trials": "int64",
    "finished": "int64",
    "flops": "float64",
    "seconds": "float64",
    "seed": "int64",
    "flop_convention": "str",
    "target_compute": "float64",
    "corpus_fingerprint": "str",
    "created": "float64",
}
"""Columns of the studies frame and their types."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Filters:
    """Which trials: all conditions that are set must hold; ranges include both ends.

    omega, psi and nu are nominal (those of the structure's theta); `structure` is any text that
    `Structure.parse` reads.
    """

    study: str | None = None
    structure: str | None = None
    kind: str | None = None
    state: str | None = None
    width: int | None = None
    rung: int | None = None
    omega: tuple[float, float] | None = None
    psi: tuple[float, float] | None = None
    nu: tuple[float, float] | None = None

    def __post_init__(self) -> None:
        """Raises ConfigError for a state, kind or range that cannot be, StructureError for no structure."""
        for name, given, allowed in (("state", self.state, TRIAL_STATES), ("kind", self.kind, TRIAL_KINDS)):
            if given is not None and given not in allowed:
                raise ConfigError(f"{name} is {given!r}; allowed: {', '.join(allowed)}")
        for name in _EXPONENTS:
            bounds = getattr(self, name)
            if bounds is not None and not bounds[0] <= bounds[1]:
                raise ConfigError(f"{name} is {bounds[0]} to {bounds[1]}; give a range, the lower end first")
        for name, number in (("width", self.width), ("rung", self.rung)):
            if number is not None and not 0 <= number < 2**31:
                raise ConfigError(f"{name} is {number}; give an integer from 0 to {2**31 - 1}")
        if self.structure is not None:
            Structure.parse(self.structure)


def trials_frame(database: Database, study: str) -> pd.DataFrame:
    """All trials of a study by number: `TRIAL_COLUMNS`. Raises StudyError where there is no such study."""
    with database.reading() as session:
        wanted = _trials().where(Trial.study_id == find_study(database, session, study).id)
        rows = session.execute(wanted.order_by(Trial.number)).all()
    return _frame(rows, TRIAL_COLUMNS)


def points_frame(database: Database, study: str) -> pd.DataFrame:
    """Its evaluations by trial and step: `POINT_COLUMNS`. Raises StudyError where there is no such study."""
    point = (getattr(PointRow, name) for name in ("step", "tokens", "flops", "loss", "train_loss", "seconds", "warmup"))
    wanted = (
        choose(Trial.number, StructureRow.name, StructureRow.key, Trial.rung, Trial.width, *point)
        .join(Trial, Trial.id == PointRow.trial_id)
        .join(StructureRow, StructureRow.id == Trial.structure_id)
    )
    with database.reading() as session:
        mine = wanted.where(Trial.study_id == find_study(database, session, study).id)
        rows = session.execute(mine.order_by(Trial.number, PointRow.step)).all()
    return _frame(rows, POINT_COLUMNS)


def studies_frame(database: Database) -> pd.DataFrame:
    """All studies, oldest first: `STUDY_COLUMNS`; `trials` and `finished` count rows of the ledger."""
    finished = func.sum(case((Trial.finished.is_not(None), 1), else_=0))
    spent = (func.coalesce(func.sum(column), 0.0) for column in (Trial.flops, Trial.seconds))
    recorded = (
        Study.seed,
        Study.flop_convention,
        Study.target_compute,
        Study.corpus_fingerprint,
        Study.created,
    )
    wanted = (
        choose(Study.name, Study.budget, func.count(Trial.id), func.coalesce(finished, 0), *spent, *recorded)
        .outerjoin(Trial, Trial.study_id == Study.id)
        .group_by(Study.id)
        .order_by(Study.created, Study.id)
    )
    with database.reading() as session:
        rows = session.execute(wanted).all()
    return _frame(rows, STUDY_COLUMNS)


def select(database: Database, filters: Filters) -> pd.DataFrame:
    """The trials that match, of one study or of all: `study`, then `TRIAL_COLUMNS`, by study and number.

    Raises:
        StudyError: a study is given that does not exist.
    """
    with database.reading() as session:
        if filters.study is not None:
            find_study(database, session, filters.study)
        wanted = _trials(Study.name).join(Study, Study.id == Trial.study_id).where(*_conditions(filters))
        rows = session.execute(wanted.order_by(Study.created, Study.id, Trial.number)).all()
    return _frame(rows, {"study": "str"} | TRIAL_COLUMNS)


def _trials(*first: Any) -> Select[Any]:
    """Trials with their structures, in the order of `TRIAL_COLUMNS`, after the columns given."""
    theta = (getattr(StructureRow, name.lower()) for name in _THETA)
    exponents = (StructureRow.omega, StructureRow.psi, StructureRow.nu)
    spent = (Trial.steps, Trial.tokens, Trial.flops, Trial.loss, Trial.seconds, Trial.value)
    return (
        choose(
            *first,
            Trial.number,
            Trial.kind,
            StructureRow.name,
            StructureRow.key,
            *theta,
            *exponents,
            Trial.rung,
        )
        .add_columns(Trial.width, Trial.state, Trial.attempts, *spent)
        .add_columns(Trial.optuna_number, Trial.created, Trial.finished)
        .select_from(Trial)
        .outerjoin(StructureRow, StructureRow.id == Trial.structure_id)
    )


def _conditions(filters: Filters) -> list[ColumnElement[bool]]:
    equal: dict[Any, Any] = {
        Study.name: filters.study,
        StructureRow.key: None if filters.structure is None else Structure.parse(filters.structure).key,
        Trial.kind: filters.kind,
        Trial.state: filters.state,
        Trial.width: filters.width,
        Trial.rung: filters.rung,
    }
    ranges = {StructureRow.omega: filters.omega, StructureRow.psi: filters.psi, StructureRow.nu: filters.nu}
    found: list[ColumnElement[bool]] = [column == given for column, given in equal.items() if given is not None]
    for column, bounds in ranges.items():
        if bounds is not None:
            found.append(column.between(bounds[0] - _SLACK, bounds[1] + _SLACK))
    return found


def _frame(rows: Sequence[Any], columns: dict[str, str]) -> pd.DataFrame:
    """Rows as a frame of exactly these columns and types; missing numbers are NaN."""
    import pandas as pd

    return pd.DataFrame.from_records([tuple(row) for row in rows], columns=list(columns)).astype(columns)
