"""Ray Tune runs the trials: a searcher that claims from the ledger, and actors that train (`search.worker`).

Tune decides nothing. It asks the searcher for tasks while actors are free, and hands back what they report; a resume is a new
Tuner on the same ledger. Tune pickles its searcher, so the searcher holds no database, only the key of its driver. It turns
exceptions of a searcher into text, so ours become the driver's fault first, and a fault stops everything.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import ray
from ray import tune
from ray._private import ray_constants
from ray.tune.search.searcher import Searcher

from search.driver import Driver, Task
from search.trial import Report
from search.worker import TrialActor
from space.errors import EinsearchError, RunError
from storage.claims import Wait

_DRIVERS: dict[int, Driver] = {}

QUIET = {
    "RAY_AUTH_MODE": "disabled",  # a cluster of this process's own, on loopback
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_gcs_rpc_server_reconnect_timeout_s": "10",  # agents of a killed driver look for it so long
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_TRAIN_ENABLE_V2_MIGRATION_WARNINGS": "0",
    "RAY_AIR_NEW_OUTPUT": "0",  # the other output obeys verbose=0
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_DISABLE_SIGINT_HANDLER": "1",
    "TUNE_WARN_SLOW_EXPERIMENT_CHECKPOINT_SYNC_THRESHOLD_S": "0",
}
"""Ray's settings for an embedded cluster; what a person has set stays."""


class LedgerSearcher(Searcher):
    """Tune's searcher: `suggest` claims, results and ends go to the ledger."""

    def __init__(self, driver: int, threads: int) -> None:
        super().__init__(metric="flops", mode="max")
        self._driver, self._threads = driver, threads
        self._tasks: dict[str, Task] = {}

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:
        """The next task, None to wait, FINISHED when the budget is used up."""
        task: Task | Wait | None = None
        with _faults_of(self._driver) as driver:
            found = driver.next()
            task = found if isinstance(found, Task | Wait) else None
        if isinstance(task, Wait):
            return None
        if task is None:
            return str(Searcher.FINISHED)
        self._tasks[trial_id] = task
        return {
            "config": dict(task.config),
            "folder": str(task.folder),
            "attempt": task.claim.attempt,
            "threads": self._threads,
        }

    def on_trial_result(self, trial_id: str, result: Mapping[str, Any]) -> None:
        """Record evaluations."""
        self._record(trial_id, result)

    def on_trial_complete(self, trial_id: str, result: Mapping[str, Any] | None = None, error: bool = False) -> None:
        """Record the end, or give the trial back where its worker died."""
        if not error and result and "report" in result:
            self._record(trial_id, result)
        task = self._tasks.pop(trial_id)
        if error:
            with _faults_of(self._driver) as driver:
                driver.lose(task, "its worker process died")

    def _record(self, trial_id: str, result: Mapping[str, Any]) -> None:
        with _faults_of(self._driver) as driver:
            driver.report(self._tasks[trial_id], Report.from_json(result["report"]))

    def save(self, checkpoint_path: str) -> None:
        """Nothing: the ledger is the state."""
        Path(checkpoint_path).touch()

    def restore(self, checkpoint_path: str) -> None:  # noqa: ARG002 - the interface is Tune's
        """Refused: a study resumes from its ledger."""
        raise RuntimeError("resume the study from its database, not from Ray Tune's files")


class FaultStopper(tune.Stopper):
    """Tune's question whether to go on: not past a fault of the driver."""

    def __init__(self, driver: int) -> None:
        self._driver = driver

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:  # noqa: ARG002 - the interface is Tune's
        """No trial is stopped on its own."""
        return False

    def stop_all(self) -> bool:
        """Stop everything after a fault; what runs goes back to the queue."""
        return _DRIVERS[self._driver].fault is not None


def execute(driver: Driver, concurrency: int, threads: int = 1) -> None:
    """Run trials until the study's budget is used up, or the driver has a fault.

    Args:
        concurrency: trials at a time; each takes one CPU.
        threads: of torch, per trial.
    """
    with _cluster(concurrency), _registered(driver) as key, tempfile.TemporaryDirectory(prefix="einsearch-tune-") as scratch:
        tuner = tune.Tuner(
            tune.with_resources(TrialActor, {"cpu": 1}),
            tune_config=tune.TuneConfig(
                search_alg=LedgerSearcher(key, threads),
                num_samples=-1,
                max_concurrent_trials=concurrency,
                reuse_actors=True,
            ),
            run_config=tune.RunConfig(
                storage_path=scratch,
                verbose=0,
                stop=FaultStopper(key),
                failure_config=tune.FailureConfig(max_failures=0),
                callbacks=[],
            ),
        )
        tuner.fit()


@contextmanager
def _cluster(cpus: int) -> Iterator[None]:
    """Ray on this machine, for as long as it is needed, reachable on loopback only.

    On Linux Ray answers a wish for 127.0.0.1 with the address of the machine, and then listens on all of them. Where it does
    not expect other machines (as it never does on macOS), it stays on loopback.
    """
    for name, value in QUIET.items():
        os.environ.setdefault(name, value)
    expected, ray_constants.ENABLE_RAY_CLUSTER = ray_constants.ENABLE_RAY_CLUSTER, False
    try:
        ray.init(address="local", num_cpus=cpus, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
        yield
    finally:
        ray.shutdown()
        ray_constants.ENABLE_RAY_CLUSTER = expected


@contextmanager
def _faults_of(key: int) -> Iterator[Driver]:
    """The driver; whatever goes wrong inside becomes its fault. Tune would blame, and fail, the trial."""
    driver = _DRIVERS[key]
    try:
        yield driver
    except EinsearchError as error:
        driver.fault = driver.fault or error
    except Exception as error:  # noqa: BLE001 - Optuna's errors among them; none may cost a trial
        driver.fault = driver.fault or RunError(f"{type(error).__name__}: {error}; nothing recorded is lost, resume the study")


@contextmanager
def _registered(driver: Driver) -> Iterator[int]:
    key = id(driver)
    _DRIVERS[key] = driver
    try:
        yield key
    finally:
        del _DRIVERS[key]
