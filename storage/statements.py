"""The statements that every trial takes on its way through the ledger, made once: what was compiled of them is kept.

They name columns, not objects: thousands of trials an hour pass here, each by a dozen of these.
"""

from __future__ import annotations

from typing import cast

from sqlalchemy import Table, bindparam, func, insert, select, update

from storage.schema import Attempt, Base, Driver, StructureRow, Study, Trial


def table(model: type[Base]) -> Table:
    """The table of a model."""
    return cast(Table, model.__table__)


_study, _structure, _driver, _trial, _attempt = map(table, (Study, StructureRow, Driver, Trial, Attempt))

DRIVER_STATE = select(_driver.c.state).where(_driver.c.id == bindparam("driver"))
"""How a driver stands."""

QUEUED = (
    select(_trial, _structure.c.key)
    .outerjoin(_structure, _structure.c.id == _trial.c.structure_id)
    .where(_trial.c.study_id == bindparam("study"), _trial.c.state == "queued")
    .order_by((_trial.c.attempts == 0), _trial.c.number)
    .limit(1)
)
"""The trial that is next in the queue, requeued ones first, with its structure's key."""

BUDGET = select(
    _study.c.budget,
    _study.c.seed,
    select(func.max(_trial.c.number)).where(_trial.c.study_id == _study.c.id).scalar_subquery().label("last"),
).where(_study.c.id == bindparam("study"))
"""Budget and seed of a study, and the number of its last trial."""

HELD = (
    select(_trial, _attempt.c.start_flops, _attempt.c.start_seconds)
    .join(_attempt, (_attempt.c.trial_id == _trial.c.id) & (_attempt.c.attempt == _trial.c.attempts))
    .where(
        _trial.c.id == bindparam("trial"),
        _trial.c.attempts == bindparam("number_of_attempt"),
        _trial.c.driver_id == bindparam("driver"),
        _trial.c.state == "running",
    )
)
"""A trial and its attempt, while the claim to it holds."""

STRUCTURE = select(_structure.c.id).where(_structure.c.key == bindparam("key"))
"""The row of a structure."""

ENTERED = (
    select(_structure.c.key, _trial.c.rung, _trial.c.state, _trial.c.told, _trial.c.value)
    .join(_structure, _structure.c.id == _trial.c.structure_id)
    .join(_study, _study.c.id == _trial.c.study_id)
    .where(_study.c.name == bindparam("study"), _trial.c.optuna_number.is_not(None), _trial.c.number != bindparam("but"))
    .order_by(_trial.c.optuna_number)
)
"""What the trials of a study that the sampler's storage knows tried and came to."""

NEW_TRIAL = insert(_trial)
NEW_ATTEMPT = insert(_attempt)
CHANGE_TRIAL = update(_trial).where(_trial.c.id == bindparam("trial"))
CHANGE_ATTEMPT = update(_attempt).where(_attempt.c.trial_id == bindparam("trial"), _attempt.c.attempt == bindparam("number"))
