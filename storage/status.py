"""How a study stands."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from sqlalchemy import Connection, bindparam, func, select

from storage import queries
from storage.database import Database
from storage.filters import Filters
from storage.schema import FINAL_STATES, TRIAL_STATES, Driver, StructureRow, Study, Total, Trial
from storage.studies import unknown_study


@dataclass(frozen=True, slots=True)
class Best:
    """The best structured trial so far: the highest value, or the lowest loss while no value is known."""

    number: int
    structure: str
    loss: float
    value: float | None
    width: int


@dataclass(frozen=True, slots=True)
class StudyStatus:
    """How a study stands at one moment.

    `states` counts trials by state, every state present; `done` of `budget` have ended. flops and seconds are
    those of all attempts. `started` and `now` are epoch seconds of the database's clock; `drivers_alive`
    counts leases, also those about to expire.
    """

    study: str
    states: Mapping[str, int]
    budget: int
    done: int
    flops: float
    seconds: float
    best: Best | None
    drivers_alive: int
    started: float
    now: float
    url_shown: str


def status(database: Database, study: str) -> StudyStatus:
    """The state of a study, in one snapshot. Raises StudyError where there is no such study."""
    with database.reading() as session:
        connection = session.connection()
        row = connection.execute(_STUDY, {"name": study}).first()
        if row is None:
            raise unknown_study(database, session, study)
        totals = connection.execute(_TOTALS, {"study": row.id}).all()
        states: dict[str, int] = dict.fromkeys(TRIAL_STATES, 0) | {total.state: total.trials for total in totals}
        return StudyStatus(
            study=row.name,
            states=states,
            budget=row.budget,
            done=sum(states[state] for state in FINAL_STATES),
            flops=math.fsum(total.flops for total in totals),
            seconds=math.fsum(total.seconds for total in totals),
            best=_best(connection, row.id, study),
            drivers_alive=row.alive,
            started=row.created,
            now=database.now(connection),
            url_shown=database.url_shown,
        )


_BEST = (Trial.number, StructureRow.name, Trial.loss, Trial.value, Trial.width)
_ALIVE = select(func.count()).where(Driver.study_id == Study.id, Driver.state == "alive").scalar_subquery()

# Made once: a page asks every second, and to build a statement takes longer than to answer it.
_STUDY = select(Study.id, Study.name, Study.budget, Study.created, _ALIVE.label("alive")).where(Study.name == bindparam("name"))
_TOTALS = (
    select(
        Total.state,
        func.sum(Total.trials).label("trials"),
        func.sum(Total.flops).label("flops"),
        func.sum(Total.seconds).label("seconds"),
    )
    .where(Total.study_id == bindparam("study"))
    .group_by(Total.state)
)
_DENSE = select(StructureRow.id).where(StructureRow.key == "dense").scalar_subquery()
_VALUED = (
    select(*_BEST)
    .join(StructureRow, StructureRow.id == Trial.structure_id)
    .where(Trial.study_id == bindparam("study"), Trial.value.is_not(None), Trial.structure_id != func.coalesce(_DENSE, 0))
    .order_by(Trial.value.desc(), Trial.number)
    .limit(1)
)


def _best(connection: Connection, study: int, name: str) -> Best | None:
    """From the index on values; while there are none, from the leaders of the structures."""
    best = connection.execute(_VALUED, {"study": study}).first()
    if best is None:
        leaders = queries.best(Filters(study=name)).statement.where(StructureRow.key != "dense").limit(1)
        best = connection.execute(leaders.with_only_columns(*_BEST)).first()
    return None if best is None else Best(*best)  # type: ignore[arg-type]
