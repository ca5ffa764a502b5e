"""Trials entered at once are the trials that Optuna enters itself."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import optuna
from optuna.distributions import FloatDistribution
from optuna.storages import RDBStorage
from optuna.trial import FrozenTrial, TrialState, create_trial
from sqlalchemy import MetaData, select

from search.optuna_storage import TrialStorage, end, enter
from search.sampler import parameters, search_space
from space.structure import Structure

NAMES = ("monarch", "kronecker", "btt:1/4")


@contextmanager
def opened(kind: type[RDBStorage], path: Path) -> Iterator[RDBStorage]:
    storage = kind(f"sqlite:///{path}")
    try:
        yield storage
    finally:
        storage.remove_session()
        storage.engine.dispose()


def template(name: str) -> FrozenTrial:
    return create_trial(
        state=TrialState.RUNNING,
        params=parameters(Structure.parse(name), 1, 3),
        distributions=search_space(3),
        user_attrs={"ledger_number": 7, "structure": name},
        system_attrs={"note": [1, None]},
    )


def content(storage: RDBStorage) -> dict[str, list[tuple[object, ...]]]:
    """Every row of Optuna's tables but for times."""
    tables = MetaData()
    tables.reflect(storage.engine)
    found = {}
    with storage.engine.connect() as connection:
        for table in tables.sorted_tables:
            columns = [column for column in table.columns if not column.name.startswith("datetime")]
            found[table.name] = [tuple(row) for row in connection.execute(select(*columns))]
    return found


def test_the_same_rows_as_optunas_own(tmp_path: Path) -> None:
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    templates = [template(name) for name in NAMES]
    with opened(TrialStorage, tmp_path / "ours.db") as ours, opened(RDBStorage, tmp_path / "theirs.db") as theirs:
        studies = [optuna.create_study(study_name="one", storage=storage)._study_id for storage in (ours, theirs)]
        assert isinstance(ours, TrialStorage)
        with ours.engine.begin() as connection:
            entered = [enter(connection, studies[0], one) for one in templates]
        assert [number for number, _ in entered] == [0, 1, 2]
        for one in templates:
            theirs.create_new_trial(studies[1], template_trial=one)
        assert content(ours) == content(theirs)
        first, second, third = (known for _, known in entered)
        ends = [
            (0, None, TrialState.COMPLETE, 0.5),
            (1, second, TrialState.FAIL, None),
            (0, first, TrialState.FAIL, None),
            (1, third, TrialState.COMPLETE, 0.75),
            (2, first, TrialState.COMPLETE, 0.25),
        ]
        with ours.engine.begin() as connection:
            for number, known, state, value in ends:
                end(connection, studies[0], number, known, state, value)
        theirs.set_trial_state_values(1, TrialState.COMPLETE, [0.5])
        theirs.set_trial_state_values(2, TrialState.FAIL)
        theirs.set_trial_state_values(3, TrialState.COMPLETE, [0.25])
        assert content(ours) == content(theirs), "each by its number, and only while it runs"
        assert [trial.params for trial in ours.get_all_trials(studies[0])] == [one.params for one in templates]


def test_many_entered_at_once_are_the_same_rows_as_optunas_own(tmp_path: Path) -> None:
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    ended = [
        (TrialState.COMPLETE, 0.25),
        (TrialState.COMPLETE, float("inf")),
        (TrialState.PRUNED, None),
        (TrialState.FAIL, None),
    ]
    templates = [
        create_trial(state=state, value=value, params={"x": 0.5}, distributions={"x": FloatDistribution(0, 1)})
        for state, value in ended
    ]
    templates.append(template("monarch"))
    with opened(TrialStorage, tmp_path / "ours.db") as ours, opened(RDBStorage, tmp_path / "theirs.db") as theirs:
        studies = [optuna.create_study(study_name="one", storage=storage)._study_id for storage in (ours, theirs)]
        assert isinstance(ours, TrialStorage)
        assert ours.enter_all(studies[0], templates[:2]) == [0, 1]
        assert ours.enter_all(studies[0], templates[2:]) == [2, 3, 4]
        for one in templates:
            theirs.create_new_trial(studies[1], template_trial=one)
        assert content(ours) == content(theirs)
        assert [trial.values for trial in ours.get_all_trials(studies[0])] == [one.values for one in templates]
