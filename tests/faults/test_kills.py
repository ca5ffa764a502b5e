"""Drivers that are killed, stopped and cut off, and the exact study that is left."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import pytest

from storage.database import Database
from storage.decisions import decisions_frame
from storage.studies import trial_seed

LEDGER, OPTUNA, VAULT = "storage.ledger.Ledger", "search.optuna_side.OptunaSide", "search.vault.Folder"
CHECKPOINT = "trainers.checkpoint.Path"


def test_killed_at_any_commit_and_at_any_time(url: str, campaign: Any) -> None:
    assert campaign(url, kills=12, seed=1, trials=8) >= 12


@pytest.mark.parametrize(
    "call",
    [
        (LEDGER, "claim", "after", 3),
        (LEDGER, "link", "after", 3),
        (LEDGER, "finish", "before", 2),
        (OPTUNA, "tell", "after", 1),
        (CHECKPOINT, "replace", "before", 4),
    ],
    ids=lambda call: f"{call[2]}-{call[1]}-{call[3]}",
)
def test_killed_at_a_step_of_the_protocol(call: tuple[str, str, str, int], drivers: Any, check: Any, tmp_path: Path) -> None:
    db = f"sqlite:///{tmp_path}/faults.db"
    assert drivers.run(db, calls=[call]) == -signal.SIGKILL
    assert drivers.run(db) == 0, drivers.log
    assert check(db)["attempts"].sum() <= 9


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_run_that_is_stopped_early_is_stopped_once(when: str, drivers: Any, check: Any, chain: Any, tmp_path: Path) -> None:
    """Killed where the third trial is judged at its third evaluation."""
    db, poor = f"sqlite:///{tmp_path}/faults.db", trial_seed(0, 2)
    settings = drivers.settings.to_dict() | {"early_stopping": True}
    order = {"settings": settings, "every": 1, "behaviour": {str(poor): "poor"}}
    assert drivers.run(db, calls=[(LEDGER, "finish", when, 3)], **order) == -signal.SIGKILL
    assert drivers.run(db, **order) == 0, drivers.log
    row = check(db, states={2: "truncated"}).loc[2]
    assert (row["steps"], row["flops"], row["seconds"]) == (3, 3 * chain.FLOPS_PER_STEP, 1.5)
    assert row["loss"] == chain.chain_loss(poor, 3) + chain.POOR and row["value"] < 0
    with Database.open(db) as database:
        decisions = decisions_frame(database, "faulty")
    assert decisions.query("stopped")[["number", "step"]].values.tolist() == [[2, 3]]
    assert sorted(decisions["step"].value_counts().to_dict().items()) == [(3, 6), (4, 5)]


def test_answers_that_are_lost_change_nothing(url: str, drivers: Any, check: Any) -> None:
    running = [drivers.start(url, lost=0.2, refused=0.1, seed=seed) for seed in range(2)]
    assert {drivers.wait(pid)[1] for pid in running} == {0}, drivers.log
    assert (check(url)["attempts"] == 1).all()


def test_a_driver_that_sleeps_past_its_lease_wakes_up_fenced(url: str, drivers: Any, check: Any) -> None:
    hasty = {"lease": 1.2, "timeout": 0.4}  # it may fall asleep inside of a transaction, and hold the lock for twice as long
    sleeper = drivers.start(url, calls=[(LEDGER, "record", "before", 2, signal.SIGSTOP)], **hasty)
    drivers.wait_until_stopped(sleeper)
    assert drivers.run(url, **hasty) == 0, drivers.log
    os.kill(sleeper, signal.SIGCONT)
    assert drivers.wait(sleeper) == (sleeper, 1)
    assert "FencedError" in drivers.log
    assert check(url)["attempts"].max() == 2
    assert drivers.run(url, trials=10) == 0, "it rejoins by resuming"
    assert check(url, trials=10)["attempts"].sum() == 11


def test_clocks_an_hour_apart_fence_nobody(url: str, drivers: Any, check: Any) -> None:
    running = [drivers.start(url, lease=3.0, pause=0.1, clock=clock) for clock in (0.0, 3600.0, -3600.0)]
    assert {drivers.wait(pid)[1] for pid in running} == {0}, drivers.log
    assert (check(url)["attempts"] == 1).all()
