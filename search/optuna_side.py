"""The same study in Optuna's tables, so that samplers see it and Optuna's own tools open it.

The ledger is the truth. Optuna holds parameters, states and values; what a crash leaves between the two is mended by
`search.driver.Driver.settle`.
"""

from __future__ import annotations

import contextlib
import math
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import optuna
from optuna.exceptions import StorageInternalError, UpdateFinishedTrialError
from optuna.trial import FrozenTrial, TrialState, create_trial
from sqlalchemy.exc import DBAPIError, IntegrityError, OperationalError, ProgrammingError

from search.optuna_storage import TrialStorage
from search.sampler import StructureSampler, parameters, search_space
from search.steering import Proposal
from space.structure import Structure
from storage.claims import Settled
from storage.database import Database
from storage.engines import immediate
from storage.failures import translated

STATES = {
    "completed": TrialState.COMPLETE,
    "truncated": TrialState.PRUNED,
    "diverged": TrialState.FAIL,
    "failed": TrialState.FAIL,
}
"""How the ledger's final states read in Optuna."""

TRIES = 10
"""Attempts to open Optuna's storage: it makes a dozen tables, and may lose a race to a peer at each."""


class OptunaSide:
    """A study's trials in Optuna's storage, in the same database as the ledger.

    Every method but `close` raises DatabaseError where the database cannot be used.
    """

    def __init__(self, database: Database, name: str, sampler: StructureSampler) -> None:
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self._sampler, self._shown = sampler, database.url_shown
        self._storage = _storage(database)
        if database.dialect == "sqlite":
            self._storage.engine.dispose()
            immediate(self._storage.engine)
        with self._asking():
            self._study = optuna.create_study(
                study_name=name, storage=self._storage, sampler=sampler, direction="maximize", load_if_exists=True
            )
            self._study_id = self._storage.get_study_id_from_name(name)

    def propose(self, number: int, left: float) -> Proposal:
        """What the ledger's trial `number` should try, with that share of the proposals still to come."""
        with self._asking():
            return self._sampler.propose(self._study, number, left)

    def find(self, ledger_number: int) -> int | None:
        """The trial that was entered for a number of the ledger, where a crash fell between entering and linking."""
        running = self._running()
        return next((one.number for one in running if one.user_attrs.get("ledger_number") == ledger_number), None)

    def enter(self, structure: Structure, rung: int, ledger_number: int) -> int:
        """A new running trial, in one transaction. Returns its number in Optuna."""
        rungs = len(self._sampler.steering.rungs)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            template = create_trial(
                state=TrialState.RUNNING,
                params=parameters(structure, rung, rungs),
                distributions=search_space(rungs),
                user_attrs={"ledger_number": ledger_number, "structure": structure.name},
            )
        with self._asking():
            return self._storage.enter(self._study_id, template)

    def tell(self, settled: Settled) -> None:
        """Say how a trial ended; saying it twice is harmless. A trial that Optuna never saw is passed over."""
        number = self.find(settled.number) if settled.optuna_number is None else settled.optuna_number
        if number is None:
            return
        value = settled.value if settled.value is not None and math.isfinite(settled.value) else None
        state = STATES[settled.state] if value is not None else TrialState.FAIL
        told = None if state == TrialState.FAIL else value
        self._tell(number, told, state)

    def end_orphans(self, linked: Mapping[int, int | None]) -> None:
        """Fail what a driver entered for a trial that a peer had taken from it, and entered too.

        Args:
            linked: Optuna's number of every trial of the ledger, by the ledger's; None where it is not entered yet.
        """
        for trial in self._running():
            if linked.get(trial.user_attrs.get("ledger_number", -1)) not in (None, trial.number):
                self._tell(trial.number, None, TrialState.FAIL)

    def close(self) -> None:
        """Close the connections to the database."""
        self._storage.remove_session()
        self._storage.engine.dispose()

    def _tell(self, number: int, value: float | None, state: TrialState) -> None:
        """Tell Optuna, unless a peer has. Past `study.tell`, which reads the whole trial twice on its way to the same."""
        with self._asking(), contextlib.suppress(UpdateFinishedTrialError):
            trial_id = self._storage.get_trial_id_from_study_id_trial_number(self._study_id, number)
            self._storage.set_trial_state_values(trial_id, state, None if value is None else [value])

    def _running(self) -> list[FrozenTrial]:
        with self._asking():
            return self._study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))

    @contextmanager
    def _asking(self) -> Iterator[None]:
        """Turns the failures of the database, which Optuna hides behind its own, into ours."""
        with translated(self._shown):
            try:
                yield
            except StorageInternalError as error:
                if isinstance(error.__cause__, DBAPIError):
                    raise error.__cause__ from error
                raise


def _storage(database: Database) -> TrialStorage:
    """Optuna's storage. Of drivers that make its tables at once one succeeds, and the others find them when they try again."""
    url = database.location.url.render_as_string(hide_password=False)
    with translated(database.url_shown):
        for _ in range(TRIES - 1):
            with contextlib.suppress(IntegrityError, OperationalError, ProgrammingError, StorageInternalError):
                return TrialStorage(url, engine_kwargs=_engine(database))
        return TrialStorage(url, engine_kwargs=_engine(database))


def _engine(database: Database) -> dict[str, Any]:
    return {} if database.dialect == "sqlite" else {"pool_pre_ping": True}
