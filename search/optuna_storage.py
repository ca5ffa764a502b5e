"""Optuna's storage, with new trials entered at once.

`RDBStorage` asks the database three questions for each parameter of a trial that comes as a whole. Here a trial is a row, and
its parameters and attributes are a statement for each table. What is written is the same.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from optuna.distributions import distribution_to_json
from optuna.storages import RDBStorage
from optuna.storages._rdb import models
from optuna.storages._rdb.storage import _create_scoped_session
from optuna.trial import FrozenTrial
from sqlalchemy import insert
from sqlalchemy.orm import Session


class TrialStorage(RDBStorage):
    """`RDBStorage`, faster where trials come as a whole."""

    def enter(self, study_id: int, template: FrozenTrial) -> int:
        """A new trial, in one transaction. Returns its number."""
        return int(self._create_new_trial(study_id, template).number)

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

    def _get_prepared_new_trial(self, study_id: int, template_trial: FrozenTrial | None, session: Session) -> Any:
        if template_trial is None or template_trial.values is not None:
            return super()._get_prepared_new_trial(study_id, template_trial, session)
        trial = models.TrialModel(
            study_id=study_id, number=None, state=template_trial.state, datetime_start=template_trial.datetime_start
        )
        session.add(trial)
        session.flush()
        for model, rows in _rows(trial.trial_id, template_trial).items():
            if rows:
                session.execute(insert(model), rows)
        trial.number = trial.count_past_trials(session)
        return trial


def _rows(trial_id: Any, template: FrozenTrial) -> dict[Any, list[dict[str, Any]]]:
    """What the tables of parameters, of attributes and of values hold of a trial."""
    parameters = [
        {
            "trial_id": trial_id,
            "param_name": name,
            "param_value": template.distributions[name].to_internal_repr(value),
            "distribution_json": distribution_to_json(template.distributions[name]),
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
    values = []
    for objective, given in enumerate(template.values or ()):
        value, kind = models.TrialValueModel.value_to_stored_repr(given)
        values.append({"trial_id": trial_id, "objective": objective, "value": value, "value_type": kind})
    return {models.TrialParamModel: parameters, models.TrialValueModel: values} | attributes
