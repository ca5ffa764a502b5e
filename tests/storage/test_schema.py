"""The database itself refuses states that cannot be."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import insert
from sqlalchemy.dialects import sqlite
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from space.structure import Structure
from storage.columns import JSONText, Message
from storage.database import Database
from storage.proposals import structure_id
from storage.schema import THETA, Attempt, Base, Driver, PointRow, StructureRow, Study, Total, Trial
from storage.studies import StudyRecord

BLANK = {"structure_id": None, "rung": None, "width": None, "config": None, "sizes": None, "kind": "proposal"}
DONE = {"state": "completed", "attempts": 1, "loss": 2.0, "flops": 1.0, "finished": 2.0}
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


def trial(**changes: Any) -> dict[str, Any]:
    row = {"study_id": 1, "number": 50, "kind": "known", "state": "queued", "seed": 1, "created": 1.0}
    whole = {"structure_id": 1, "rung": 0, "width": 64, "config": {}, "sizes": {}}
    return {**row, **whole, **changes}


def attempt(**changes: Any) -> dict[str, Any]:
    return {"trial_id": 1, "attempt": 1, "driver_id": 1, "state": "running", "started": 1.0, **changes}


def point(**changes: Any) -> dict[str, Any]:
    row = {"trial_id": 1, "step": 1, "attempt": 1, "tokens": 1, "flops": 1.0, "loss": 2.0, "train_loss": None}
    return {**row, "seconds": 1.0, "warmup": False, **changes}


@pytest.fixture(scope="module")
def ready(standing: Database) -> Database:
    """A study whose trial 1 is with driver 1."""
    info = {"host": "h", "machine": "m", "pid": 1, "process_start": "1"}
    with standing.session() as session:
        session.add(Driver(id=1, study_id=1, state="alive", joined=1.0, heartbeat=1.0, **info))
        session.flush()
        held = session.get_one(Trial, 1)
        held.state, held.driver_id, held.attempts = "running", 1, 1
        session.flush()
        session.execute(insert(Attempt), attempt())
    return standing


def study(**changes: Any) -> dict[str, Any]:
    row = {"name": "x", "settings": {}, "budget": 1, "seed": 0, "corpus_fingerprint": "ab", "versions": {}, "created": 1.0}
    return {**row, "flop_convention": "train_flops", "target_compute": 1.0, **changes}


def structure(**changes: Any) -> dict[str, Any]:
    theta = dict(zip(THETA, (0.5, 0.0, 0.5, 0.0, 0.5, 0.5, 0.25), strict=True))
    row = {"key": "k", "name": "n", "factors": 2, "theta": list(theta.values()), "omega": 0.0, "psi": 1.0, "nu": 0.75}
    return {**row, **theta, **changes}


TOTAL = {"study_id": 1, "structure_id": 0, "kind": "random", "state": "failed", "flops": 0.0, "seconds": 0.0}
ALLOWED = [
    (Study, study()),
    (StructureRow, structure()),
    (StructureRow, structure(factors=3, **dict.fromkeys(THETA))),
    (Trial, trial()),
    (Trial, trial(**BLANK)),
    (Trial, trial(state="running", driver_id=1, attempts=1)),
    (Trial, trial(**DONE)),
    (Trial, trial(**DONE, told=True, driver_id=1, value=-0.5)),
    (Trial, trial(**BLANK, state="failed", error="no proposal", finished=2.0)),
    (Trial, trial(state="diverged", finished=2.0)),
    (Attempt, attempt(trial_id=2)),
    (Attempt, attempt(attempt=2, state="preempted", ended=2.0, start_flops=0.0, start_seconds=0.0)),
    (PointRow, point()),
]
REFUSED = {
    "unknown state": (Trial, trial(state="paused")),
    "unknown kind": (Trial, trial(kind="guess")),
    "queued with a driver": (Trial, trial(driver_id=1)),
    "running without a driver": (Trial, trial(state="running", attempts=1)),
    "running without an attempt": (Trial, trial(state="running", driver_id=1)),
    "queued with an end": (Trial, trial(finished=2.0)),
    "completed without an end": (Trial, trial(**DONE | {"finished": None})),
    "completed without a loss": (Trial, trial(**DONE | {"loss": None})),
    "truncated without compute": (Trial, trial(**DONE | {"state": "truncated", "flops": 0.0})),
    "failed without a reason": (Trial, trial(state="failed", finished=2.0)),
    "completed without a structure": (Trial, trial(**DONE | BLANK)),
    "half a proposal": (Trial, trial(rung=None)),
    "a planned trial without a structure": (Trial, trial(**BLANK | {"kind": "baseline"})),
    "told before its end": (Trial, trial(told=True)),
    "a number twice": (Trial, trial(number=0)),
    "a negative number": (Trial, trial(number=-1)),
    "a width of zero": (Trial, trial(width=0)),
    "negative compute": (Trial, trial(flops=-1.0)),
    "infinite compute": (Trial, trial(flops=math.inf)),
    "an infinite loss": (Trial, trial(**DONE | {"loss": math.inf})),
    "an infinite value": (Trial, trial(**DONE, value=-math.inf)),
    "a negative loss": (Trial, trial(**DONE | {"loss": -0.1})),
    "a loss that is not a number": (Trial, trial(**DONE | {"loss": math.nan})),
    "a value without a result": (Trial, trial(value=0.5)),
    "an unknown study": (Trial, trial(study_id=99)),
    "an unknown structure": (Trial, trial(structure_id=99)),
    "an unknown driver": (Trial, trial(state="running", attempts=1, driver_id=99)),
    "two running attempts": (Attempt, attempt(attempt=2)),
    "an attempt that ended and runs": (Attempt, attempt(trial_id=2, ended=2.0)),
    "an attempt that neither ended nor runs": (Attempt, attempt(trial_id=2, state="preempted")),
    "an attempt of no trial": (Attempt, attempt(trial_id=99)),
    "an attempt that starts below zero": (Attempt, attempt(trial_id=2, start_flops=-1.0)),
    "a point of no attempt": (PointRow, point(attempt=2)),
    "a point without a loss": (PointRow, point(loss=None)),
    "a point with a loss that is not a number": (PointRow, point(loss=math.nan)),
    "a point with an infinite training loss": (PointRow, point(train_loss=math.inf)),
    "a point with a negative loss": (PointRow, point(loss=-0.1)),
    "a point at a negative step": (PointRow, point(step=-1)),
    "a study of an unknown FLOP convention": (Study, study(flop_convention="macs")),
    "a study with a negative seed": (Study, study(seed=-1)),
    "a study without a target": (Study, study(target_compute=0.0)),
    "a theta off the input simplex": (StructureRow, structure(theta_xa=0.6)),
    "a theta off the output simplex": (StructureRow, structure(theta_yab=0.4)),
    "two factors without their theta": (StructureRow, structure(theta_ab=None)),
    "totals of no trials": (Total, {**TOTAL, "trials": 0}),
    "a driver in an unknown state": (
        Driver,
        {"study_id": 1, "host": "h", "machine": "m", "pid": 1, "process_start": "1", "state": "tired"}
        | {"joined": 1.0, "heartbeat": 1.0},
    ),
}


@pytest.mark.parametrize(("model", "row"), ALLOWED)
def test_what_can_be_is_taken(ready: Database, model: type[Base], row: dict[str, Any]) -> None:
    with ready.session() as session:
        session.execute(insert(model), row)
        session.rollback()


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_is_refused(ready: Database, case: str) -> None:
    model, row = REFUSED[case]
    with pytest.raises(IntegrityError), ready.session() as session:
        session.execute(insert(model), row)


def test_a_study_needs_a_budget(ready: Database) -> None:
    with pytest.raises(IntegrityError), ready.session() as session:
        session.get_one(Study, 1).budget = 0


@pytest.mark.parametrize("text", ["monarch", "dense", "low_rank:1/3", "(1/7|2/7|4/7|0|1/3|2/3|1/9)"])
def test_a_structure_is_stored_once_and_parses_back(database: Database, text: str) -> None:
    structure = Structure.parse(text)
    with database.session() as session:
        stored = structure_id(session, structure)
        assert structure_id(session, structure) == stored
        row = session.get_one(StructureRow, stored)
        assert Structure.parse(row.key) == Structure.parse(row.name) == structure
        assert Structure.from_theta(_theta(row)).key == row.key
        assert (row.omega, row.psi, row.nu) == tuple(map(float, (structure.omega, structure.psi, structure.nu)))


@given(JSON)
def test_json_comes_back_as_it_was(value: Any) -> None:
    column, dialect = JSONText(), sqlite.dialect()
    text = column.process_bind_param(value, dialect)
    assert column.process_result_value(text, dialect) == value
    assert text is None or "\0" not in text


@given(st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=100))
def test_a_message_that_can_be_stored_stays_as_it_is(text: str) -> None:
    assert Message().process_bind_param(text, sqlite.dialect()) == text


def test_every_backend_takes_any_message(database: Database, study: StudyRecord) -> None:
    with database.session() as session:
        _fail(session, "a\0b \ud800 " + "long" * 10_000)
    with database.reading() as session:
        error = session.get_one(Trial, 1).error
        assert error is not None and error.startswith("a?b ? longlong") and len(error) == 20_000


def _fail(session: Session, error: str) -> None:
    trial = session.get_one(Trial, 1)
    trial.state, trial.finished, trial.error = "failed", 2.0, error


def _theta(row: StructureRow) -> list[float]:
    edges = ("xa", "xb", "xab", "ya", "yb", "yab", "ab")
    return [getattr(row, f"theta_{edge}") for edge in edges]
