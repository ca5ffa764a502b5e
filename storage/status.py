"""How a study stands."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from storage import queries
from storage.database import Database
from storage.filters import Filters
from storage.schema import FINAL_STATES, TRIAL_STATES, Driver, StructureRow, Study, Total, Trial
from storage.studies import find_study


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
        row = find_study(database, session, study)
        totals = _totals(session, row.id)
        states: dict[str, int] = {state: totals[state][0] if state in totals else 0 for state in TRIAL_STATES}
        alive = select(func.count()).where(Driver.study_id == row.id, Driver.state == "alive")
        return StudyStatus(
            study=row.name,
            states=states,
            budget=row.budget,
            done=sum(states[state] for state in FINAL_STATES),
            flops=math.fsum(flops for _, flops, _ in totals.values()),
            seconds=math.fsum(seconds for *_, seconds in totals.values()),
            best=_best(session, row),
            drivers_alive=session.scalar(alive) or 0,
            started=row.created,
            now=database.now(session),
            url_shown=database.url_shown,
        )


def _totals(session: Session, study: int) -> dict[str, tuple[int, float, float]]:
    """Trials, FLOPs and seconds by state."""
    sums = select(Total.state, func.sum(Total.trials), func.sum(Total.flops), func.sum(Total.seconds))
    rows = session.execute(sums.where(Total.study_id == study).group_by(Total.state))
    return {state: (trials, flops, seconds) for state, trials, flops, seconds in rows}


def _best(session: Session, study: Study) -> Best | None:
    """From the index on values; while there are none, from the leaders of the structures."""
    columns = (Trial.number, StructureRow.name, Trial.loss, Trial.value, Trial.width)
    dense = select(StructureRow.id).where(StructureRow.key == "dense").scalar_subquery()
    valued = (
        select(*columns)
        .join(StructureRow, StructureRow.id == Trial.structure_id)
        .where(Trial.study_id == study.id, Trial.value.is_not(None), Trial.structure_id != func.coalesce(dense, 0))
        .order_by(Trial.value.desc(), Trial.number)
        .limit(1)
    )
    leaders = queries.best(Filters(study=study.name)).statement.where(StructureRow.key != "dense").limit(1)
    best = session.execute(valued).first() or session.execute(leaders.with_only_columns(*columns)).first()
    return None if best is None else Best(*best)  # type: ignore[arg-type]
