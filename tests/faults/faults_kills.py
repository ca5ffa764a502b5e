"""The long part: hundreds of kills, and a database that is gone for longer than a lease. Run by `make faults`."""

from __future__ import annotations

import os
import signal
import threading
from typing import Any

import pytest

LEDGER, OPTUNA, PAUSE = "storage.ledger.Ledger", "search.optuna_side.OptunaSide", "search.steady.Steady"
OURS = ("join", "claim", "propose", "link", "record", "finish", "settle", "leave")
THEIRS = ("propose", "enter", "tell")
STEPS = [*((LEDGER, method) for method in OURS), *((OPTUNA, method) for method in THEIRS)]


def test_a_hundred_and_ten_kills_on_each_database(url: str, campaign: Any) -> None:
    assert campaign(url, kills=110, seed=2, trials=24) >= 110


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize(("owner", "method"), STEPS, ids=lambda value: value.rpartition(".")[2])
def test_killed_at_every_step(url: str, drivers: Any, check: Any, owner: str, method: str, when: str) -> None:
    for call in (1, 2):
        assert drivers.run(url, calls=[(owner, method, when, call)]) in (-signal.SIGKILL, 0), drivers.log
    assert drivers.run(url) == 0, drivers.log
    check(url)


def test_a_server_that_is_gone_for_longer_than_a_lease(server: Any, drivers: Any, check: Any) -> None:
    db = server.new()
    stop = [(LEDGER, "record", "before", 3, signal.SIGSTOP)]
    running = [drivers.start(db, trials=10, calls=stop, lease=3.0) for _ in range(2)]
    for pid in running:
        drivers.wait_until_stopped(pid)
    server.kill()
    for pid in running:
        os.kill(pid, signal.SIGCONT)
    threading.Event().wait(4.0)  # the fault itself: an absence that takes its time
    server.start()
    assert {drivers.wait(pid)[1] for pid in running} == {0}, drivers.log
    assert (check(db, trials=10)["attempts"] == 1).all()


def test_many_studies_in_one_database(url: str, drivers: Any, check: Any) -> None:
    names = [f"study {number}" for number in range(4)]
    running = [drivers.start(url, name=name, trials=10) for name in names for _ in range(2)]
    assert {drivers.wait(pid)[1] for pid in running} == {0}, drivers.log
    for name in names:
        assert (check(url, name, 10)["attempts"] == 1).all()


def test_eight_drivers_share_the_budget_exactly(url: str, drivers: Any, check: Any) -> None:
    running = [drivers.start(url, trials=16) for _ in range(8)]
    assert {drivers.wait(pid)[1] for pid in running} == {0}, drivers.log
    assert (check(url, trials=16)["attempts"] == 1).all()
