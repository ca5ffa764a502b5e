"""Trials and databases that misbehave while drivers do their best."""

from __future__ import annotations

import os
import signal
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from search.study import Study
from storage.charges import MAX_ATTEMPTS
from storage.studies import trial_seed

LEDGER, PAUSE = "storage.ledger.Ledger", "search.steady.Steady"

POISON = str(trial_seed(0, 2))
"""The seed of the third trial of a study, as the chain's behaviours name it."""


def test_a_trial_that_always_fails_fails_once_and_alone(url: str, drivers: Any, check: Any) -> None:
    assert drivers.run(url, behaviour={POISON: "raise"}) == 0, drivers.log
    frame = check(url, states={2: "failed"})
    assert frame["attempts"].tolist() == [1] * 8


def test_a_loss_that_is_no_number_is_a_divergence(url: str, drivers: Any, check: Any) -> None:
    assert drivers.run(url, behaviour={POISON: "nan"}) == 0, drivers.log
    frame = check(url, states={2: "diverged"})
    assert frame["loss"].isna().tolist() == [number == 2 for number in range(8)]


def test_a_trial_that_takes_its_driver_with_it_is_given_up(url: str, drivers: Any, check: Any) -> None:
    ends = [drivers.run(url, behaviour={POISON: "die"}, attempts=MAX_ATTEMPTS) for _ in range(MAX_ATTEMPTS + 1)]
    assert ends == [-signal.SIGKILL] * MAX_ATTEMPTS + [0], drivers.log
    frame = check(url, states={2: "failed"})
    assert frame["attempts"].tolist() == [1, 1, MAX_ATTEMPTS, 1, 1, 1, 1, 1]


def test_a_disk_that_is_full_stops_a_driver_and_loses_nothing(drivers: Any, check: Any, tmp_path: Path) -> None:
    db = f"sqlite:///{tmp_path}/full.db"
    assert drivers.run(db, calls=[(LEDGER, "finish", "after", 2)]) == -signal.SIGKILL
    with closing(sqlite3.connect(tmp_path / "full.db")) as file:
        pages = file.execute("PRAGMA page_count").fetchone()[0]
    assert drivers.run(db, pages=pages) == 1
    assert "DiskError" in drivers.log and "make room, then resume" in drivers.log
    assert drivers.run(db) == 0, drivers.log
    check(db)


def test_a_file_that_is_read_only_is_refused(drivers: Any, check: Any, tmp_path: Path) -> None:
    db = f"sqlite:///{tmp_path}/fixed.db"
    assert drivers.run(db) == 0, drivers.log
    before = Study("faulty", db=db).trials_frame()
    assert drivers.run(db, trials=10, mode="ro") == 1
    assert "is read-only here" in drivers.log
    assert Study("faulty", db=db).trials_frame().equals(before)
    check(db)


def test_a_file_that_another_holds_is_waited_for(drivers: Any, check: Any, tmp_path: Path) -> None:
    db = f"sqlite:///{tmp_path}/held.db"
    stops = [(LEDGER, "record", "before", 3, signal.SIGSTOP), (PAUSE, "_pause", "before", 1, signal.SIGSTOP)]
    pid = drivers.start(db, timeout=0.05, calls=stops)
    drivers.wait_until_stopped(pid)
    with closing(sqlite3.connect(tmp_path / "held.db", isolation_level=None)) as file:
        file.execute("BEGIN IMMEDIATE")
        os.kill(pid, signal.SIGCONT)
        drivers.wait_until_stopped(pid)
        file.execute("COMMIT")
    os.kill(pid, signal.SIGCONT)
    assert drivers.wait(pid) == (pid, 0), drivers.log
    assert (check(db)["attempts"] == 1).all()


SPOILT = {
    "truncate": lambda content: content[:-7],
    "overwrite": lambda content: content[:-7] + b"1234567",
    "pickle": lambda _: b"cos\nsystem\n(S'true'\ntR.",
}


@pytest.mark.parametrize("spoil", [*SPOILT, "delete"])
def test_a_checkpoint_that_is_spoiled_is_passed_over(spoil: str, drivers: Any, check: Any, tmp_path: Path) -> None:
    db = f"sqlite:///{tmp_path}/spoiled.db"
    assert drivers.run(db, calls=[(LEDGER, "record", "after", 4)]) == -signal.SIGKILL
    kept = sorted((tmp_path / "checkpoints").glob("study-*/trial-00001/attempt-1/*.ckpt"))
    assert kept
    for path in kept:
        whole = path.read_bytes()
        path.unlink()
        if spoil != "delete":
            path.write_bytes(SPOILT[spoil](whole))
    assert drivers.run(db) == 0, drivers.log
    check(db)
