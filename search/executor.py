"""Ray Tune runs the trials: a searcher that claims from the ledger, a scheduler that asks it whether a run goes on, and actors
that train (`search.worker`).

Tune decides nothing. It asks the searcher for tasks while there is room, and hands what they report to the scheduler; a resume
is a new experiment on the same ledger. Tune pickles both, so they hold no database, only the key of their crew. It turns
exceptions of a searcher into text, so ours become the driver's fault first, and a fault stops everything.
"""

from __future__ import annotations

import logging
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from typing import Any

import ray
from ray import tune
from ray.tune.progress_reporter import TrialProgressCallback
from ray.tune.schedulers import FIFOScheduler
from ray.tune.search.searcher import Searcher

from search.cluster import Cluster, waiting_for
from search.connection import Connection, replaced
from search.driver import Driver, Task
from search.report import Report
from search.worker import TrialActor
from space.errors import EinsearchError, RunError
from storage.claims import Finished, Wait

UNBOUNDED = 10_000
"""Trials at a time where the room of the cluster is the only bound."""

EVENT_SECONDS = 0.5
"""How long Tune's loop waits for an event before it goes round once more, to ask for tasks and for a fault: 2 ms."""

LOOK_EVERY = 2.0
"""Seconds between two looks at what a cluster has."""


class Crew:
    """A driver and the cluster its trials run on: how many to claim, and where each is.

    Args:
        workers: trials at a time; None for as many as there is room for.
    """

    def __init__(self, driver: Driver, cluster: Cluster, workers: int | None) -> None:
        self.driver, self.cluster, self.workers = driver, cluster, workers
        self.tasks: dict[str, Task] = {}
        self._started: set[str] = set()
        self._looked = -LOOK_EVERY
        self._nodes: list[dict[str, float]] = []
        self._free: dict[str, float] = {}

    def next(self) -> Task | Wait | None:
        """The next task; Wait also where there is no room for one more, None at the end of everything."""
        if self.workers is not None and len(self.tasks) >= self.workers:
            return Wait(len(self.tasks))
        with self.faults():
            if not self._has_room():
                return Wait(len(self.tasks))
            found = self.driver.next()
            return None if isinstance(found, Finished) else found
        return None

    def started(self, trial_id: str) -> None:
        """A worker has the task."""
        self._started.add(trial_id)
        self.note()

    def ended(self, trial_id: str) -> Task | None:
        """The task that a worker is done with."""
        self._started.discard(trial_id)
        return self.tasks.pop(trial_id, None)

    def report(self, trial_id: str, result: Mapping[str, Any]) -> bool:
        """Record what a worker says; whether its run goes on."""
        with self.faults():
            return self.driver.report(self.tasks[trial_id], Report.from_json(result["report"]))
        return False

    @contextmanager
    def faults(self) -> Iterator[None]:
        """Whatever goes wrong inside becomes the driver's fault. Tune would blame, and fail, the trial."""
        try:
            yield
        except EinsearchError as error:
            self.driver.stop(error)
        except Exception as error:  # noqa: BLE001 - Optuna's errors among them; none may cost a trial
            self.driver.stop(RunError(f"{type(error).__name__}: {error}; nothing recorded is lost, resume the study"))

    def _has_room(self) -> bool:
        """Whether to claim one more: not before the cluster has taken those that were claimed."""
        if self.cluster.embedded:
            return True
        self._look()
        unstarted = len(self.tasks.keys() - self._started)
        return not unstarted or unstarted < self.cluster.room(self._free)

    def _look(self) -> None:
        """See what the cluster has and what is free; note what waits, and why, where others can read it."""
        if time.monotonic() - self._looked < LOOK_EVERY:
            return
        self._looked = time.monotonic()
        self._nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
        self._free = ray.available_resources()
        self.note()

    def note(self) -> None:
        """Tell the driver where its trials run, for `status`."""
        waiting = sorted(task.claim.number for key, task in self.tasks.items() if key not in self._started)
        self.driver.place = {
            "address": self.cluster.address,
            "resources": dict(self.cluster.resources),
            "waiting": waiting,
            "reason": waiting_for(self.cluster.resources, self._nodes) if waiting and self._nodes else None,
        }


_CREWS: dict[int, Crew] = {}


class LedgerSearcher(Searcher):
    """Tune's searcher: `suggest` claims, and ends go to the ledger."""

    def __init__(self, crew: int, threads: int) -> None:
        super().__init__(metric="flops", mode="max")
        self._crew, self._threads = crew, threads

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:
        """The next task, None to wait, FINISHED when the budget is used up."""
        crew = _CREWS[self._crew]
        task = crew.next()
        if isinstance(task, Wait):
            return None
        if task is None:
            return str(Searcher.FINISHED)
        crew.tasks[trial_id] = task
        return {"config": dict(task.config), "place": task.place, "attempt": task.claim.attempt, "threads": self._threads}

    def on_trial_complete(self, trial_id: str, result: Mapping[str, Any] | None = None, error: bool = False) -> None:
        """Record the end, or give the trial back where its worker died."""
        crew = _CREWS[self._crew]
        if not error and result and "report" in result:
            crew.report(trial_id, result)
        task = crew.ended(trial_id)
        if error and task is not None:
            with crew.faults():
                crew.driver.lose(task, "its worker process died")

    def save(self, checkpoint_path: str) -> None:
        """Nothing: the ledger is the state."""
        Path(checkpoint_path).touch()

    def restore(self, checkpoint_path: str) -> None:  # noqa: ARG002 - the interface is Tune's
        """Refused: a study resumes from its ledger."""
        raise RuntimeError("resume the study from its database, not from Ray Tune's files")


class LedgerScheduler(FIFOScheduler):
    """Tune's scheduler: evaluations go to the ledger, and what was decided there (`search.stopping`) is Tune's answer."""

    def __init__(self, crew: int) -> None:
        super().__init__()
        self._crew = crew

    def on_trial_add(self, tune_controller: Any, trial: Any) -> None:  # noqa: ARG002
        """A task was claimed: have Tune forget those that ended."""
        with suppress(AttributeError):
            forget_ended(tune_controller._tune_controller)

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:  # noqa: ARG002
        """Record evaluations; stop what is over."""
        crew = _CREWS[self._crew]
        goes_on = crew.report(trial.trial_id, result) or crew.driver.fault is not None  # a fault stops all, with a checkpoint
        return str(self.CONTINUE if goes_on else self.STOP)


def forget_ended(controller: Any) -> None:
    """Drop the trials that ended from Tune's memory and from its record of the experiment.

    Tune keeps tens of kilobytes of each for a resume of its own, which is never asked for. What is dropped has no actor left:
    Tune takes it away, or gives it the next trial, when it declares a trial ended. A version of Tune that names these otherwise
    keeps them.
    """
    ended = controller._stopped_trials | controller._failed_trials
    controller._trials[:] = [trial for trial in controller._trials if trial not in ended]
    for trial in ended:
        controller._trial_metadata.pop(trial.trial_id, None)
    for kept in (controller._live_trials, controller._trials_to_cache, controller._stopped_trials, controller._failed_trials):
        kept -= ended
    awaited = controller._actor_manager._tracked_actors_to_state_futures
    for actor in [actor for actor, futures in awaited.items() if not futures]:
        del awaited[actor]


class FaultStopper(tune.Stopper):
    """Tune's question whether to go on: not past a fault of the driver."""

    def __init__(self, crew: int) -> None:
        self._crew = crew

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:  # noqa: ARG002 - the interface is Tune's
        """No trial is stopped on its own."""
        return False

    def stop_all(self) -> bool:
        """Stop everything after a fault; workers keep a checkpoint, and what runs goes back to the queue."""
        return _CREWS[self._crew].driver.fault is not None


class Placement(tune.Callback):
    """Hears from Tune which task a worker has."""

    def __init__(self, crew: int) -> None:
        self._crew = crew

    def on_trial_start(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:  # noqa: ARG002
        """A worker has the task."""
        _CREWS[self._crew].started(trial.trial_id)


class Silence(TrialProgressCallback):
    """Stands where Tune's printer of results would, which keeps every trial that it heard of."""

    def log_result(self, trial: Any, result: Mapping[str, Any], error: bool = False) -> None:
        """Print nothing."""

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """Note nothing."""


def execute(driver: Driver, connection: Connection, threads: int = 1) -> None:
    """Run trials until the study's budget is used up, or the driver has a fault.

    Args:
        threads: of torch, per trial.

    Raises:
        RunError: the cluster cannot be reached.
    """
    connection.wait()
    crew = Crew(driver, connection.cluster, connection.workers)
    with _registered(crew) as key, tempfile.TemporaryDirectory(prefix="einsearch-tune-") as scratch:
        crew.note()
        with crew.faults(), _workers_that_wait(crew.cluster), _a_loop_that_waits():
            _experiment(crew, key, scratch, threads)


def _experiment(crew: Crew, key: int, scratch: str, threads: int) -> None:
    """Trials in an experiment of Tune's, until nothing is left."""
    logging.getLogger("ray.tune").setLevel(logging.CRITICAL)  # what goes wrong is in the ledger, and told by the driver
    tune.run(
        TrialActor,
        resources_per_trial=tune.PlacementGroupFactory([dict(crew.cluster.resources)]),
        search_alg=LedgerSearcher(key, threads),
        scheduler=LedgerScheduler(key),
        num_samples=-1,
        max_concurrent_trials=crew.workers or UNBOUNDED,
        reuse_actors=True,
        storage_path=scratch,
        verbose=0,
        stop=FaultStopper(key),
        max_failures=0,
        raise_on_failed_trial=False,
        callbacks=[Placement(key), Silence()],
        _remote=False,  # the searcher needs this process
    )


@contextmanager
def _workers_that_wait(cluster: Cluster) -> Iterator[None]:
    """Have Tune run trials in the workers that Ray began with, which have loaded torch by now.

    Tune asks for environment variables of its own, and Ray starts new processes to give them. Workers of a cluster of this
    process's own inherit them all.
    """
    from ray.tune.execution import class_cache

    with replaced(class_cache, DEFAULT_ENV_VARS={}, ENV_VARS_TO_PROPAGATE=set()) if cluster.embedded else nullcontext():
        yield


@contextmanager
def _a_loop_that_waits() -> Iterator[None]:
    """Have Tune's loop go round at events, and every `EVENT_SECONDS`. It would every tenth of a second, at 2 % of a core."""
    from ray.air.execution._internal import RayActorManager

    wait = RayActorManager.next

    def longer(manager: RayActorManager, timeout: float | None = None) -> bool:
        return bool(wait(manager, timeout if timeout is None else max(timeout, EVENT_SECONDS)))

    with replaced(RayActorManager, next=longer):
        yield


@contextmanager
def _registered(crew: Crew) -> Iterator[int]:
    key = id(crew)
    _CREWS[key] = crew
    try:
        yield key
    finally:
        del _CREWS[key]
