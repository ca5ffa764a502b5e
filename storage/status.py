"""How a study stands."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from storage.database import Database
from storage.schema import FINAL_STATES, TRIAL_STATES, Driver, StructureRow, Trial
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
        states = _states(session, row.id)
        spent = select(func.coalesce(func.sum(Trial.flops), 0.0), func.coalesce(func.sum(Trial.seconds), 0.0))
        flops, seconds = session.execute(spent.where(Trial.study_id == row.id)).one()
        alive = select(func.count()).where(Driver.study_id == row.id, Driver.state == "alive")
        return StudyStatus(
            study=row.name,
            states=states,
            budget=row.budget,
            done=sum(states[state] for state in FINAL_STATES),
            flops=flops,
            seconds=seconds,
            best=_best(session, row.id),
            drivers_alive=session.scalar(alive) or 0,
            started=row.created,
            now=database.now(session),
            url_shown=database.url_shown,
        )


def _states(session: Session, study: int) -> dict[str, int]:
    counts = select(Trial.state, func.count()).where(Trial.study_id == study).group_by(Trial.state)
    found = dict(session.execute(counts).all())
    return {state: found.get(state, 0) for state in TRIAL_STATES}


def _best(session: Session, study: int) -> Best | None:
    measured = Trial.state.in_(("completed", "truncated"))
    rows = select(Trial.number, StructureRow.name, Trial.loss, Trial.value, Trial.width)
    best = session.execute(
        rows.join(StructureRow, StructureRow.id == Trial.structure_id)
        .where(Trial.study_id == study, measured, StructureRow.key != "dense")
        .order_by(Trial.value.desc().nulls_last(), Trial.loss, Trial.number)
        .limit(1)
    ).first()
    return None if best is None else Best(*best)  # type: ignore[arg-type]
