"""Imported trials in Optuna's tables, so that samplers learn from them and Optuna's own tools show them."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from optuna.trial import FrozenTrial

    from search.optuna_storage import TrialStorage
    from storage.claims import Settled
    from storage.database import Database


def mirror(database: Database, study: str) -> int:
    """Enter the finished trials of a study of which Optuna has not been told; return how many.

    The ledger is the truth: what a crash leaves out here is entered the next time. Pooled trials, which come without a
    value, are given the one that they have against this study's own baseline; while that is not complete, they wait for it.
    """
    from storage import results
    from storage.ledger import Ledger
    from storage.studies import open_study

    record = open_study(database, study)
    ledger = Ledger(database, record.id)
    if any(one.value is None and one.state in results.MEASURED for one in ledger.unsettled()):
        dense = results.reference(database, record)
        if dense is None:
            return 0
        values = results.values(database, record, dense, [one.number for one in ledger.unsettled()])
        ledger.set_values({one.trial_id: values[one.number] for one in ledger.unsettled() if one.number in values})
    settled = [one for one in ledger.unsettled() if one.structure is not None]
    if not settled:
        return 0
    with _storage(database) as storage:
        numbers = _enter(storage, study, settled, rungs=len(record.settings.get("rungs", [])))
    _link(database, numbers)
    return len(numbers)


@contextmanager
def _storage(database: Database) -> Iterator[TrialStorage]:
    import optuna

    from search.optuna_storage import TrialStorage
    from storage.engines import immediate

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    storage = TrialStorage(database.location.url.render_as_string(hide_password=False))
    try:
        if database.dialect == "sqlite":
            storage.engine.dispose()
            immediate(storage.engine)
        yield storage
    finally:
        storage.remove_session()
        storage.engine.dispose()


def _enter(storage: TrialStorage, study: str, settled: Sequence[Settled], rungs: int) -> dict[int, int]:
    """Optuna's numbers of the trials, by the ids of the ledger. Those that are new there are entered in one transaction."""
    import optuna

    theirs = optuna.create_study(study_name=study, storage=storage, direction="maximize", load_if_exists=True)
    known = {trial.user_attrs.get("ledger_number"): trial for trial in theirs.get_trials(deepcopy=False)}
    fresh = [one for one in settled if one.number not in known]
    entered = storage.enter_all(storage.get_study_id_from_name(study), [_frozen(one, rungs) for one in fresh])
    numbers = {one.trial_id: number for one, number in zip(fresh, entered, strict=True)}
    for one in settled:
        if one.number in known:
            trial, ended = known[one.number], _frozen(one, rungs)
            complete = ended.state == optuna.trial.TrialState.COMPLETE
            theirs.tell(trial.number, ended.value if complete else None, ended.state, skip_if_finished=True)
            numbers[one.trial_id] = trial.number
    return numbers


def _frozen(one: Settled, rungs: int) -> FrozenTrial:
    """A finished trial as Optuna holds it."""
    from optuna.exceptions import ExperimentalWarning
    from optuna.trial import TrialState, create_trial

    from search.optuna_side import STATES
    from search.sampler import parameters, search_space
    from space.structure import Structure

    assert one.structure is not None and one.rung is not None
    structure = Structure.parse(one.structure)
    state = STATES[one.state] if one.value is not None else TrialState.FAIL
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        return create_trial(
            state=state,
            value=one.value if state == TrialState.COMPLETE else None,
            params=parameters(structure, one.rung, rungs),
            distributions=search_space(rungs),
            user_attrs={"ledger_number": one.number, "structure": structure.name},
        )


def _link(database: Database, numbers: Mapping[int, int]) -> None:
    """Note in the ledger what Optuna now knows."""
    from sqlalchemy import update

    from storage.schema import Trial

    with database.session() as session:
        for trial, number in numbers.items():
            session.execute(update(Trial).where(Trial.id == trial).values(optuna_number=number, told=True))
