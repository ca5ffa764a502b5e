"""One attempt at a trial, from its checkpoint to its end: what a worker does, without knowing who asked."""

from __future__ import annotations

import dataclasses
import json
import socket
import time
import traceback
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from search import below
from search.vault import Vault, vault
from space.errors import CheckpointError, DataError, RunError
from trainers import checkpoint
from trainers.config import TrialConfig
from trainers.coordinates import Coordinates
from trainers.corpus import Corpus, load_corpus
from trainers.points import Point
from trainers.run import TrainingRun


@dataclass(frozen=True, slots=True)
class Report:
    """What a worker tells its driver after each evaluation, and between; all counts are cumulative over the trial.

    `state` is "running", "completed", "diverged", "failed" (the trial's own fault), "fault" (the machine's or the user's: the
    trial goes back to the queue) or "truncated" (the driver's word, see `cut`). `start_flops` and `start_seconds` are those of
    the checkpoint the attempt resumed from.
    `host` is the worker's machine.
    """

    state: str
    points: tuple[Point, ...] = ()
    start_flops: float = 0.0
    start_seconds: float = 0.0
    flops: float = 0.0
    tokens: int = 0
    steps: int = 0
    seconds: float = 0.0
    progress: float = 0.0
    host: str = ""
    error: str | None = None
    coordinates: tuple[Coordinates, ...] = ()

    @property
    def loss(self) -> float | None:
        """Validation loss at the last point, nats per token."""
        return self.points[-1].loss if self.points else None

    def to_json(self) -> str:
        """One line of JSON; `from_json` undoes it."""
        return json.dumps(dataclasses.asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Report:
        """The report that `to_json` wrote."""
        row = json.loads(text)
        points, looks = (Point(**point) for point in row["points"]), (Coordinates(**look) for look in row["coordinates"])
        return cls(**{**row, "points": tuple(points), "coordinates": tuple(looks)})


SAVE_EVERY = 300.0
"""Seconds of training that a crash may cost, where evaluations are further apart."""

LOOK_EVERY = 10
"""Steps between two looks at the clock."""


class AttemptRunner:
    """Runs one attempt of a trial, evaluation by evaluation. A checkpoint is whole before the report of its point leaves.

    So a successor always resumes at or after the last reported point, and no compute is charged twice.

    Args:
        config: the trial's configuration, as JSON.
        place: of the trial's checkpoints, a folder or a URI; each attempt has a folder of its own in it.
        attempt: from 1. A first attempt starts afresh; a later one resumes the furthest whole checkpoint of the earlier ones.
    """

    def __init__(self, config: Mapping[str, Any], place: str, attempt: int) -> None:
        self._vault, self._attempt = vault(place), attempt
        settings = TrialConfig.from_dict(config)
        self._afresh = attempt == 1
        self._run = _resumed(settings, self._vault, attempt)
        self._start = (self._run.flops, self._run.seconds)
        self._saved, self._kept = self._run.step, time.monotonic()

    def advance(self, seconds: float | None = None) -> Report:
        """Train to the next evaluation, save, and report; with `seconds`, report after so many at the latest."""
        if self._afresh:  # here and not before: Tune may set up a second worker for a task, and never have it train
            self._vault.clear()
            self._afresh = False
        run, points = self._run, len(self._run.points)
        deadline = None if seconds is None else time.monotonic() + seconds
        while not run.done and len(run.points) == points:
            run.advance(None if deadline is None else LOOK_EVERY)
            if deadline is not None and time.monotonic() > deadline:
                break
        if len(run.points) > points or run.done or time.monotonic() - self._kept > SAVE_EVERY:
            self.save()
        return self._report()

    def save(self) -> None:
        """Keep a checkpoint of what was done, unless there is one.

        Raises:
            DiskError: it cannot be written.
        """
        if self._run.step > self._saved:
            self._vault.save(self._attempt, self._run.step, self._run.state_dict())
            self._saved = self._run.step
        self._kept = time.monotonic()

    def _report(self) -> Report:
        run, (flops, seconds) = self._run, self._start
        return Report(
            state="diverged" if run.diverged else "completed" if run.done else "running",
            points=tuple(run.points),
            coordinates=tuple(run.coordinates),
            start_flops=flops,
            start_seconds=seconds,
            flops=run.flops,
            tokens=run.tokens,
            steps=run.step,
            seconds=run.seconds,
            progress=run.step / run.steps,
            host=socket.gethostname(),
            error="the loss is no longer finite, or hopeless" if run.diverged else None,
        )


def failure(error: Exception, last: Report) -> Report:
    """The report of an attempt that raised after `last`: data that changed and a full disk are no fault of the trial."""
    if isinstance(error, DataError | RunError):
        return dataclasses.replace(last, state="fault", error=f"{error} (on {socket.gethostname()})")
    reason = "".join(traceback.format_exception_only(error)).strip()
    return dataclasses.replace(last, state="failed", error=reason)


def cut(report: Report, step: int) -> Report:
    """What a worker would have said had its run ended, stopped early, at the evaluation after `step`."""
    points = tuple(point for point in report.points if point.step <= step)
    last = points[-1]
    return dataclasses.replace(
        report, state="truncated", points=points, flops=last.flops, tokens=last.tokens, steps=last.step, seconds=last.seconds
    )


def place_of(checkpoints: str, number: int) -> str:
    """Where a trial's checkpoints are, in the place of its study's."""
    return below(checkpoints, f"trial-{number:05d}")


def _resumed(settings: TrialConfig, kept: Vault, attempt: int) -> TrainingRun:
    """The run at the furthest checkpoint of the earlier attempts that is whole and its own; at its start where none is."""
    run = TrainingRun(settings, corpus(settings.corpus))
    for path in kept.found(before=attempt):
        try:
            run.load_state_dict(checkpoint.load(path))
        except CheckpointError:
            run = TrainingRun(settings, corpus(settings.corpus))  # it may have been loaded in part
        else:
            return run
    return run


@lru_cache(maxsize=2)
def corpus(name: str) -> Corpus:
    """A corpus, opened and verified once in a process."""
    return load_corpus(name)
