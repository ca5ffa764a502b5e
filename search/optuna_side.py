"""The same study in Optuna's tables, so that samplers see it and Optuna's own tools open it.

The ledger is the truth. Optuna holds parameters, states and values, written in the transactions in which the ledger changes.
Only of trials that have no value yet when they end it is told later (`search.driver.Driver.settle`).
"""

from __future__ import annotations

import contextlib
import math
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from typing import Any

import optuna
from optuna.exceptions import StorageInternalError
from optuna.trial import TrialState, create_trial
from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError, IntegrityError, OperationalError, ProgrammingError

from search.optuna_storage import TrialStorage, end, enter
from search.sampler import StructureSampler, parameters, search_space
from search.steering import Observation, Proposal
from space.structure import Structure
from storage import statements
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
        self._database, self._name, self._sampler = database, name, sampler
        self._storage = _storage(database)
        if database.dialect == "sqlite":
            self._storage.engine.dispose()
            immediate(self._storage.engine)
        with self._asking():
            optuna.create_study(study_name=name, storage=self._storage, direction="maximize", load_if_exists=True)
            self._study_id = self._storage.get_study_id_from_name(name)
        self._ids: dict[int, int] = {}  # of trials that this process entered and that run, by number

    def propose(self, number: int, left: float) -> Proposal:
        """What the ledger's trial `number` should try, with that share of the proposals still to come."""
        return self._sampler.propose(self.observed(number), number, left)

    def observed(self, number: int) -> list[Observation]:
        """What the trials in Optuna's storage, but for the ledger's `number`, tried and came to, in their order there.

        Read from the ledger, where a trial is a row: Optuna would make an object of each, and keep them all.
        """
        with self._database.reading() as session:
            rows = session.connection().execute(statements.ENTERED, {"study": self._name, "but": number}).all()
        tried = [(_structure(row.key), row) for row in rows]
        return [Observation(one, row.rung, _outcome(row.told, row.state, row.value)) for one, row in tried if one.searchable]

    def enter(self, connection: Connection, structure: Structure, rung: int, ledger_number: int) -> int:
        """A new running trial, in a transaction of the ledger's. Returns its number in Optuna."""
        rungs = len(self._sampler.steering.rungs)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            template = create_trial(
                state=TrialState.RUNNING,
                params=parameters(structure, rung, rungs),
                distributions=search_space(rungs),
                user_attrs={"ledger_number": ledger_number, "structure": structure.name},
            )
        number, self._ids[number] = enter(connection, self._study_id, template)
        return number

    def tell(self, connection: Connection, number: int | None, state: str, value: float | None) -> None:
        """Say in a transaction of the ledger's how a trial ended; one that never came to Optuna is passed over.

        Args:
            number: of the trial in Optuna.
            state: of the ledger's final ones.
            value: log compute multiplier, None where it has none: then the trial failed, as Optuna sees it.
        """
        if number is None:
            return
        known = value is not None and math.isfinite(value)
        ended = STATES[state] if known else TrialState.FAIL
        told = None if ended == TrialState.FAIL else value
        end(connection, self._study_id, number, self._ids.pop(number, None), ended, told)

    def close(self) -> None:
        """Close the connections to the database."""
        self._storage.remove_session()
        self._storage.engine.dispose()

    @contextmanager
    def _asking(self) -> Iterator[None]:
        """Turns the failures of the database, which Optuna hides behind its own, into ours."""
        with translated(self._database.url_shown):
            try:
                yield
            except StorageInternalError as error:
                if isinstance(error.__cause__, DBAPIError):
                    raise error.__cause__ from error
                raise


@lru_cache(maxsize=16384)
def _structure(key: str) -> Structure:
    """Every proposal asks for the structures of all trials before it."""
    return Structure.parse(key)


def _outcome(told: bool, state: str, value: float | None) -> float | None:
    """The value of a trial, NaN where it ended without one, None while Optuna does not know of its end."""
    if not told:
        return None
    return math.nan if value is None or STATES[state] == TrialState.FAIL else value


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
