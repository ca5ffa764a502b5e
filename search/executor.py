"""Ray Tune runs the trials: a searcher that claims from the ledger, and an actor that trains.

Tune decides nothing. It asks the searcher for tasks while actors are free, and hands back what they report; a resume is a new
Tuner on the same ledger. Tune pickles its searcher, so the searcher holds no database, only the key of its driver.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import ray
import torch
from ray import tune
from ray.tune.search.searcher import Searcher

from search.driver import Driver, Task
from search.trial import AttemptRunner, Report, failure
from storage.claims import Finished, Wait

_DRIVERS: dict[int, Driver] = {}

QUIET = {
    "RAY_AUTH_MODE": "disabled",  # a cluster of this process's own, on loopback
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_TRAIN_ENABLE_V2_MIGRATION_WARNINGS": "0",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_DISABLE_SIGINT_HANDLER": "1",
    "TUNE_WARN_SLOW_EXPERIMENT_CHECKPOINT_SYNC_THRESHOLD_S": "0",
}
"""Ray's settings for an embedded cluster; what a person has set stays."""


class TrialActor(tune.Trainable):
    """A worker of Tune's: one attempt at a time, reused for the next."""

    def setup(self, config: dict[str, Any]) -> None:
        """Take a new task; a failure is reported by the first step, so that its reason reaches the ledger."""
        torch.set_num_threads(max(1, int(config["threads"])))
        self._runner: AttemptRunner | None = None
        self._failed: Report | None = None
        try:
            self._runner = AttemptRunner(config["config"], Path(config["folder"]), config["attempt"])
        except Exception as error:  # noqa: BLE001 - the boundary of a worker: whatever happened belongs in the ledger
            self._failed = failure(error)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Tune's question whether the actor can be reused: always."""
        self.setup(new_config)
        return True

    def step(self) -> dict[str, Any]:
        """Train to the next evaluation."""
        try:
            report = self._failed or self._runner.advance()  # type: ignore[union-attr]
        except Exception as error:  # noqa: BLE001 - as in setup
            report = failure(error)
        return {"report": report.to_json(), "flops": report.flops, "done": report.state != "running"}

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        """Nothing for Tune to keep: checkpoints are written by `step`, before its report."""

    def load_checkpoint(self, checkpoint: Any) -> None:
        """Nothing to load: a task says where its checkpoints are."""


class LedgerSearcher(Searcher):
    """Tune's searcher: `suggest` claims, results and ends go to the ledger."""

    def __init__(self, driver: int, threads: int) -> None:
        super().__init__(metric="flops", mode="max")
        self._driver, self._threads = driver, threads
        self._tasks: dict[str, Task] = {}

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:
        """The next task, None to wait, FINISHED when the budget is used up."""
        task = _DRIVERS[self._driver].next()
        if isinstance(task, Wait):
            return None
        if isinstance(task, Finished):
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
            _DRIVERS[self._driver].lose(task, "its worker process died")

    def _record(self, trial_id: str, result: Mapping[str, Any]) -> None:
        _DRIVERS[self._driver].report(self._tasks[trial_id], Report.from_json(result["report"]))

    def save(self, checkpoint_path: str) -> None:
        """Nothing: the ledger is the state."""
        Path(checkpoint_path).touch()

    def restore(self, checkpoint_path: str) -> None:  # noqa: ARG002 - the interface is Tune's
        """Refused: a study resumes from its ledger."""
        raise RuntimeError("resume the study from its database, not from Ray Tune's files")


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
                storage_path=scratch, verbose=0, failure_config=tune.FailureConfig(max_failures=0), callbacks=[]
            ),
        )
        tuner.fit()


@contextmanager
def _cluster(cpus: int) -> Iterator[None]:
    """Ray on this machine, for as long as it is needed, reachable on loopback only."""
    for name, value in QUIET.items():
        os.environ.setdefault(name, value)
    ray.init(
        address="local",
        num_cpus=cpus,
        include_dashboard=False,
        log_to_driver=False,
        logging_level="ERROR",
        _node_ip_address="127.0.0.1",
    )
    try:
        yield
    finally:
        ray.shutdown()


@contextmanager
def _registered(driver: Driver) -> Iterator[int]:
    key = id(driver)
    _DRIVERS[key] = driver
    try:
        yield key
    finally:
        del _DRIVERS[key]
