"""The ledger of trials: one truth for all drivers of a study.

    driver = ledger.join()
    match ledger.claim(driver):
        case Claim() as claim:
            ledger.propose(claim, structure, rung, width, config)     # where claim.structure is None
            ledger.link(claim, optuna_number)
            ledger.start_attempt(claim, start_flops, start_seconds)   # where a checkpoint is resumed
            ledger.record(claim, points)                              # as they come
            ledger.finish(claim, "completed", loss=…, flops=…, …)
        case Wait(): …                                                # others are still at work
        case Finished(): ledger.leave(driver)

Each method is one transaction under the study's lock: it happens as a whole or not at all, and in one order
for all drivers. What a driver says about a trial is recorded only while it holds the trial: same attempt,
same driver, still running. Otherwise the method returns False, the driver is fenced from that trial, and must
drop it.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from sqlalchemy import func, select, update
from sqlalchemy.orm import Session

from space.structure import Structure
from storage import charges, schema
from storage.claims import Claim, Finished, PointLike, Settled, Wait, point_row
from storage.decisions import Decision
from storage.leases import FencedError, Leases
from storage.proposals import Proposal, fill, insert_missing, structure_id
from storage.schema import (
    FINAL_STATES,
    Attempt,
    Driver,
    FinalState,
    PointRow,
    StructureRow,
    Study,
    Trial,
    TrialKind,
)
from storage.studies import reserve


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
            self._check_alive(session, driver)
            now = self.database.now(session)
            trial = self._queued(session) or self._reserved(session, now)
            if trial is None:
                return self._nothing(session)
            charges.open_attempt(session, trial, driver, now)
            return Claim.of(trial, _key(session, trial), driver)

    def held(self, driver: int) -> list[Claim]:
        """The trials that `driver` holds, by number: how it finds a claim whose answer was lost on the way."""
        with self.database.reading() as session:
            rows = select(Trial).where(Trial.study_id == self.study_id, Trial.driver_id == driver, Trial.state == "running")
            trials = session.scalars(rows.order_by(Trial.number)).all()
            return [Claim.of(trial, _key(session, trial), driver) for trial in trials]

    def propose(
        self,
        claim: Claim,
        structure: Structure,
        rung: int,
        width: int,
        config: Mapping[str, Any],
        kind: TrialKind = "proposal",
    ) -> bool:
        """Say what a reserved trial tries: a structure, realised on a width x width layer. Once only.

        Returns False where the driver no longer holds the trial, or the trial has a structure already.

        Raises:
            StructureError: the width is not a positive integer.
        """
        proposal = Proposal.of(structure, rung, width, config)
        with self._locked() as session:
            trial = _held(session, claim)
            if trial is None or trial.structure_id is not None:
                return False
            fill(trial, proposal, structure_id(session, structure))
            trial.kind = kind
            return True

    def link(self, claim: Claim, optuna_number: int) -> bool:
        """Note the trial's number in Optuna. Returns False where the driver no longer holds the trial."""
        with self._locked() as session:
            trial = _held(session, claim)
            if trial is not None:
                trial.optuna_number = optuna_number
            return trial is not None

    def start_attempt(self, claim: Claim, start_flops: float, start_seconds: float) -> bool:
        """Say that the attempt resumes a checkpoint of the trial, made at so many FLOPs and seconds of it.

        Earlier attempts are charged up to there, exactly; what they did after it was lost and is charged to
        nobody. An attempt that records or finishes without saying so started from zero. Returns False where
        the driver no longer holds the trial.
        """
        with self._locked() as session:
            trial = _held(session, claim)
            if trial is not None:
                charges.start_from(session, trial, _attempt(session, claim), start_flops, start_seconds)
            return trial is not None

    def record(self, claim: Claim, points: Sequence[PointLike], decisions: Sequence[Decision] = ()) -> bool:
        """Record evaluations, decisions at them, and that the trial is alive. What is recorded stays; repeats are harmless.

        Points whose loss is negative or not finite are not recorded. Returns False where the driver no longer holds the
        trial.
        """
        with self._locked() as session:
            trial = _held(session, claim)
            if trial is None:
                return False
            trial.updated = self.database.now(session)
            _record(session, claim, trial, points, decisions, trial.updated)
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
    ) -> bool:
        """End a trial. The attempt is charged what the trial spent since the attempt started.

        Args:
            loss: final validation loss in nats per token; None, negative or not finite, where there is none.
            flops, tokens, steps, seconds: cumulative over the trial, not the attempt.
            error: why, for a failed or diverged trial.
            points, decisions: the last ones, recorded as by `record`.

        Saying it again changes nothing. Returns False where the driver no longer holds the trial.

        Raises:
            ValueError: an unknown state; a completed or truncated trial without a finite loss or without
                compute; a failed one without an error.
        """
        measured = loss if loss is not None and 0 <= loss < math.inf else None
        _check_end(state, measured, flops, error)
        with self._locked() as session:
            trial = _held(session, claim)
            if trial is None:
                return _ended(session, claim, state)
            now = self.database.now(session)
            _record(session, claim, trial, points, decisions, now)
            attempt = _attempt(session, claim)
            charges.advance(session, trial, attempt, flops, seconds)
            trial.loss, trial.tokens, trial.steps = measured, tokens, steps
            charges.close(trial, attempt, state, error, now)
            return True

    def requeue(self, claim: Claim, reason: str) -> bool:
        """Give a trial back: its attempt is preempted, it is queued, or failed after `max_attempts` crashes.

        Returns False where the driver no longer holds the trial.
        """
        with self._locked() as session:
            trial = _held(session, claim)
            if trial is not None:
                charges.preempt(session, trial, reason, self.database.now(session), self.max_attempts)
            return trial is not None

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

    def mark_told(self, trial_id: int, value: float | None = None) -> None:
        """Note that the sampler's storage knows how a finished trial ended, and with which value, where it has one."""
        changes = {"told": True} | ({} if value is None or not math.isfinite(value) else {"value": value})
        with self._locked() as session:
            finished = update(Trial).where(Trial.id == trial_id, Trial.state.in_(FINAL_STATES))
            session.execute(finished.values(**changes))

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

    def _check_alive(self, session: Session, driver: int) -> None:
        state = session.scalar(select(Driver.state).where(Driver.id == driver))
        if state != "alive":
            raise FencedError(f"driver {driver} is {state or 'unknown'}: its lease is over; join the study again")

    def _queued(self, session: Session) -> Trial | None:
        rows = select(Trial).where(Trial.study_id == self.study_id, Trial.state == "queued")
        return session.scalar(rows.order_by((Trial.attempts == 0), Trial.number).limit(1))

    def _reserved(self, session: Session, now: float) -> Trial | None:
        study = session.get_one(Study, self.study_id)
        trial = reserve(session, study, "proposal", "queued", now)
        if trial.number >= study.budget:
            return None
        session.add(trial)
        session.flush()
        return trial

    def _nothing(self, session: Session) -> Wait | Finished:
        rows = select(func.count()).select_from(Trial).where(Trial.study_id == self.study_id)
        running = session.scalar(rows.where(Trial.state == "running")) or 0
        return Wait(running) if running else Finished(session.scalar(rows) or 0)


def _held(session: Session, claim: Claim) -> Trial | None:
    """The claimed trial while its driver holds it, under the study's lock; else None."""
    return session.scalar(
        select(Trial).where(
            Trial.id == claim.trial_id,
            Trial.attempts == claim.attempt,
            Trial.driver_id == claim.driver,
            Trial.state == "running",
        )
    )


def _record(
    session: Session,
    claim: Claim,
    trial: Trial,
    points: Sequence[PointLike],
    decisions: Sequence[Decision],
    now: float,
) -> None:
    """Enter evaluations of a trial that is held, and what was decided at them."""
    finite = [point for point in points if 0 <= point.loss < math.inf]
    if finite:
        last = max(finite, key=lambda point: point.step)
        charges.advance(session, trial, _attempt(session, claim), last.flops, last.seconds)
        trial.tokens, trial.steps = max(trial.tokens, last.tokens), max(trial.steps, last.step)
        insert_missing(session, PointRow, [point_row(claim, point) for point in finite])
        insert_missing(session, schema.Decision, [decision.row(trial.id, now) for decision in decisions])


def _ended(session: Session, claim: Claim, state: FinalState) -> bool:
    """Whether this very attempt ended so already: its driver did not hear the answer, and says it again."""
    attempt = session.get(Attempt, (claim.trial_id, claim.attempt))
    return attempt is not None and (attempt.driver_id, attempt.state) == (claim.driver, state)


def _attempt(session: Session, claim: Claim) -> Attempt:
    return session.get_one(Attempt, (claim.trial_id, claim.attempt))


def _key(session: Session, trial: Trial) -> str | None:
    """The key of the trial's structure, None while it has none."""
    return session.scalar(select(StructureRow.key).where(StructureRow.id == trial.structure_id))


def _check_end(state: str, loss: float | None, flops: float, error: str | None) -> None:
    if state not in FINAL_STATES:
        raise ValueError(f"a trial cannot end as {state!r}; allowed: {', '.join(FINAL_STATES)}")
    if state in ("completed", "truncated") and (loss is None or not flops > 0):
        raise ValueError(f"a {state} trial needs a finite loss and compute > 0; given {loss} at {flops} FLOPs")
    if state == "failed" and not error:
        raise ValueError("a failed trial needs an error that says why")
