"""Keeps snapshots up to date while somebody looks, and tells the pages when something has changed.

A thread looks at the database a few times a second. On SQLite it asks the file system whether the file or its log was
written; on PostgreSQL it asks for counts and sums. Only studies that were asked for lately are read again.
"""

from __future__ import annotations

import asyncio
import threading
import time
import zlib
from collections import defaultdict
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import func, select

from dashboards.web.ordering import prepare
from dashboards.web.snapshot import Points, Snapshot, read_points, read_snapshot
from space.errors import EinsearchError
from storage.database import Database
from storage.schema import Driver, Study, Trial

LOOK_SECONDS = 0.3
LATELY_SECONDS = 120.0
SMALL = 20_000
"""Up to so many trials a request reads the study again itself, where it has changed; beyond, the thread does."""

Stamp = tuple[Any, ...]


@dataclass
class _Kept:
    """What is known of one study, and when somebody last asked."""

    stamp: Stamp
    snapshot: Snapshot
    drivers: str
    asked: float
    cost: float
    read: float
    points: Points | None = None


class Watch:
    """Snapshots of the studies of one database. Threads may share it."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self._kept: dict[int, _Kept] = {}
        self._lock = threading.Lock()
        self._reading: dict[int, threading.RLock] = defaultdict(threading.RLock)
        self._listeners: dict[asyncio.Queue[None], asyncio.AbstractEventLoop] = {}
        self._first: dict[int, Future[_Kept]] = {}
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="einsearch-read")
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._look, name="einsearch-watch", daemon=True)

    def start(self) -> None:
        """Begin to look; the newest study is read at once, so that the first visitor need not wait for it."""
        self._thread.start()

    def stop(self) -> None:
        """Stop looking."""
        self._end.set()
        self._thread.join()
        self._pool.shutdown(cancel_futures=True)

    def snapshot(self, study: int) -> Snapshot:
        """The study as it is now, or, where it is large, as it was at the last look."""
        return self._current(study).snapshot

    def ready(self, study: int, seconds: float) -> bool:
        """Whether the study is in memory; where it is not, it is read in the background, and waited for so long."""
        with self._lock:
            if study in self._kept:
                return True
            job = self._first.get(study)
            if job is None or job.done():
                job = self._first[study] = self._pool.submit(self._current, study)
        wait([job], seconds)
        with self._lock:
            return job.done() or study in self._kept

    def points(self, study: int) -> tuple[Snapshot, Points]:
        """The study and its points."""
        with self._reading[study]:
            kept = self._current(study)
            if kept.points is None:
                with self.database.reading() as session:
                    kept.points = read_points(session, kept.snapshot)
            return kept.snapshot, kept.points

    def versions(self, study: int) -> dict[str, str]:
        """What a page compares to know whether it is up to date."""
        kept = self._current(study)
        return {"trials": kept.snapshot.version, "drivers": kept.drivers}

    def listen(self) -> asyncio.Queue[None]:
        """A queue that gets an item whenever something may have changed; belongs to the running event loop."""
        queue: asyncio.Queue[None] = asyncio.Queue(maxsize=1)
        with self._lock:
            self._listeners[queue] = asyncio.get_running_loop()
        return queue

    def forget(self, queue: asyncio.Queue[None]) -> None:
        """Stop telling a queue."""
        with self._lock:
            self._listeners.pop(queue, None)

    def tell(self) -> None:
        """Wake everybody who listens."""
        with self._lock:
            for queue, loop in self._listeners.items():
                with suppress(RuntimeError):  # its loop has been closed meanwhile
                    loop.call_soon_threadsafe(_nudge, queue)

    def stamp(self, study: int) -> Stamp:
        """Something that changes whenever the database does."""
        path = self.database.location.path
        if path is not None:
            return tuple(_written(Path(f"{path}{end}")) for end in ("", "-wal"))
        sums = (func.count(), func.max(Trial.updated), func.sum(Trial.steps), func.sum(Trial.value), func.count(Trial.finished))
        with self.database.reading() as session:
            trials = session.execute(select(*sums).where(Trial.study_id == study)).one()
            drivers = session.execute(select(func.count(), func.max(Driver.heartbeat)).where(Driver.study_id == study)).one()
        return (*trials, *drivers)

    def _current(self, study: int) -> _Kept:
        now = time.monotonic()
        with self._lock:
            kept = self._kept.get(study)
        if kept is None:
            with self._reading[study]:
                return self._kept.get(study) or self._read(study)
        kept.asked = now
        fresh = len(kept.snapshot) > SMALL and self._thread.is_alive()
        if fresh or self.stamp(study) == kept.stamp:
            return kept
        return self._read(study)

    def _read(self, study: int) -> _Kept:
        """Read a study, and keep it in place of what was known; equal contents keep the old snapshot."""
        with self._reading[study]:
            return self._renewed(study)

    def _renewed(self, study: int) -> _Kept:
        stamp, started = self.stamp(study), time.monotonic()
        with self._lock:
            before = self._kept.get(study)
        with self.database.reading() as session:
            snapshot = read_snapshot(session, study)
            drivers = _drivers(session, study)
            points = before.points if before is not None else None
            if before is not None and snapshot.version == before.snapshot.version:
                snapshot = before.snapshot
            elif before is not None and points is not None:
                points = read_points(session, snapshot, before.snapshot, points)
        ended = time.monotonic()
        asked = before.asked if before is not None else ended
        kept = _Kept(stamp, snapshot, drivers, asked, ended - started, ended, points)
        with self._lock:
            self._kept[study] = kept
        return kept

    def _look(self) -> None:
        with suppress(EinsearchError):  # an unreachable database is reported where a page asks for it
            newest = self._newest()
            if newest is not None:
                prepare(self.snapshot(newest))
                self.points(newest)
        while not self._end.wait(LOOK_SECONDS):
            with suppress(EinsearchError):
                renewed = [self._renew(study) for study in self._watched()]
                if any(renewed):
                    self.tell()

    def _newest(self) -> int | None:
        with self.database.reading() as session:
            return session.scalar(select(Study.id).order_by(Study.created.desc(), Study.id.desc()).limit(1))

    def _watched(self) -> list[int]:
        now = time.monotonic()
        with self._lock:
            listened = bool(self._listeners)
            return [study for study, kept in self._kept.items() if listened or now - kept.asked < LATELY_SECONDS]

    def _renew(self, study: int) -> bool:
        """Read a study again where it has changed; costly ones not all the time. Whether a page has to know."""
        with self._lock:
            kept = self._kept[study]
        if time.monotonic() - kept.read < 2 * kept.cost or self.stamp(study) == kept.stamp:
            return False
        new = self._read(study)
        prepare(new.snapshot)
        return new.snapshot is not kept.snapshot or new.drivers != kept.drivers


def _drivers(session: Any, study: int) -> str:
    rows = session.execute(
        select(Driver.id, Driver.state, Driver.heartbeat).where(Driver.study_id == study).order_by(Driver.id)
    )
    return f"{zlib.crc32(repr(rows.all()).encode()):08x}"


def _written(path: Path) -> tuple[int, int]:
    try:
        found = path.stat()
    except FileNotFoundError:
        return 0, 0
    return found.st_mtime_ns, found.st_size


def _nudge(queue: asyncio.Queue[None]) -> None:
    if queue.empty():
        queue.put_nowait(None)
