"""Leases: who is alive, who is gone, and what becomes of their trials."""

from __future__ import annotations

import dataclasses
import os
import subprocess
from collections.abc import Iterator

import pytest
from sqlalchemy import select, update

from storage.claims import Claim
from storage.leases import DriverInfo, FencedError
from storage.ledger import Ledger
from storage.schema import Attempt, Driver, Trial

END = {"loss": 2.5, "flops": 100.0, "tokens": 10, "steps": 10, "seconds": 1.0}
ELSEWHERE = DriverInfo("elsewhere", "another machine", 1, "1")


def claimed(ledger: Ledger, driver: int) -> Claim:
    claim = ledger.claim(driver)
    assert isinstance(claim, Claim)
    return claim


def let_expire(ledger: Ledger, driver: int, seconds: float = 61.0) -> None:
    with ledger.database.session() as session:
        session.execute(update(Driver).where(Driver.id == driver).values(heartbeat=Driver.heartbeat - seconds))


def driver_states(ledger: Ledger) -> dict[int, str]:
    with ledger.database.reading() as session:
        return dict(session.execute(select(Driver.id, Driver.state)).all())


def trial_states(ledger: Ledger) -> list[tuple[str, int]]:
    with ledger.database.reading() as session:
        rows = session.scalars(select(Trial).where(Trial.study_id == ledger.study_id).order_by(Trial.number))
        return [(trial.state, trial.attempts) for trial in rows]


@pytest.fixture
def child() -> Iterator[subprocess.Popen[bytes]]:
    """A process that waits until it is killed."""
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL) as process:
        yield process
        process.kill()


def test_a_driver_whose_lease_ran_out_is_dead_and_its_trials_are_queued(ledger: Ledger) -> None:
    slow, peer = ledger.join(ELSEWHERE), ledger.join()
    claim = claimed(ledger, slow)
    let_expire(ledger, slow, 50.0)
    assert ledger.reap() == []
    let_expire(ledger, slow, 11.0)
    assert ledger.reap() == [slow]
    assert ledger.reap() == []
    assert driver_states(ledger) == {slow: "dead", peer: "alive"}
    assert trial_states(ledger) == [("queued", 1), ("queued", 0)]
    again = claimed(ledger, peer)
    assert (again.trial_id, again.attempt) == (claim.trial_id, 2)


def test_a_fenced_driver_can_do_nothing(ledger: Ledger) -> None:
    slow, peer = ledger.join(ELSEWHERE), ledger.join()
    claim = claimed(ledger, slow)
    let_expire(ledger, slow)
    ledger.reap()
    assert not ledger.heartbeat(slow)
    assert not ledger.record(claim, [])
    assert not ledger.finish(claim, "completed", **END)
    assert not ledger.requeue(claim, "late")
    with pytest.raises(FencedError, match="is dead: its lease is over"):
        ledger.claim(slow)
    ledger.leave(slow)
    assert driver_states(ledger) == {slow: "dead", peer: "alive"}
    assert ledger.finish(claimed(ledger, peer), "completed", **END)


def test_a_heartbeat_renews_the_lease(ledger: Ledger) -> None:
    driver = ledger.join(ELSEWHERE)
    let_expire(ledger, driver)
    assert ledger.heartbeat(driver)
    assert ledger.reap() == []
    assert not ledger.heartbeat(999)


def test_a_lease_can_be_longer(ledger: Ledger) -> None:
    driver = ledger.join(ELSEWHERE)
    let_expire(ledger, driver)
    assert ledger.reap(lease_seconds=120.0) == []
    assert ledger.reap(lease_seconds=60.0) == [driver]


def test_a_driver_that_leaves_gives_its_trials_back_without_a_crash(ledger: Ledger) -> None:
    for attempt in range(1, 8):
        driver = ledger.join()
        assert claimed(ledger, driver).attempt == attempt
        ledger.leave(driver)
    assert trial_states(ledger) == [("queued", 7), ("queued", 0)]
    with ledger.database.reading() as session:
        assert set(session.scalars(select(Attempt.state))) == {"preempted"}
        assert set(session.scalars(select(Attempt.error))) == {None}
    assert set(driver_states(ledger).values()) == {"closed"}


def test_a_trial_that_kills_its_drivers_fails(ledger: Ledger) -> None:
    for _ in range(5):
        driver = ledger.join(ELSEWHERE)
        claimed(ledger, driver)
        let_expire(ledger, driver)
        ledger.reap()
    assert trial_states(ledger)[0] == ("failed", 5)
    (settled,) = ledger.unsettled()
    assert (settled.number, settled.state) == (0, "failed")
    with ledger.database.reading() as session:
        error = session.get_one(Trial, settled.trial_id).error
    assert error == "its driver on elsewhere (process 1) died (given up after 5 attempts)"


def test_a_process_that_is_gone_from_this_machine_is_dead_at_once(ledger: Ledger, child: subprocess.Popen[bytes]) -> None:
    driver = ledger.join(DriverInfo.here(child.pid))
    claimed(ledger, driver)
    assert ledger.reap() == []
    child.kill()
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    assert ledger.reap() == [driver]
    assert trial_states(ledger)[0] == ("queued", 1)


def test_a_process_is_known_from_a_later_one_with_its_number(child: subprocess.Popen[bytes]) -> None:
    info = DriverInfo.here(child.pid)
    assert not info.is_gone()
    assert dataclasses.replace(info, process_start="1").is_gone()
    assert not dataclasses.replace(info, process_start="unknown").is_gone()
    child.kill()
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    assert info.is_gone()
    child.wait()
    assert info.is_gone()


def test_nothing_is_known_of_processes_of_other_machines() -> None:
    me = DriverInfo.here()
    assert me.pid == os.getpid() and not me.is_gone()
    assert not ELSEWHERE.is_gone()
    assert not dataclasses.replace(me, machine="another boot", process_start="1").is_gone()
