"""The ledger of trials: one truth for all drivers of a study.

    driver = ledger.join()
    match ledger.claim(driver):
        case Claim() as claim:
            ledger.propose(claim, structure, rung, width, config, enter=…)  # where claim.structure is None
            ledger.link(claim, enter)                                 # where it has one, and claim.optuna_number is None
            ledger.start_attempt(claim, start_flops, start_seconds)   # where a checkpoint is resumed
            ledger.record(claim, points)                              # as they come
            ledger.finish(claim, "completed", loss=…, flops=…, …)
        case Wait(): …                                                # others are still at work
        case Finished(): ledger.leave(driver)

Each method is one transaction under the study's lock: it happens as a whole or not at all, and in one order
for all drivers. What the sampler's storage is to know of it, which is in the same database, goes into the same transaction:
`enter` and `tell` are given its connection. What a driver says about a trial is recorded only while it holds the trial: same
attempt, same driver, still running. Otherwise the method returns False, the driver is fenced from that trial, and must drop it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from sqlalchemy import Connection, Row, func, select, update
from sqlalchemy.orm import Session

from space.structure import Structure
from storage import charges, schema, statements
from storage.claims import Claim, Finished, PointLike, Settled, Wait, point_row
from storage.coordinates import CoordinatesLike, record_looks
from storage.decisions import Decision
from storage.leases import FencedError, Leases
from storage.proposals import Proposal, insert_missing, structure_id
from storage.schema import (
    FINAL_STATES,
    Attempt,
    FinalState,
    PointRow,
    StructureRow,
    Trial,
    TrialKind,
)
from storage.studies import trial_seed

Enter = Callable[[Connection], int]
Tell = Callable[[Connection, int | None], None]

TIMES = ("created", "started", "updated")
"""Columns of a trial that are the time of its claim, where it is reserved by it."""


class Ledger(Leases):
    """The protocol of one study. Safe for threads and processes.

    Every method raises DatabaseError where the database cannot be used; nothing is recorded then.
    """

    def claim(self, driver: int) -> Claim | Wait | Finished:
        """The next trial to run, now held by `driver` under a new attempt.

        Requeued trials come first, then planned ones, each by number; both keep their number, structure and
        seed. With none queued and the budget not used up, a new row of kind `proposal` is reserved, whose
        structure is None until `propose`. The number of rows never exceeds the budget, whoever claims at the
        same time.

        Raises:
            FencedError: the driver's lease is over.
        """
        with self._locked() as session:
            connection = session.connection()
            self._check_alive(connection, driver)
            now = self.database.now(connection)
            queued = connection.execute(statements.QUEUED, {"study": self.study_id}).first()
            if queued is not None:
                charges.open_attempt(connection, queued.id, queued.attempts + 1, driver, queued.started or now, now)
                return Claim.of(queued, queued.key, queued.attempts + 1, driver)
            return self._reserve(connection, driver, now) or self._nothing(session)

    def held(self, driver: int) -> list[Claim]:
        """The trials that `driver` holds, by number: how it finds a claim whose answer was lost on the way."""
        with self.database.reading() as session:
            rows = (
                select(Trial, StructureRow.key)
                .outerjoin(StructureRow, StructureRow.id == Trial.structure_id)
                .where(Trial.study_id == self.study_id, Trial.driver_id == driver, Trial.state == "running")
                .order_by(Trial.number)
            )
            return [Claim.of(trial, key, trial.attempts, driver) for trial, key in session.execute(rows)]

    def propose(
        self,
        claim: Claim,
        structure: Structure,
        rung: int,
        width: int,
        config: Mapping[str, Any],
        kind: TrialKind = "proposal",
        enter: Enter | None = None,
    ) -> bool:
        """Say what a reserved trial tries: a structure, realised on a width x width layer. Once only.

        `enter` enters the trial in the sampler's storage, in the same transaction, and gives its number there. Returns False
        where the driver no longer holds the trial, or the trial has a structure already.

        Raises:
            StructureError: the width is not a positive integer.
        """
        proposal = Proposal.of(structure, rung, width, config)
        with self._locked() as session:
            connection = session.connection()
            held = _held(connection, claim)
            if held is None or held.structure_id is not None:
                return False
            changes = proposal.columns(structure_id(session, structure)) | {"kind": kind}
            if enter is not None:
                changes["optuna_number"] = enter(connection)
            connection.execute(statements.CHANGE_TRIAL, changes | {"trial": claim.trial_id})
            return True

    def link(self, claim: Claim, enter: Enter) -> bool:
        """Enter a trial in the sampler's storage, unless it is there, and note its number there, in one transaction.

        Returns False where the driver no longer holds the trial.
        """
        with self._locked() as session:
            connection = session.connection()
            held = _held(connection, claim)
            if held is not None and held.optuna_number is None:
                changes = {"trial": claim.trial_id, "optuna_number": enter(connection)}
                connection.execute(statements.CHANGE_TRIAL, changes)
            return held is not None

    def start_attempt(self, claim: Claim, start_flops: float, start_seconds: float) -> bool:
        """Say that the attempt resumes a checkpoint of the trial, made at so many FLOPs and seconds of it.

        Earlier attempts are charged up to there, exactly; what they did after it was lost and is charged to
        nobody. An attempt that records or finishes without saying so started from zero. Returns False where
        the driver no longer holds the trial.
        """
        with self._locked() as session:
            held = _held(session.connection(), claim)
            if held is not None:
                charges.start_from(session, claim.trial_id, claim.attempt, start_flops, start_seconds)
            return held is not None

    def record(self, claim: Claim, points: Sequence[PointLike], decisions: Sequence[Decision] = ()) -> bool:
        """Record evaluations, decisions at them, and that the trial is alive. What is recorded stays; repeats are harmless.

        Points whose loss is negative or not finite are not recorded. Returns False where the driver no longer holds the
        trial.
        """
        with self._locked() as session:
            held = _under_way(session, claim)
            if held is None:
                return False
            now = self.database.now(session)
            changes: dict[str, Any] = {"trial": claim.trial_id, "updated": now}
            last = _record(session, claim, points, decisions, now)
            if last is not None:
                changes |= charges.advance(session, held, last.flops, last.seconds)
                changes |= {"tokens": max(held.tokens, last.tokens), "steps": max(held.steps, last.step)}
            session.connection().execute(statements.CHANGE_TRIAL, changes)
            return True

    def finish(
        self,
        claim: Claim,
        state: FinalState,
        *,
        loss: float | None,
        flops: float,
        tokens: int,
        steps: int,
        seconds: float,
        error: str | None = None,
        points: Sequence[PointLike] = (),
        decisions: Sequence[Decision] = (),
        coordinates: Sequence[CoordinatesLike] = (),
        value: float | None = None,
        tell: Tell | None = None,
    ) -> bool:
        """End a trial. The attempt is charged what the trial spent since the attempt started.

        Args:
            loss: final validation loss in nats per token; None, negative or not finite, where there is none.
            flops, tokens, steps, seconds: cumulative over the trial, not the attempt.
            error: why, for a failed or diverged trial.
            points, decisions: the last ones, recorded as by `record`.
            coordinates: the looks at the first steps of the run.
            value: log compute multiplier of the trial, where it has one and it is known already.
            tell: tells the sampler's storage how the trial with a number there ended, in the same transaction; without it the
                trial stays unsettled.

        Saying it again changes nothing. Returns False where the driver no longer holds the trial.

        Raises:
            ValueError: an unknown state; a completed or truncated trial without a finite loss or without
                compute; a failed one without an error.
        """
        measured = loss if loss is not None and 0 <= loss < math.inf else None
        _check_end(state, measured, flops, error)
        with self._locked() as session:
            held = _under_way(session, claim)
            if held is None:
                return _ended(session, claim, state)
            now = self.database.now(session)
            last = _record(session, claim, points, decisions, now)
            spent = max(flops, last.flops if last else 0.0), max(seconds, last.seconds if last else 0.0)
            end: dict[str, Any] = {"state": state, "error": error}
            changes = end | charges.advance(session, held, *spent, **end | {"ended": now})
            changes |= {"loss": measured, "tokens": tokens, "steps": steps, "finished": now, "updated": now}
            if tell is not None:
                tell(session.connection(), held.optuna_number)
                changes |= {"told": True, "value": value}
            session.connection().execute(statements.CHANGE_TRIAL, changes | {"trial": claim.trial_id})
            record_looks(session, claim.trial_id, coordinates)
            return True

    def requeue(self, claim: Claim, reason: str) -> bool:
        """Give a trial back: its attempt is preempted, it is queued, or failed after `max_attempts` crashes.

        Returns False where the driver no longer holds the trial.
        """
        with self._locked() as session:
            held = _held(session.connection(), claim)
            if held is not None:
                trial = session.get_one(Trial, claim.trial_id)
                charges.preempt(session, trial, reason, self.database.now(session), self.max_attempts)
            return held is not None

    def unsettled(self) -> list[Settled]:
        """Finished trials of which the sampler's storage has not been told, by number."""
        with self.database.reading() as session:
            rows = session.execute(
                select(Trial, StructureRow.key)
                .outerjoin(StructureRow, StructureRow.id == Trial.structure_id)
                .where(Trial.study_id == self.study_id, Trial.state.in_(FINAL_STATES), ~Trial.told)
                .order_by(Trial.number)
            )
            return [Settled.of(trial, key) for trial, key in rows]

    def settle(self, ended: Settled, value: float | None, tell: Tell) -> None:
        """Tell the sampler's storage how a finished trial ended, and with which value, and note that it knows."""
        changes = {"told": True} | ({} if value is None or not math.isfinite(value) else {"value": value})
        with self._locked() as session:
            connection = session.connection()
            tell(connection, ended.optuna_number)
            connection.execute(statements.CHANGE_TRIAL, changes | {"trial": ended.trial_id})

    def set_values(self, values: Mapping[int, float]) -> None:
        """Store values (log compute multipliers) by trial id; one that is not finite is stored as none."""
        with self._locked() as session:
            for trial_id, value in values.items():
                kept = value if math.isfinite(value) else None
                session.execute(update(Trial).where(Trial.id == trial_id, Trial.study_id == self.study_id).values(value=kept))

    @contextmanager
    def _locked(self) -> Iterator[Session]:
        with self.database.session() as session:
            self.database.lock(session, self.study_id)
            yield session

    def _check_alive(self, connection: Connection, driver: int) -> None:
        state = connection.scalar(statements.DRIVER_STATE, {"driver": driver})
        if state != "alive":
            raise FencedError(f"driver {driver} is {state or 'unknown'}: its lease is over; join the study again")

    def _reserve(self, connection: Connection, driver: int, now: float) -> Claim | None:
        """A new row under the next number; None where the budget is used up."""
        study = connection.execute(statements.BUDGET, {"study": self.study_id}).one()
        number = 0 if study.last is None else study.last + 1
        if number >= study.budget:
            return None
        seed = trial_seed(study.seed, number)
        row = {"number": number, "kind": "proposal", "state": "running", "seed": seed}
        held = {"study_id": self.study_id, "driver_id": driver, "attempts": 1} | dict.fromkeys(TIMES, now)
        made = connection.execute(statements.NEW_TRIAL, row | held).inserted_primary_key
        assert made is not None
        charges.new_attempt(connection, made[0], 1, driver, now)
        return Claim(made[0], number, 1, driver, "proposal", None, None, None, None, seed, None)

    def _nothing(self, session: Session) -> Wait | Finished:
        rows = select(func.count()).select_from(Trial).where(Trial.study_id == self.study_id)
        running = session.scalar(rows.where(Trial.state == "running")) or 0
        return Wait(running) if running else Finished(session.scalar(rows) or 0)


def _held(connection: Connection, claim: Claim) -> Row[Any] | None:
    """The claimed trial, and where its attempt started, while its driver holds it, under the study's lock; else None."""
    known = {"trial": claim.trial_id, "number_of_attempt": claim.attempt, "driver": claim.driver}
    return connection.execute(statements.HELD, known).first()


def _under_way(session: Session, claim: Claim) -> Row[Any] | None:
    """As `_held`. A later attempt that never said where it starts begins at zero, and its predecessors are charged nothing."""
    held = _held(session.connection(), claim)
    if held is None or held.start_flops is not None or claim.attempt == 1:
        return held
    charges.start_from(session, claim.trial_id, claim.attempt, 0.0, 0.0)
    return _held(session.connection(), claim)


def _record(
    session: Session, claim: Claim, points: Sequence[PointLike], decisions: Sequence[Decision], now: float
) -> PointLike | None:
    """Enter evaluations of a trial that is held, and what was decided at them. Returns the last of them."""
    finite = [point for point in points if 0 <= point.loss < math.inf]
    if not finite:
        return None
    insert_missing(session, PointRow, [point_row(claim, point) for point in finite])
    insert_missing(session, schema.Decision, [decision.row(claim.trial_id, now) for decision in decisions])
    return max(finite, key=lambda point: point.step)


def _ended(session: Session, claim: Claim, state: FinalState) -> bool:
    """Whether this very attempt ended so already: its driver did not hear the answer, and says it again."""
    attempt = session.get(Attempt, (claim.trial_id, claim.attempt))
    return attempt is not None and (attempt.driver_id, attempt.state) == (claim.driver, state)


def _check_end(state: str, loss: float | None, flops: float, error: str | None) -> None:
    if state not in FINAL_STATES:
        raise ValueError(f"a trial cannot end as {state!r}; allowed: {', '.join(FINAL_STATES)}")
    if state in ("completed", "truncated") and (loss is None or not flops > 0):
        raise ValueError(f"a {state} trial needs a finite loss and compute > 0; given {loss} at {flops} FLOPs")
    if state == "failed" and not error:
        raise ValueError("a failed trial needs an error that says why")
