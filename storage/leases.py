"""Leases: who works on a study, and who has gone.

A driver renews its lease on the database's clock. One that stops is declared dead by any peer, and its trials
go back to the queue; if it wakes up again it is fenced: nothing it says about its trials is recorded. A
driver whose process is gone from the very machine that looks is declared dead at once, without waiting for
its lease.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import select, update
from sqlalchemy.orm import Session

from space.errors import RunError
from storage.charges import MAX_ATTEMPTS, preempt_orphans
from storage.database import Database
from storage.provenance import versions
from storage.schema import Driver

LEASE_SECONDS = 60.0


class FencedError(RunError):
    """This driver was declared dead by a peer and must stop; its trials are someone else's now."""


@dataclass(frozen=True, slots=True)
class DriverInfo:
    """A process: `machine` tells one boot of a machine and one space of process ids from another."""

    host: str
    machine: str
    pid: int
    process_start: str

    @classmethod
    def here(cls, pid: int | None = None) -> DriverInfo:
        """This process, or another one of this machine."""
        number = os.getpid() if pid is None else pid
        return cls(socket.gethostname(), _machine(), number, _process_start(number) or "unknown")

    def is_gone(self) -> bool:
        """Whether this process surely no longer runs. Of a process of another machine nothing is known."""
        if self.machine != _machine():
            return False
        start = _process_start(self.pid)
        return start is None or (start != self.process_start and "unknown" not in (start, self.process_start))


class Leases:
    """The drivers of one study. Safe for threads and processes: each method is one transaction."""

    def __init__(self, database: Database, study_id: int, max_attempts: int = MAX_ATTEMPTS) -> None:
        self.database = database
        self.study_id = study_id
        self.max_attempts = max_attempts

    def join(self, info: DriverInfo | None = None) -> int:
        """Register a driver, this process unless `info` says otherwise, under a new lease. Returns its id."""
        who = info or DriverInfo.here()
        with self.database.session() as session:
            now = self.database.now(session)
            driver = Driver(
                study_id=self.study_id,
                host=who.host,
                machine=who.machine,
                pid=who.pid,
                process_start=who.process_start,
                state="alive",
                joined=now,
                heartbeat=now,
                versions=versions(),
            )
            session.add(driver)
            session.flush()
            return driver.id

    def heartbeat(self, driver: int, place: Mapping[str, Any] | None = None) -> bool:
        """Renew a lease, and note where the driver's trials run. False: the driver is fenced (or has left) and must stop."""
        with self.database.session() as session:
            alive = update(Driver).where(Driver.id == driver, Driver.state == "alive")
            now = self.database.now(session)
            renewed = session.execute(alive.values(heartbeat=now, place=place).returning(Driver.id))
            return renewed.first() is not None

    def leave(self, driver: int) -> None:
        """End a lease in good order. Trials it still runs go back to the queue, and count as no crash."""
        with self.database.session() as session:
            self.database.lock(session, self.study_id)
            session.execute(update(Driver).where(Driver.id == driver, Driver.state == "alive").values(state="closed"))
            preempt_orphans(session, self.study_id, self.database.now(session), self.max_attempts)

    def reap(self, lease_seconds: float = LEASE_SECONDS, driver: int | None = None) -> list[int]:
        """Declare dead every driver whose lease ran out or whose process is gone, and requeue its trials.

        `driver` is the one that asks, which is alive however long it waited for the lock. Drivers and trials change in one
        transaction. A trial whose attempts have crashed `max_attempts` times becomes failed. Returns the ids of the drivers
        declared dead.
        """
        with self.database.session() as session:
            self.database.lock(session, self.study_id)
            now = self.database.now(session)
            others = [other for other in self._alive(session) if other.id != driver]
            dead = [other for other in others if now - other.heartbeat > lease_seconds or _info(other).is_gone()]
            for other in dead:
                other.state = "dead"
            session.flush()
            preempt_orphans(session, self.study_id, now, self.max_attempts)
            return [other.id for other in dead]

    def _alive(self, session: Session) -> list[Driver]:
        mine = select(Driver).where(Driver.study_id == self.study_id, Driver.state == "alive")
        return list(session.scalars(mine.order_by(Driver.id)))


def _info(driver: Driver) -> DriverInfo:
    return DriverInfo(driver.host, driver.machine, driver.pid, driver.process_start)


def _machine() -> str:
    """Boot id and process-id namespace where Linux tells them, else the host's name."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        return f"{boot} {Path('/proc/self/ns/pid').readlink()}"
    except OSError:
        return socket.gethostname()


def _process_start(pid: int) -> str | None:
    """When a process started, in ticks; None where there is none, `unknown` where nobody tells."""
    try:
        status = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return "unknown" if _exists(pid) else None
    fields = status.rpartition(")")[2].split()
    ended = fields[0] in "ZX"
    return None if ended else fields[19]


def _exists(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except OSError as error:
        return not isinstance(error, ProcessLookupError)
    return True
