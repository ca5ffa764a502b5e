"""Opening and closing attempts, and charging compute once, to the attempt that spent it.

    F     FLOPs of a trial so far (cumulative over its run)
    s_i   FLOPs at which attempt i started: those of the checkpoint it resumed from
    f_i   FLOPs charged to attempt i

A resumed attempt repeats what its predecessor did after the last checkpoint. So once attempt k starts at s_k,
its predecessors are charged up to s_k exactly, and no more; while k runs, f_k = F - s_k. Hence F = sum_i f_i
at all times. Seconds are charged alike. All functions expect the caller to hold the study's lock.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection, Row, func, select
from sqlalchemy.orm import Session

from storage import statements
from storage.schema import Attempt, Driver, Trial

MAX_ATTEMPTS = 5
"""Attempts at a trial that may crash without getting any further before it counts as failed."""


def open_attempt(connection: Connection, trial: int, attempt: int, driver: int, started: float, now: float) -> None:
    """Hand a trial to a driver under its next attempt. `started` is when its first one began."""
    held = {"state": "running", "driver_id": driver, "attempts": attempt, "started": started, "updated": now}
    connection.execute(statements.CHANGE_TRIAL, held | {"trial": trial})
    new_attempt(connection, trial, attempt, driver, now)


def new_attempt(connection: Connection, trial: int, attempt: int, driver: int, now: float) -> None:
    """The row of an attempt that begins."""
    row = {"trial_id": trial, "attempt": attempt, "driver_id": driver, "state": "running", "started": now}
    connection.execute(statements.NEW_ATTEMPT, row)


def start_from(session: Session, trial: int, attempt: int, flops: float, seconds: float) -> None:
    """Say where an attempt starts, and charge its predecessors up to there.

    Raises:
        ValueError: the first attempt resumes something.
    """
    *previous, current = session.scalars(
        select(Attempt).where(Attempt.trial_id == trial, Attempt.attempt <= attempt).order_by(Attempt.attempt)
    ).all()
    row = session.get_one(Trial, trial)
    if not previous and (flops, seconds) != (0.0, 0.0):
        raise ValueError(f"trial {row.number}: its first attempt starts at zero, not at {flops} FLOPs, {seconds} s")
    started = [one for one in previous if one.start_flops is not None] or previous[-1:]
    for one in started:
        last = one is started[-1]
        one.start_flops, one.start_seconds = one.start_flops or 0.0, one.start_seconds or 0.0
        one.flops = _charge(one.start_flops, one.flops, flops, last)
        one.seconds = _charge(one.start_seconds, one.seconds, seconds, last)
    current.start_flops, current.start_seconds = flops, seconds
    current.flops = current.seconds = 0.0
    row.flops, row.seconds = flops, seconds
    session.flush()


def advance(session: Session, held: Row[Any], flops: float, seconds: float, **changes: Any) -> dict[str, float]:
    """Charge a running attempt up to where its trial is, with other `changes` to it. Returns what becomes of the trial's row.

    Args:
        held: by `statements.HELD`; an attempt that never said where it starts began at 0.
    """
    start_flops, start_seconds = held.start_flops or 0.0, held.start_seconds or 0.0
    flops, seconds = max(held.flops, flops), max(held.seconds, seconds)
    changes |= {"start_flops": start_flops, "flops": flops - start_flops}
    changes |= {"start_seconds": start_seconds, "seconds": seconds - start_seconds}
    key = {"trial": held.id, "number": held.attempts}
    session.connection().execute(statements.CHANGE_ATTEMPT, changes | key)
    return {"flops": flops, "seconds": seconds}


def preempt(session: Session, trial: Trial, reason: str | None, now: float, limit: int = MAX_ATTEMPTS) -> None:
    """End an attempt and put its trial back in the queue; fail the trial where `limit` attempts crashed and spent nothing.

    An attempt that got further is no reason to give up: on machines that are taken away, a long trial has many. `reason` says
    what went wrong; None is an orderly stop, which does not count as a crash.
    """
    attempt = session.get_one(Attempt, (trial.id, trial.attempts))
    attempt.state, attempt.ended, attempt.error = "preempted", now, reason
    session.flush()
    crashed = select(func.count()).where(Attempt.trial_id == trial.id, Attempt.error.is_not(None), Attempt.flops == 0)
    trial.updated = now
    if reason is not None and (session.scalar(crashed) or 0) >= limit:
        trial.state, trial.finished = "failed", now
        trial.error = f"{reason} (given up after {limit} attempts)"
    else:
        trial.state, trial.driver_id = "queued", None


def preempt_orphans(session: Session, study: int, now: float, limit: int = MAX_ATTEMPTS) -> None:
    """Put back every running trial whose driver is no longer alive."""
    rows = session.execute(
        select(Trial, Driver)
        .join(Driver, Driver.id == Trial.driver_id)
        .where(Trial.study_id == study, Trial.state == "running", Driver.state != "alive")
        .order_by(Trial.number)
    ).all()
    for trial, driver in rows:
        reason = None if driver.state == "closed" else f"its driver on {driver.host} (process {driver.pid}) died"
        preempt(session, trial, reason, now, limit)


def _charge(start: float, charged: float, limit: float, last: bool) -> float:
    """What an earlier attempt keeps where a later one starts at `limit`; there the last of them ended."""
    room = max(0.0, limit - start)
    return room if last else min(charged, room)
