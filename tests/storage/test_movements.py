"""Coordinate checks: recorded once, at the end of a trial, and averaged over trials of one structure and width."""

from __future__ import annotations

import math
from typing import NamedTuple

import pytest
from sqlalchemy import select

from space.structure import Structure
from storage.claims import Claim
from storage.coordinates import Movement, movements
from storage.database import Database
from storage.ledger import Ledger
from storage.schema import LAYER_KINDS, CoordinatesRow
from storage.studies import PlannedTrial, StudyRecord, create_study

END = {"loss": 2.5, "flops": 100.0, "tokens": 10, "steps": 10, "seconds": 1.0}


class Look(NamedTuple):
    step: int
    qkv: float = 0.5
    out: float = 0.1
    up: float = 0.75
    down: float = 0.25
    head: float = 1.0


@pytest.fixture
def study(database: Database) -> StudyRecord:
    plan = [
        PlannedTrial("known", Structure.parse(name), 0, width, {})
        for name, width in (("monarch", 64), ("dense", 16), ("dense", 16), ("dense", 64))
    ]
    return create_study(database, "looked at", {}, 4, plan, seed=1, corpus_fingerprint="ab", target_compute=1e9)


def finished(ledger: Ledger, driver: int, *looks: Look) -> Claim:
    claim = ledger.claim(driver)
    assert isinstance(claim, Claim)
    assert ledger.finish(claim, "completed", **END, coordinates=looks)  # type: ignore[arg-type]
    return claim


def test_a_look_is_recorded_once_unless_the_run_had_diverged(database: Database, study: StudyRecord) -> None:
    ledger = Ledger(database, study.id)
    claim = finished(ledger, ledger.join(), Look(4), Look(8, up=math.inf), Look(16, head=math.nan), Look(4, up=9.0))
    kinds = [getattr(CoordinatesRow, kind) for kind in LAYER_KINDS]
    with database.reading() as session:
        rows = session.execute(select(CoordinatesRow.trial_id, CoordinatesRow.step, *kinds)).all()
    assert rows == [(claim.trial_id, 4, 0.5, 0.1, 0.75, 0.25, 1.0)]


def test_trials_of_one_structure_and_width_are_averaged(database: Database, study: StudyRecord) -> None:
    ledger = Ledger(database, study.id)
    driver = ledger.join()
    for up in (1.0, 3.0, 4.0, 5.0):
        finished(ledger, driver, Look(4, up=0.0), Look(16, up=up))
    up = LAYER_KINDS.index("up")
    found = movements(database, study.id)
    assert [(one.name, one.step, one.width, one.trials, one.changes[up]) for one in found] == [
        ("monarch", 4, 64, 1, 0.0),
        ("monarch", 16, 64, 1, 1.0),
        ("dense", 4, 16, 2, 0.0),
        ("dense", 4, 64, 1, 0.0),
        ("dense", 16, 16, 2, pytest.approx(math.sqrt((9 + 16) / 2))),
        ("dense", 16, 64, 1, 5.0),
    ]
    assert found[1] == Movement(Structure.parse("monarch").key, "monarch", 64, 16, 1, (0.5, 0.1, 1.0, 0.25, 1.0))
    assert movements(database, study.id + 1) == []
