"""Optuna's tables, written past Optuna: a trial in any transaction, and all at once.

`RDBStorage` has a transaction of its own for each step of a trial, and asks the database three questions for each parameter of
one that comes as a whole. Here a trial is a row, and its parameters and attributes are a statement for each table. What is
written is the same.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any

from optuna.distributions import BaseDistribution, distribution_to_json
from optuna.storages import RDBStorage
from optuna.storages._rdb import models
from optuna.storages._rdb.storage import _create_scoped_session
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy import Connection, Insert, bindparam, insert, select, update

_studies, _trials, _values = (one.__table__ for one in (models.StudyModel, models.TrialModel, models.TrialValueModel))

_STUDY = select(_studies.c.study_id).where(_studies.c.study_id == bindparam("study")).with_for_update()
_LAST = select(_trials.c.number).where(_trials.c.study_id == bindparam("study")).order_by(_trials.c.trial_id.desc()).limit(1)
_ID = select(_trials.c.trial_id).where(_trials.c.study_id == bindparam("study"), _trials.c.number == bindparam("number_there"))
_END = update(_trials).where(
    _trials.c.study_id == bindparam("study"),
    _trials.c.number == bindparam("number_there"),
    _trials.c.trial_id == bindparam("trial"),
    _trials.c.state.in_([TrialState.RUNNING, TrialState.WAITING]),
)
_NEW_TRIAL, _NEW_VALUE = insert(_trials), insert(_values)


def enter(connection: Connection, study: int, template: FrozenTrial) -> tuple[int, int]:
    """A new trial in the state of a template that has no values. Returns its number and its id.

    Numbers are given under a lock on the row of the study, as Optuna's own are: the last trial has the last number.
    """
    connection.execute(_STUDY, {"study": study})
    last = connection.scalar(_LAST, {"study": study})
    number = 0 if last is None else int(last) + 1
    row = {"number": number, "study_id": study, "state": template.state, "datetime_start": _utc(template.datetime_start)}
    made = connection.execute(_NEW_TRIAL, row).inserted_primary_key
    assert made is not None
    for model, rows in _rows(made[0], template).items():
        if rows:
            connection.execute(_new(model), rows)
    return number, int(made[0])


def end(connection: Connection, study: int, number: int, trial: int | None, state: TrialState, value: float | None) -> None:
    """End a trial that runs, by its number; one that has ended stays as it is.

    Its id, where that is thought to be known, saves looking for it among all trials of the study. A transaction that was
    rolled back may have left a wrong one.
    """
    found = connection.scalar(_ID, {"study": study, "number_there": number}) if trial is None else trial
    key = {"study": study, "number_there": number, "trial": found}
    ended = connection.execute(_END, key | {"state": state, "datetime_complete": _utc(datetime.now())})
    if not ended.rowcount and trial is not None:
        end(connection, study, number, None, state, value)
    elif ended.rowcount and value is not None:
        connection.execute(_NEW_VALUE, _value(found, 0, value))


class TrialStorage(RDBStorage):
    """`RDBStorage`, faster where many trials come as a whole."""

    def enter_all(self, study_id: int, templates: Sequence[FrozenTrial]) -> list[int]:
        """New trials in any state, all in one transaction or none. Returns their numbers."""
        with _create_scoped_session(self.scoped_session) as session:
            models.StudyModel.find_or_raise_by_id(study_id, session, for_update=True)
            first = session.query(models.TrialModel).filter(models.TrialModel.study_id == study_id).count()
            trials = [
                models.TrialModel(
                    study_id=study_id,
                    number=first + place,
                    state=template.state,
                    datetime_start=template.datetime_start,
                    datetime_complete=template.datetime_complete,
                )
                for place, template in enumerate(templates)
            ]
            session.add_all(trials)
            session.flush()
            tables: dict[Any, list[dict[str, Any]]] = {}
            for trial, template in zip(trials, templates, strict=True):
                for model, rows in _rows(trial.trial_id, template).items():
                    tables.setdefault(model, []).extend(rows)
            for model, rows in tables.items():
                if rows:
                    session.execute(insert(model), rows)
            return [int(trial.number) for trial in trials]


def _rows(trial_id: Any, template: FrozenTrial) -> dict[Any, list[dict[str, Any]]]:
    """What the tables of parameters, of attributes and of values hold of a trial."""
    parameters = [
        {
            "trial_id": trial_id,
            "param_name": name,
            "param_value": template.distributions[name].to_internal_repr(value),
            "distribution_json": _text(template.distributions[name]),
        }
        for name, value in template.params.items()
    ]
    attributes: dict[Any, list[dict[str, Any]]] = {
        model: [{"trial_id": trial_id, "key": key, "value_json": json.dumps(value)} for key, value in held.items()]
        for model, held in (
            (models.TrialUserAttributeModel, template.user_attrs),
            (models.TrialSystemAttributeModel, template.system_attrs),
        )
    }
    values = [_value(trial_id, objective, given) for objective, given in enumerate(template.values or ())]
    return {models.TrialParamModel: parameters, models.TrialValueModel: values} | attributes


def _value(trial_id: Any, objective: int, given: float) -> dict[str, Any]:
    value, kind = models.TrialValueModel.value_to_stored_repr(given)
    return {"trial_id": trial_id, "objective": objective, "value": value, "value_type": kind}


@lru_cache
def _new(model: Any) -> Insert:
    """The statement, made once."""
    return insert(model.__table__)


@lru_cache(maxsize=64)
def _text(distribution: BaseDistribution) -> str:
    return str(distribution_to_json(distribution))


def _utc(moment: datetime | None) -> datetime | None:
    """A local time as the tables hold it."""
    return None if moment is None else moment.astimezone(UTC).replace(tzinfo=None)
