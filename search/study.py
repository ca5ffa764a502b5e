"""`Study`: a search, by name, in a database."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from search import CHECKPOINTS, DEFAULT_DB, below, corpus_place, trial_place
from search.cluster import Cluster
from search.connection import Connection
from search.settings import StudySettings, with_trial
from space.errors import ConfigError
from storage.database import Database
from storage.queries import studies_frame
from storage.status import StudyStatus, status
from storage.studies import PlannedTrial, StudyRecord, check_study, create_study, open_study
from storage.urls import locate

if TYPE_CHECKING:
    import pandas as pd

    from search.driver import Driver
    from search.session import Session
    from storage.laws import HoldOut, LawSet
    from trainers.corpus import Corpus

PROPOSALS = 7
"""Trials beyond the plan where no budget is given."""

PACKAGES = ("einsearch", "torch", "optuna", "ray", "sqlalchemy", "numpy")
"""Distributions whose versions a study records."""


CHANGEABLE = ("explore", "early_stopping", "target_compute")
"""Settings of a study that may change while it goes on: they say what to try next and for how long, not what a trial is."""


class _Opened(NamedTuple):
    """A study that may go on: what a driver needs of it."""

    database: Database
    study: StudyRecord
    settings: StudySettings
    vocab_size: int


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
        target_compute: FLOPs to compare structures at, instead of those of the settings. It can change later.
        checkpoints: where checkpoints go, a folder or a URI that fsspec knows; by default beside the SQLite file, or in the
            working directory. Every worker and every driver must reach it.
    """

    def __init__(
        self,
        name: str,
        *,
        db: str = DEFAULT_DB,
        trials: int | None = None,
        settings: StudySettings | None = None,
        target_compute: float | None = None,
        checkpoints: str | Path | None = None,
    ) -> None:
        self.name, self.db, self.trials, self.settings = name, db, trials, settings
        self.target_compute, self._checkpoints = target_compute, checkpoints

    def run(self, *, concurrency: int | None = None, cluster: Cluster | None = None) -> None:
        """Create the study where it is new, and run trials until its budget is used up.

        Args:
            concurrency: trials at a time; None for as many as there is room for.
            cluster: where they run, and what each takes; None for this machine, one CPU each.

        Raises:
            UserError: before anything is spent: wrong settings, a study that has others, an unusable database or corpus.
            RunError: what stopped the run; the study can be resumed.
        """
        with self.session(create=True, concurrency=concurrency, cluster=cluster) as session:
            session.execute()

    def resume(self, *, concurrency: int | None = None, cluster: Cluster | None = None) -> None:
        """Go on with a study that exists; raises as `run`, and StudyError where it does not exist."""
        with self.session(create=False, concurrency=concurrency, cluster=cluster) as session:
            session.execute()

    @contextmanager
    def session(self, *, create: bool, concurrency: int | None = None, cluster: Cluster | None = None) -> Iterator[Session]:
        """This process as a driver of the study, with Ray. Ray starts once nothing is found wrong, beside all the rest."""
        if concurrency is not None and concurrency < 1:
            raise ConfigError(f"concurrency is {concurrency}; give at least 1")
        with ExitStack() as stack:
            opened = stack.enter_context(self._opened(create))
            left = opened.study.budget - status(opened.database, self.name).done
            connection = stack.enter_context(Connection(cluster or Cluster(), concurrency)) if left > 0 else None
            from search.session import Session  # it loads Optuna, while Ray starts

            yield Session(stack.enter_context(self._driver(opened)), connection)

    @contextmanager
    def driver(self, *, create: bool) -> Iterator[Driver]:
        """This process as a driver of the study, for trials that run without Ray."""
        with self._opened(create) as opened, self._driver(opened) as driver:
            yield driver

    def checkpoints(self, database: Database, study: StudyRecord) -> str:
        """Folder or URI of the study's checkpoints."""
        given: str | Path | None = self._given_checkpoints or study.checkpoints
        if given is None:
            file = database.location.path
            given = file.with_name(f"{file.name}.checkpoints") if file is not None else "einsearch.checkpoints"
        return below(_absolute(given), f"study-{study.id}-{study.created:.0f}")

    def trial_place(self, number: int) -> str:
        """Folder or URI of the checkpoints of a trial, by its number."""
        with Database.open(self.db) as database:
            return trial_place(self.checkpoints(database, open_study(database, self.name)), number)

    def record(self) -> StudyRecord:
        """The study as recorded: settings, budget, seed, data, versions."""
        with Database.open(self.db) as database:
            return open_study(database, self.name)

    def status(self) -> StudyStatus:
        """Trials by state, compute and seconds spent."""
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

    @contextmanager
    def _opened(self, create: bool) -> Iterator[_Opened]:
        """The study, made where it is new. What is wrong with a new one is found before its database is made."""
        if create and self._is_new():
            self._prepared(None)
        with Database.open(self.db, create=create) as database:
            recorded = self._recorded(database, create)
            settings, data, plan = self._prepared(recorded)
            study = self._create(database, settings, data, plan, recorded)
            data.require(study.corpus_fingerprint)
            yield _Opened(database, study, settings, data.vocab_size)

    def _driver(self, opened: _Opened) -> Driver:
        from search.driver import Driver

        return Driver(*opened, self.checkpoints(opened.database, opened.study))

    @property
    def _given_checkpoints(self) -> str | None:
        given = self._checkpoints or os.environ.get(CHECKPOINTS)
        return None if given is None else _absolute(given)

    def _is_new(self) -> bool:
        """Whether there is no database yet: a file that is still to be made."""
        path = locate(self.db).path
        return path is not None and not path.exists() and path.parent.is_dir()

    def _recorded(self, database: Database, create: bool) -> StudyRecord | None:
        """The study as it is, None where it is new and may be made."""
        if create and self.name not in set(studies_frame(database)["study"]):
            return None
        return open_study(database, self.name)

    def _prepared(self, recorded: StudyRecord | None) -> tuple[StudySettings, Corpus, list[PlannedTrial]]:
        """Settings, data and plan, checked as far as they can be without the database."""
        from search.plan import planned_trials
        from trainers.corpus import load_corpus

        settings = self._settings(recorded)
        data = load_corpus(settings.trial.corpus)
        data.require_context(settings.trial.context)
        plan = planned_trials(settings, data.vocab_size)
        if recorded is None:
            check_study(self.name, self._budget(settings, None), len(plan), settings.seed, settings.target)
        return settings, data, plan

    def _budget(self, settings: StudySettings, recorded: StudyRecord | None) -> int:
        if self.trials is not None:
            return self.trials
        return recorded.budget if recorded is not None else settings.planned + PROPOSALS

    def _settings(self, recorded: StudyRecord | None) -> StudySettings:
        """The given or recorded settings, the corpus named so that every process finds it.

        Where the precision is left open, it is the recorded one, or what this machine has.
        """
        from trainers.precision import of_this_machine

        known = StudySettings.from_dict(recorded.settings) if recorded else None
        settings = self.settings or known or StudySettings()
        place = corpus_place(settings.trial.corpus)
        if place != settings.trial.corpus:
            settings = with_trial(settings, {"corpus": place})
        if self.target_compute is not None:
            settings = dataclasses.replace(settings, target_compute=self.target_compute)
        if settings.trial.precision != "auto":
            return settings
        return with_trial(settings, {"precision": known.trial.precision if known else of_this_machine()})

    def _create(
        self,
        database: Database,
        settings: StudySettings,
        data: Corpus,
        plan: list[PlannedTrial],
        recorded: StudyRecord | None,
    ) -> StudyRecord:
        """Create the study, or check that the one there is may go on so, and extend its budget where asked.

        The data of one that exists are not compared here: where settings differ too, those are what to name.
        """
        return create_study(
            database,
            self.name,
            settings.to_dict(),
            self._budget(settings, recorded),
            plan,
            seed=settings.seed,
            corpus_fingerprint=recorded.corpus_fingerprint if recorded is not None else data.fingerprint,
            target_compute=settings.target,
            versions={name: metadata.version(name) for name in PACKAGES},
            changeable=CHANGEABLE,
            checkpoints=self._given_checkpoints,
        )


def _absolute(place: str | Path) -> str:
    """A folder, the same from every working directory, or a URI."""
    return str(place) if "://" in str(place) else str(Path(place).expanduser().absolute())
