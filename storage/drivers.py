"""Who works on a study now, where their trials run, and what they wait for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import select

from storage.database import Database
from storage.schema import Driver
from storage.studies import find_study


@dataclass(frozen=True, slots=True)
class DriverAtWork:
    """A driver under its lease. `silent` is how long it has said nothing, in seconds.

    `place` has `address`, `resources` of a trial, the numbers of trials that are `waiting` for them and the `reason`; it is
    empty for a driver that has not said so yet.
    """

    id: int
    host: str
    pid: int
    silent: float
    place: Mapping[str, Any]


def drivers_at_work(database: Database, study: str) -> list[DriverAtWork]:
    """The drivers of a study under their leases, the longest at work first. Raises StudyError where there is no such study."""
    with database.reading() as session:
        row = find_study(database, session, study)
        alive = select(Driver).where(Driver.study_id == row.id, Driver.state == "alive").order_by(Driver.id)
        now = database.now(session)
        return [
            DriverAtWork(one.id, one.host, one.pid, max(0.0, now - one.heartbeat), one.place or {})
            for one in session.scalars(alive)
        ]
