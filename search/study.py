"""`Study`: a search, by name, in a database."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

from search import DEFAULT_DB
from search.settings import StudySettings, with_trial
from space.errors import ConfigError
from storage.database import Database
from storage.queries import studies_frame
from storage.studies import StudyRecord, create_study, open_study

if TYPE_CHECKING:
    import pandas as pd

    from search.driver import Driver
    from storage.laws import HoldOut, LawSet
    from storage.status import StudyStatus
    from trainers.corpus import Corpus

PROPOSALS = 8
"""Trials beyond the plan where no budget is given."""

PACKAGES = ("einsearch", "torch", "optuna", "ray", "sqlalchemy", "numpy")
"""Distributions whose versions a study records."""


class Study:
    """A search over structures. Making the object reads nothing; `run` creates the study, or goes on with it.

    >>> import einsearch
    >>> study = einsearch.Study("mine", trials=30)          # doctest: +SKIP
    >>> study.run()                                         # doctest: +SKIP
    >>> study.leaderboard()                                 # doctest: +SKIP

    Args:
        name: of the study, unique in its database.
        db: URL of the database.
        trials: the budget: how many trials the study has in all. It can grow later. None for the recorded budget.
        settings: what the study is; None for the recorded settings, or the defaults for a new study.
        checkpoints: folder of checkpoints; by default beside the SQLite file, or in the working directory.
    """

    def __init__(
        self,
        name: str,
        *,
        db: str = DEFAULT_DB,
        trials: int | None = None,
        settings: StudySettings | None = None,
        checkpoints: Path | None = None,
    ) -> None:
        self.name, self.db, self.trials, self.settings = name, db, trials, settings
        self._checkpoints = checkpoints

    def run(self, *, concurrency: int | None = None) -> None:
        """Create the study where it is new, and run trials until its budget is used up.

        Args:
            concurrency: trials at a time; None for one per CPU.

        Raises:
            UserError: before anything is spent: wrong settings, a study that has others, an unusable database or corpus.
            RunError: what stopped the run; the study can be resumed.
        """
        with self.driver(create=True) as driver:
            self.execute(driver, concurrency)

    def resume(self, *, concurrency: int | None = None) -> None:
        """Go on with a study that exists; raises as `run`, and StudyError where it does not exist."""
        with self.driver(create=False) as driver:
            self.execute(driver, concurrency)

    @staticmethod
    def execute(driver: Driver, concurrency: int | None = None) -> None:
        """Run trials with a driver of this study's until the budget is used up.

        Raises:
            EinsearchError: the driver's fault.
        """
        cpus = len(os.sched_getaffinity(0))
        workers = cpus if concurrency is None else concurrency
        if workers < 1:
            raise ConfigError(f"concurrency is {workers}; give at least 1")
        if driver.finished:
            return
        from search.executor import execute

        execute(driver, workers)
        if driver.fault is not None:
            raise driver.fault
        driver.conclude()

    @contextmanager
    def driver(self, *, create: bool) -> Iterator[Driver]:
        """This process as a driver of the study."""
        from search.driver import Driver
        from trainers.corpus import load_corpus

        with Database.open(self.db, create=create) as database:
            recorded = self._recorded(database, create)
            settings = self._settings(recorded)
            data = load_corpus(settings.trial.corpus)
            data.require_context(settings.trial.context)
            if recorded is not None:
                data.require(recorded.corpus_fingerprint)
            study = self._create(database, settings, data, recorded)
            with Driver(database, study, settings, data.vocab_size, self.checkpoints(database, study)) as driver:
                yield driver

    def checkpoints(self, database: Database, study: StudyRecord) -> Path:
        """Folder of the study's checkpoints."""
        if self._checkpoints is not None:
            return self._checkpoints
        file = database.location.path
        root = file.with_name(f"{file.name}.checkpoints") if file is not None else Path.cwd() / "einsearch.checkpoints"
        return root / f"study-{study.id}-{study.created:.0f}"

    def trial_folder(self, number: int) -> Path:
        """Folder of the checkpoints of a trial, by its number."""
        from search.trial import folder_of

        with Database.open(self.db) as database:
            return folder_of(self.checkpoints(database, open_study(database, self.name)), number)

    def record(self) -> StudyRecord:
        """The study as recorded: settings, budget, seed, data, versions."""
        with Database.open(self.db) as database:
            return open_study(database, self.name)

    def status(self) -> StudyStatus:
        """Trials by state, compute and seconds spent."""
        from storage.status import status

        with Database.open(self.db) as database:
            return status(database, self.name)

    def leaderboard(self) -> pd.DataFrame:
        """Structures, best first, with their compute multipliers against dense (see `storage.results.leaderboard`)."""
        from storage import results

        with Database.open(self.db) as database:
            return results.leaderboard(database, open_study(database, self.name))

    def laws(self) -> LawSet:
        """The scaling law of every structure (see `storage.laws`)."""
        from storage import results

        with Database.open(self.db) as database:
            return results.lawset(database, open_study(database, self.name))

    def forecast(self) -> HoldOut | None:
        """The laws' own test: the largest dense compute, forecast from smaller runs."""
        from storage import results

        with Database.open(self.db) as database:
            return results.forecast(database, open_study(database, self.name))

    def trials_frame(self) -> pd.DataFrame:
        """All trials, one a row (see `storage.queries.trials_frame`)."""
        from storage import queries

        with Database.open(self.db) as database:
            return queries.trials_frame(database, self.name)

    def _recorded(self, database: Database, create: bool) -> StudyRecord | None:
        """The study as it is, None where it is new and may be made."""
        if create and self.name not in set(studies_frame(database)["study"]):
            return None
        return open_study(database, self.name)

    def _settings(self, recorded: StudyRecord | None) -> StudySettings:
        """The given or recorded settings; where the precision is left open, the recorded one, or what this machine has."""
        import torch

        from trainers.precision import choose

        known = StudySettings.from_dict(recorded.settings) if recorded else None
        settings = self.settings or known or StudySettings()
        if settings.trial.precision != "auto":
            return settings
        device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        return with_trial(settings, {"precision": known.trial.precision if known else choose("auto", device)})

    def _create(self, database: Database, settings: StudySettings, data: Corpus, recorded: StudyRecord | None) -> StudyRecord:
        """Create the study, or check that the one there is has the same settings, and extend its budget where asked."""
        from search.plan import planned_trials

        budget = recorded.budget if recorded else settings.planned + PROPOSALS
        return create_study(
            database,
            self.name,
            settings.to_dict(),
            budget if self.trials is None else self.trials,
            planned_trials(settings, data.vocab_size),
            seed=settings.seed,
            corpus_fingerprint=data.fingerprint,
            target_compute=settings.target,
            versions={name: metadata.version(name) for name in PACKAGES},
        )
