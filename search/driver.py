"""A driver: one process that claims trials of a study, has them run, and records what comes back.

It owns the protocol between the ledger, Optuna and the workers, and knows nothing of Ray:

    driver = Driver(...)                     joins the study, mends what a crash left, keeps its lease alive
    match driver.next(): ...                 the next task for a worker, Wait or Finished
    driver.report(task, report)              evaluations, or the end of the trial
    driver.lose(task, reason)                the worker is gone; the trial goes back to the queue
    driver.close()
"""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from types import TracebackType
from typing import Any

from search import plan, trial_place
from search.optuna_side import OptunaSide
from search.report import Report, cut
from search.sampler import StructureSampler
from search.settings import StudySettings
from search.steady import Steady
from search.steering import Steering
from search.stopping import Judge
from space.errors import EinsearchError, TrialError
from space.structure import Structure
from storage import results
from storage.claims import Claim, Finished, Wait
from storage.database import Database
from storage.decisions import Decision
from storage.failures import UnavailableError
from storage.laws import PowerLaw
from storage.leases import LEASE_SECONDS, FencedError
from storage.ledger import Enter, Ledger
from storage.studies import StudyRecord


@dataclass(frozen=True, slots=True)
class Task:
    """A trial, ready for a worker: its claim, now with a structure, and where its checkpoints are."""

    claim: Claim
    structure: Structure
    rung: int
    width: int
    config: Mapping[str, Any]
    place: str


@dataclass(frozen=True, slots=True)
class Progress:
    """A task and the last report of it, for displays."""

    task: Task
    report: Report | None


class Driver:
    """One driver's part in a study. `next`, `report` and `lose` are called from one thread; `running` from any.

    `fault` is why the study cannot go on here (a full disk, data that changed, a lost lease): nothing more is claimed, and what
    runs is given back to the queue by `close`. A database that is away is no fault until `search.steady.PATIENCE` has passed.
    `ended` counts the trials that ended here. `place`, for others to read, says where trials run and what they wait for.

    Args:
        vocab_size: of the study's corpus.
        checkpoints: place of the study's checkpoints, a folder or a URI.
        lease: seconds without a sign of life after which a peer counts as dead.
    """

    def __init__(
        self,
        database: Database,
        study: StudyRecord,
        settings: StudySettings,
        vocab_size: int,
        checkpoints: str,
        lease: float = LEASE_SECONDS,
    ) -> None:
        self.database, self._study, self._settings = database, study, settings
        self._vocab_size, self._checkpoints = vocab_size, checkpoints
        self._ledger = Ledger(database, study.id)
        self._tasks: dict[int, Progress] = {}
        self._closing = threading.Event()
        self._steady, self._lease = Steady(), lease
        self._optuna = self._steady(lambda: OptunaSide(database, study.name, _sampler(settings, vocab_size)))
        self.fault: EinsearchError | None = None
        self.ended = 0
        self.place: dict[str, Any] = {}
        self._dense: PowerLaw | None = None
        self._judge = Judge(database, study, settings)
        try:
            self._driver = self._steady(self._ledger.join)
            self._steady(lambda: self._ledger.reap(lease, self._driver))
            self.settle()
        except BaseException:
            self._optuna.close()
            raise
        self._alive = threading.Thread(target=self._keep_alive, name="einsearch-lease", daemon=True)
        self._alive.start()

    def __enter__(self) -> Driver:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    @property
    def running(self) -> list[Progress]:
        """The trials this driver has with workers now."""
        return list(self._tasks.values())

    def next(self) -> Task | Wait | Finished:
        """Claim a trial and make it ready: propose where it has no structure, and enter it in Optuna where it is not yet.

        Raises:
            FencedError: a peer declared this driver dead.
        """
        if self.fault is not None:
            return Finished(0)
        claim = self._steady(lambda: self._ledger.claim(self._driver), self._claim_again)
        if isinstance(claim, Wait):
            return claim
        if isinstance(claim, Finished):
            self.settle()
            return claim
        task = self._propose(claim) if claim.structure is None else self._linked(self._task(claim))
        self._tasks[claim.trial_id] = Progress(task, None)
        return task

    def report(self, task: Task, report: Report) -> bool:
        """Record what a worker says. False: the trial is over, or this driver's no more, or a fault stops everything.

        What is said about a trial that has ended or was given back comes too late, and is passed over.
        """
        claim = task.claim
        known = self._tasks.get(claim.trial_id)
        if known is None or known.task is not task:
            return False
        if report.state == "fault":
            self.stop(TrialError(f"trial {claim.number} ({task.structure}): {report.error}"))
            return False
        before = known.report
        self._tasks[claim.trial_id] = Progress(task, report)
        if before is not None and report.state == "running" and len(report.points) == len(before.points):
            return self.fault is None
        if before is None and report.start_flops:
            self._steady(lambda: self._ledger.start_attempt(claim, report.start_flops, report.start_seconds))
        after = claim.steps if before is None or not before.points else before.points[-1].step
        decisions = self._steady(lambda: self._judge.decide(claim.kind, task.rung, report.points, after))
        stopped = bool(decisions) and decisions[-1].stopped
        final = cut(report, decisions[-1].step) if stopped else report
        if final.state != "running":
            return self._finish(task, final, decisions) and not stopped
        held = self._steady(lambda: self._ledger.record(claim, final.points, decisions))
        if not held:
            self.stop(fenced())
        return held

    def lose(self, task: Task, reason: str) -> None:
        """A worker died or could not start: give the trial back."""
        self._tasks.pop(task.claim.trial_id, None)
        self._steady(lambda: self._ledger.requeue(task.claim, reason))
        self.settle()

    def settle(self) -> None:
        """Tell Optuna of every trial that ended and that it does not know of. Doing it again changes nothing.

        These are trials that a driver gave up, and those that ended while the dense frontier was not known, and so their value:
        nothing is told before the baseline is complete.
        """
        unsettled = self._steady(self._ledger.unsettled)
        if unsettled and self._dense is None:
            self._dense = self._steady(lambda: results.reference(self.database, self._study))
        dense = self._dense
        if not unsettled or dense is None:
            return
        numbers = [one.number for one in unsettled]
        values = self._steady(lambda: results.values(self.database, self._study, dense, numbers))
        for one in unsettled:
            value = values.get(one.number)
            tell = partial(self._optuna.tell, state=one.state, value=value)
            self._steady(partial(self._ledger.settle, one, value, tell))

    def conclude(self) -> None:
        """Keep the laws as the study leaves them."""
        results.record_laws(self.database, self._study)

    def stop(self, reason: EinsearchError) -> None:
        """Claim nothing more and wait for nothing; `fault` is `reason` where there is none yet. From any thread."""
        self.fault = self.fault or reason
        self._steady.hurry()

    def close(self) -> None:
        """Give back what is running, end the lease, close the connections."""
        self._closing.set()
        if self.fault is not None:
            self._steady.hurry()
        self._alive.join()
        try:
            self._steady(lambda: self._ledger.leave(self._driver))
        finally:
            self._optuna.close()

    def _claim_again(self) -> Claim | Wait | Finished:
        """The claim whose answer was lost, or a new one."""
        lost = [claim for claim in self._ledger.held(self._driver) if claim.trial_id not in self._tasks]
        return lost[0] if lost else self._ledger.claim(self._driver)

    def _propose(self, claim: Claim) -> Task:
        proposal = self._steady(lambda: self._optuna.propose(claim.number, self._left(claim.number)))
        structure, rung = proposal.structure, proposal.rung
        width = plan.width_at(self._settings, structure, rung, self._vocab_size)
        config = plan.trial_config(self._settings, structure, rung, width, claim.seed).to_dict()
        task = self._task(replace(claim, structure=structure.key, rung=rung, width=width, config=config))
        origin, enter = proposal.origin, self._entering(task)

        def propose() -> bool:
            return self._ledger.propose(claim, structure, rung, width, config, origin, enter)

        def propose_again() -> bool:
            held = next((one for one in self._ledger.held(self._driver) if one.trial_id == claim.trial_id), None)
            return held is not None and (held.structure == structure.key or propose())

        if not self._steady(propose, propose_again):
            raise fenced()
        return task

    def _linked(self, task: Task) -> Task:
        """The task, entered in Optuna where it is not yet."""
        claim, enter = task.claim, self._entering(task)
        if claim.optuna_number is None and not self._steady(lambda: self._ledger.link(claim, enter)):
            raise fenced()
        return task

    def _entering(self, task: Task) -> Enter:
        return partial(self._optuna.enter, structure=task.structure, rung=task.rung, ledger_number=task.claim.number)

    def _left(self, number: int) -> float:
        """Share of the study's proposals that come after this one."""
        proposals = self._study.budget - self._settings.planned
        return (self._study.budget - 1 - number) / max(1, proposals - 1)

    def _task(self, claim: Claim) -> Task:
        assert claim.structure is not None and claim.rung is not None and claim.width is not None and claim.config is not None
        config = {**claim.config, "seed": claim.seed, "corpus_fingerprint": self._study.corpus_fingerprint}
        place = trial_place(self._checkpoints, claim.number)
        return Task(claim, Structure.parse(claim.structure), claim.rung, claim.width, config, place)

    def _finish(self, task: Task, report: Report, decisions: Sequence[Decision]) -> bool:
        claim = task.claim
        self._tasks.pop(claim.trial_id, None)
        dense = self._dense if claim.attempt == 1 and report.state != "truncated" else None  # later attempts: by all its points
        value = results.value_at(report.points, dense) if dense is not None and report.state == "completed" else None
        tell = None if dense is None else partial(self._optuna.tell, state=report.state, value=value)
        ended = self._steady(
            lambda: self._ledger.finish(
                claim,
                report.state,  # type: ignore[arg-type]
                loss=report.loss,
                flops=report.flops,
                tokens=report.tokens,
                steps=report.steps,
                seconds=report.seconds,
                error=report.error,
                points=report.points,
                decisions=decisions,
                coordinates=report.coordinates,
                value=value,
                tell=tell,
            )
        )
        if not ended:
            self.stop(fenced())
        if tell is None:
            self.settle()
        self.ended += 1
        return ended

    def _keep_alive(self) -> None:
        """Renew the lease and look after peers; judge none within a lease of having been cut off, as they may have been too."""
        beat = self._lease / 6
        seen = judging = time.time()
        while not self._closing.wait(beat):
            if time.time() - seen > 3 * beat:
                judging = time.time() + self._lease
            try:
                if not self._ledger.heartbeat(self._driver, self.place or None):
                    self.stop(fenced())
                    return
                seen = time.time()
                if seen >= judging:
                    self._ledger.reap(self._lease, self._driver)
            except UnavailableError:
                continue  # whoever needs the database waits for it, and gives up in the end
            except EinsearchError as error:
                self.stop(error)


def fenced() -> FencedError:
    """The fault of a driver that lost its lease."""
    return FencedError("another driver declared this one dead and took its trials; resume the study")


def _sampler(settings: StudySettings, vocab_size: int) -> StructureSampler:
    steering = Steering(
        rungs=tuple(rung.flops for rung in settings.rungs),
        target=settings.target,
        explore=settings.explore,
        identity=lambda structure, rung: plan.identity(settings, structure, rung, vocab_size),
    )
    return StructureSampler(settings.seed, steering)
