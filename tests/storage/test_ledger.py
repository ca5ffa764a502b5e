"""The protocol of trials, on both backends."""

from __future__ import annotations

import itertools
import math
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import Connection, inspect, select

from space.structure import Structure
from storage.claims import Claim, Finished, Wait
from storage.database import Database
from storage.leases import FencedError
from storage.ledger import Ledger
from storage.schema import Attempt, PointRow, StructureRow, Trial
from storage.studies import StudyRecord

New = Callable[..., Any]
CLAIMER = Path(__file__).with_name("claimer.py")
END = {"loss": 2.5, "flops": 100.0, "tokens": 10, "steps": 10, "seconds": 1.0}


@dataclass(frozen=True)
class Evaluation:
    step: int
    tokens: int
    flops: float
    loss: float
    train_loss: float
    seconds: float
    warmup: bool = False


def at(step: int, loss: float = 3.0) -> Evaluation:
    return Evaluation(step, 10 * step, 100.0 * step, loss, loss + 0.1, 0.5 * step, step < 2)


def claimed(ledger: Ledger, driver: int) -> Claim:
    claim = ledger.claim(driver)
    assert isinstance(claim, Claim)
    return claim


def trial_of(ledger: Ledger, claim: Claim) -> Trial:
    with ledger.database.reading() as session:
        trial = session.get_one(Trial, claim.trial_id)
        session.expunge(trial)
        return trial


def attempts_of(ledger: Ledger, claim: Claim) -> list[Attempt]:
    with ledger.database.reading() as session:
        rows = select(Attempt).where(Attempt.trial_id == claim.trial_id).order_by(Attempt.attempt)
        found = list(session.scalars(rows))
        session.expunge_all()
        return found


def steps_of(ledger: Ledger, claim: Claim) -> list[int]:
    with ledger.database.reading() as session:
        rows = select(PointRow.step).where(PointRow.trial_id == claim.trial_id).order_by(PointRow.step)
        return list(session.scalars(rows))


def test_planned_trials_come_first_in_order_then_reservations_up_to_the_budget(ledger: Ledger) -> None:
    driver = ledger.join()
    claims = [claimed(ledger, driver) for _ in range(10)]
    assert [c.number for c in claims] == list(range(10))
    assert [(c.kind, c.structure, c.rung, c.width) for c in claims[:3]] == [
        ("baseline", "dense", 0, 64),
        ("known", "(1/2|0|1/2|0|1/2|1/2|0)", 1, 256),
        ("proposal", None, None, None),
    ]
    assert claims[1].config == {"lr": 0.003, "width": 256, "seed": claims[1].seed}
    assert len({c.seed for c in claims}) == 10
    assert ledger.claim(driver) == Wait(10)
    for claim in claims:
        if claim.structure is None:
            assert ledger.propose(claim, Structure.parse("btt:1/4"), 0, 64, {})
        assert ledger.finish(claim, "completed", **END)
    assert ledger.claim(driver) == Finished(10)


def test_a_requeued_trial_comes_before_the_queue_and_keeps_what_it_is(ledger: Ledger) -> None:
    driver = ledger.join()
    first, second, third = (claimed(ledger, driver) for _ in range(3))
    assert ledger.propose(third, Structure.parse("kronecker"), 2, 128, {"lr": 0.1}, kind="random")
    assert ledger.link(third, lambda _: 41)
    assert ledger.requeue(third, "the machine went away")
    again = claimed(ledger, driver)
    assert (again.number, again.attempt, again.seed) == (third.number, 2, third.seed)
    assert (again.kind, again.structure, again.rung, again.width, again.config, again.optuna_number) == (
        "random",
        Structure.parse("kronecker").key,
        2,
        128,
        {"lr": 0.1},
        41,
    )
    assert ledger.requeue(second, "") and ledger.requeue(first, "")
    assert [claimed(ledger, driver).number for _ in range(3)] == [0, 1, 3]


def test_a_reservation_without_a_proposal_can_be_requeued(ledger: Ledger) -> None:
    driver = ledger.join()
    reserved = [claimed(ledger, driver) for _ in range(3)][2]
    assert ledger.requeue(reserved, "crashed before it proposed")
    again = claimed(ledger, driver)
    assert (again.number, again.attempt, again.structure) == (2, 2, None)
    assert not ledger.propose(reserved, Structure.parse("monarch"), 0, 64, {})
    assert ledger.propose(again, Structure.parse("monarch"), 0, 64, {})


def test_a_trial_takes_one_proposal_only(ledger: Ledger) -> None:
    driver = ledger.join()
    planned_claim, _, reserved = (claimed(ledger, driver) for _ in range(3))
    assert not ledger.propose(planned_claim, Structure.parse("monarch"), 0, 64, {})
    assert ledger.propose(reserved, Structure.parse("btt:1/4"), 1, 256, {"lr": 1})
    assert not ledger.propose(reserved, Structure.parse("monarch"), 0, 64, {})
    trial = trial_of(ledger, reserved)
    realised = Structure.parse("btt:1/4").realize(256, 256)
    assert trial.sizes == dict(realised.sizes)
    assert (trial.realised_omega, trial.realised_psi, trial.realised_nu) == (
        realised.omega,
        realised.psi,
        realised.nu,
    )
    with ledger.database.reading() as session:
        row = session.get_one(StructureRow, trial.structure_id)
        assert (row.key, row.name, row.psi) == (
            Structure.parse("btt:1/4").key,
            Structure.parse("btt:1/4").name,
            0.75 + 0.25,
        )


def test_points_are_recorded_once_and_only_with_a_finite_loss(ledger: Ledger) -> None:
    claim = claimed(ledger, ledger.join())
    assert ledger.record(claim, [at(1), at(2)])
    assert ledger.record(claim, [at(2, loss=9.0), at(3, loss=math.nan), at(4, loss=math.inf), at(5)])
    assert ledger.record(claim, [])
    assert steps_of(ledger, claim) == [1, 2, 5]
    with ledger.database.reading() as session:
        point = session.get_one(PointRow, (claim.trial_id, 2))
        assert (point.loss, point.train_loss, point.tokens, point.flops, point.attempt) == (
            3.0,
            3.1,
            20,
            200.0,
            1,
        )
    trial = trial_of(ledger, claim)
    assert (trial.flops, trial.tokens, trial.steps, trial.seconds) == (500.0, 50, 5, 2.5)


def test_an_unknown_training_loss_is_stored_as_none(ledger: Ledger) -> None:
    claim = claimed(ledger, ledger.join())
    assert ledger.record(claim, [Evaluation(0, 0, 0.0, 4.5, math.nan, 0.0)])
    with ledger.database.reading() as session:
        assert session.get_one(PointRow, (claim.trial_id, 0)).train_loss is None


def test_compute_is_charged_to_the_attempt_that_spent_it(ledger: Ledger) -> None:
    driver = ledger.join()
    claim = claimed(ledger, driver)
    ledger.record(claim, [at(1), at(2), at(3)])
    ledger.requeue(claim, "preempted")
    assert [a.flops for a in attempts_of(ledger, claim)] == [300.0]
    second = claimed(ledger, driver)
    assert ledger.start_attempt(second, 200.0, 1.0)
    assert [a.flops for a in attempts_of(ledger, claim)] == [200.0, 0.0]
    ledger.record(second, [at(3), at(4)])
    assert ledger.finish(second, "completed", loss=2.0, flops=1000.0, tokens=100, steps=10, seconds=5.0)
    first_attempt, second_attempt = attempts_of(ledger, claim)
    assert (first_attempt.state, first_attempt.flops, first_attempt.seconds) == ("preempted", 200.0, 1.0)
    assert (second_attempt.state, second_attempt.flops, second_attempt.seconds) == ("completed", 800.0, 4.0)
    assert trial_of(ledger, claim).flops == 1000.0


@settings(max_examples=20, deadline=None)
@given(
    first=st.lists(st.integers(1, 30), max_size=3),
    later=st.lists(st.tuples(st.none() | st.integers(0, 50), st.lists(st.integers(1, 30), max_size=2)), max_size=4),
    last=st.integers(1, 40),
)
def test_the_attempts_of_a_trial_always_add_up_to_it(
    shared: Ledger, first: list[int], later: list[tuple[int | None, list[int]]], last: int
) -> None:
    """Whatever checkpoints the attempts resume from, or none, and wherever they die."""
    driver = shared.join()
    for start, increments in [(None, first), *later]:
        claim = claimed(shared, driver)
        if start is not None:
            shared.start_attempt(claim, 100.0 * start, 0.5 * start)
            _check_sums(shared, claim)
        for spent in itertools.accumulate(increments, initial=start or 0):
            shared.record(claim, [at(spent)] if spent else [])
        _check_sums(shared, claim)
        shared.requeue(claim, "preempted")
    claim = claimed(shared, driver)
    shared.propose(claim, Structure.parse("monarch"), 0, 64, {})
    shared.finish(claim, "completed", loss=1.0, flops=100.0 * last, tokens=1, steps=1, seconds=0.5 * last)
    _check_sums(shared, claim)
    assert (trial_of(shared, claim).flops, attempts_of(shared, claim)[-1].flops) == (
        100.0 * last,
        100.0 * last,
    )


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory, new_study: New, planned: New) -> Iterator[Ledger]:
    """A ledger with trials enough for every example, none of which can crash too often."""
    with Database.open(f"sqlite:///{tmp_path_factory.mktemp('shared')}/many.db", create=True) as database:
        study = new_study(database, "many", 10_000, [])
        yield Ledger(database, study.id, max_attempts=99)


def _check_sums(ledger: Ledger, claim: Claim) -> None:
    trial, attempts = trial_of(ledger, claim), attempts_of(ledger, claim)
    assert math.fsum(a.flops for a in attempts) == trial.flops
    assert math.fsum(a.seconds for a in attempts) == trial.seconds


def test_a_checkpoint_of_an_attempt_that_recorded_nothing_is_charged_to_it(ledger: Ledger) -> None:
    driver = ledger.join()
    claim = claimed(ledger, driver)
    with pytest.raises(ValueError, match="first attempt starts at zero"):
        ledger.start_attempt(claim, 50.0, 1.0)
    ledger.requeue(claim, "died after its first checkpoint")
    ledger.requeue(claimed(ledger, driver), "died before it started")
    ledger.start_attempt(claimed(ledger, driver), 50.0, 1.0)
    assert sum(a.flops for a in attempts_of(ledger, claim)) == trial_of(ledger, claim).flops == 50.0


def test_a_trial_that_keeps_crashing_fails_with_the_reason(ledger: Ledger) -> None:
    driver = ledger.join()
    claim = claimed(ledger, driver)
    for attempt in range(2, 6):
        assert ledger.requeue(claim, "out of memory")
        claim = claimed(ledger, driver)
        assert (claim.number, claim.attempt) == (0, attempt)
    assert ledger.requeue(claim, "out of memory")
    trial = trial_of(ledger, claim)
    assert (trial.state, trial.error) == ("failed", "out of memory (given up after 5 attempts)")
    assert {a.state for a in attempts_of(ledger, claim)} == {"preempted"}
    assert claimed(ledger, driver).number == 1


@pytest.mark.parametrize("state", ["completed", "truncated", "diverged", "failed"])
def test_each_end_is_its_own_state(ledger: Ledger, state: str) -> None:
    claim = claimed(ledger, ledger.join())
    loss = math.nan if state == "diverged" else 2.5
    assert ledger.finish(claim, state, **{**END, "loss": loss}, error="why")  # type: ignore[arg-type]
    trial = trial_of(ledger, claim)
    assert (trial.state, trial.loss, trial.error) == (state, None if state == "diverged" else 2.5, "why")
    assert [a.state for a in attempts_of(ledger, claim)] == [state]
    assert trial.finished is not None and trial.started is not None and trial.finished >= trial.started >= trial.created


@pytest.mark.parametrize(
    ("state", "changes"),
    [
        ("completed", {"loss": math.nan}),
        ("completed", {"loss": None}),
        ("truncated", {"loss": math.inf}),
        ("completed", {"flops": 0.0}),
        ("failed", {"error": None}),
        ("queued", {}),
    ],
)
def test_an_end_that_makes_no_sense_is_refused(ledger: Ledger, state: str, changes: dict[str, float | None]) -> None:
    claim = claimed(ledger, ledger.join())
    with pytest.raises(ValueError, match="trial"):
        ledger.finish(claim, state, **{**END, **changes})  # type: ignore[arg-type]
    assert trial_of(ledger, claim).state == "running"


def test_nothing_that_a_driver_says_after_it_lost_its_trial_is_recorded(ledger: Ledger) -> None:
    driver = ledger.join()
    lost = claimed(ledger, driver)
    ledger.record(lost, [at(1)])
    ledger.requeue(lost, "preempted")
    current = claimed(ledger, driver)
    assert current.trial_id == lost.trial_id
    assert not ledger.record(lost, [at(2)])
    assert not ledger.finish(lost, "completed", **END)
    assert not ledger.link(lost, lambda _: 3)
    assert not ledger.start_attempt(lost, 1.0, 1.0)
    assert not ledger.requeue(lost, "again")
    assert steps_of(ledger, lost) == [1]
    assert trial_of(ledger, lost).state == "running"
    assert ledger.finish(current, "completed", **{**END, "flops": 500.0})
    assert not ledger.finish(current, "failed", **END, error="late")
    assert trial_of(ledger, lost).state == "completed"


def test_finished_trials_stay_unsettled_until_they_are_told(ledger: Ledger) -> None:
    driver = ledger.join()
    first, second, third = (claimed(ledger, driver) for _ in range(3))
    ledger.link(second, lambda _: 5)
    ledger.finish(second, "completed", **END)
    ledger.finish(third, "failed", loss=None, flops=0.0, tokens=0, steps=0, seconds=0.0, error="no proposal")
    ledger.set_values({second.trial_id: 0.25, first.trial_id: math.nan})
    settled = ledger.unsettled()
    assert [(s.number, s.state, s.value, s.optuna_number, s.structure is None) for s in settled] == [
        (1, "completed", 0.25, 5, False),
        (2, "failed", None, None, True),
    ]
    told: list[int | None] = []
    ledger.settle(settled[0], 0.5, lambda _, number: told.append(number))
    assert [s.number for s in ledger.unsettled()] == [2]
    assert ledger.finish(first, "completed", **END, value=0.75, tell=lambda _, number: told.append(number))
    assert [s.number for s in ledger.unsettled()] == [2] and told == [5, None]
    assert [trial_of(ledger, claim).value for claim in (first, second)] == [0.75, 0.5]


def test_what_the_sampler_s_storage_refuses_happens_nowhere(ledger: Ledger) -> None:
    def refuse(connection: Connection, *_: object) -> int:
        connection.exec_driver_sql("CREATE TABLE entered (number INTEGER)")
        raise ZeroDivisionError

    driver = ledger.join()
    first, _, reserved = (claimed(ledger, driver) for _ in range(3))
    for attempt in (
        lambda: ledger.link(first, refuse),
        lambda: ledger.propose(reserved, Structure.parse("monarch"), 0, 64, {}, enter=refuse),
        lambda: ledger.finish(first, "completed", **END, tell=refuse),
    ):
        with pytest.raises(ZeroDivisionError):
            attempt()
    assert trial_of(ledger, reserved).structure_id is None
    assert trial_of(ledger, first).state == "running" and not inspect(ledger.database.engine).has_table("entered")


def test_studies_do_not_see_each_other(database: Database, study: StudyRecord, new_study: New) -> None:
    mine, theirs = Ledger(database, study.id), Ledger(database, new_study(database, "second", 3).id)
    driver, other = mine.join(), theirs.join()
    assert [claimed(theirs, other).number for _ in range(3)] == [0, 1, 2]
    assert theirs.claim(other) == Wait(3)
    assert claimed(mine, driver).number == 0


def test_a_driver_that_left_gets_no_trial(ledger: Ledger) -> None:
    driver = ledger.join()
    ledger.leave(driver)
    with pytest.raises(FencedError, match="closed"):
        ledger.claim(driver)
    with pytest.raises(FencedError, match="unknown"):
        ledger.claim(999)


def test_four_processes_claim_sixty_trials_each_once(
    url: str, database: Database, new_study: New, planned: New, program_path: dict[str, str]
) -> None:
    plan = [planned("known", "monarch") for _ in range(30)]
    study = new_study(database, "crowd", 60, plan)
    command = [sys.executable, str(CLAIMER), url, str(study.id), "finish", "4"]
    crowd = subprocess.run(command, env=program_path, stdout=subprocess.PIPE, text=True, timeout=60, check=True)
    assert sorted(map(int, crowd.stdout.split())) == list(range(60))
    with database.reading() as session:
        trials = session.scalars(select(Trial).where(Trial.study_id == study.id)).all()
        assert Counter(t.state for t in trials) == {"completed": 60}
        assert {t.attempts for t in trials} == {1}
        assert {t.seed for t in trials} and len({t.seed for t in trials}) == 60


def test_trials_of_a_killed_process_come_back_at_once(
    url: str, database: Database, new_study: New, program_path: dict[str, str]
) -> None:
    ledger = Ledger(database, new_study(database, "killed", 3).id)
    command = [sys.executable, str(CLAIMER), url, str(ledger.study_id), "hang"]
    process = subprocess.Popen(command, env=program_path, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    claims = [int(process.stdout.readline()) for _ in range(2)]
    me = ledger.join()
    assert ledger.reap() == []
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert len(ledger.reap()) == 1
    taken = [claimed(ledger, me) for _ in range(3)]
    assert [(c.number, c.attempt) for c in taken] == [(claims[0], 2), (claims[1], 2), (2, 1)]
    assert attempts_of(ledger, taken[0])[0].error is not None
