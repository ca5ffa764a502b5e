"""One attempt at a trial, from its checkpoint to its end: what a worker does, without knowing who asked."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import shutil
import traceback
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from space.errors import CheckpointError, DataError, RunError
from trainers import checkpoint
from trainers.config import TrialConfig
from trainers.corpus import Corpus, load_corpus
from trainers.points import Point
from trainers.run import TrainingRun


@dataclass(frozen=True, slots=True)
class Report:
    """What a worker tells its driver after each evaluation; all counts are cumulative over the trial.

    `state` is "running", "completed", "diverged", "failed" (the trial's own fault) or "fault" (the machine's or the user's: the
    trial goes back to the queue). `start_flops` and `start_seconds` are those of the checkpoint the attempt resumed from.
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
    error: str | None = None

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
        return cls(**{**row, "points": tuple(Point(**point) for point in row["points"])})


KEPT = 2
"""Checkpoints that an attempt keeps: a successor may be reading the one before the last."""


class AttemptRunner:
    """Runs one attempt of a trial, evaluation by evaluation. A checkpoint is whole on disk before its report leaves.

    So a successor always resumes at or after the last reported point, and no compute is charged twice.

    Args:
        config: the trial's configuration, as JSON.
        folder: the trial's checkpoints; each attempt has a folder of its own in it.
        attempt: from 1. A first attempt starts afresh; a later one resumes the furthest whole checkpoint of the earlier ones.
    """

    def __init__(self, config: Mapping[str, Any], folder: Path, attempt: int) -> None:
        self._folder = folder / f"attempt-{attempt}"
        settings = TrialConfig.from_dict(config)
        if attempt == 1:
            shutil.rmtree(folder, ignore_errors=True)
        self._run = _resumed(settings, folder, attempt)
        self._start = (self._run.flops, self._run.seconds)

    def advance(self) -> Report:
        """Train to the next evaluation, save, and report."""
        if not self._run.done:
            self._run.advance()
            self._save()
        state = "diverged" if self._run.diverged else "completed" if self._run.done else "running"
        run, (flops, seconds) = self._run, self._start
        return Report(
            state=state,
            points=tuple(run.points),
            start_flops=flops,
            start_seconds=seconds,
            flops=run.flops,
            tokens=run.tokens,
            steps=run.step,
            seconds=run.seconds,
            progress=run.step / run.steps,
            error="the loss is no longer finite, or hopeless" if run.diverged else None,
        )

    def _save(self) -> None:
        path = checkpoint.path_at(self._folder, self._run.step)
        checkpoint.save(path, self._run.state_dict())
        for older in sorted(self._folder.glob(f"*{checkpoint.SUFFIX}"))[:-KEPT]:
            older.unlink(missing_ok=True)


def failure(error: Exception, last: Report) -> Report:
    """The report of an attempt that raised after `last`: data that changed and a full disk are no fault of the trial."""
    if isinstance(error, DataError | RunError):
        return dataclasses.replace(last, state="fault", error=str(error))
    reason = "".join(traceback.format_exception_only(error)).strip()
    return dataclasses.replace(last, state="failed", error=reason)


def folder_of(checkpoints: Path, number: int) -> Path:
    """Where a trial's checkpoints are, in the folder of its study's."""
    return checkpoints / f"trial-{number:05d}"


def final_checkpoint(folder: Path) -> Path | None:
    """The furthest whole checkpoint of a trial, over all its attempts."""
    found = [path for attempt in folder.glob("attempt-*") if (path := checkpoint.latest(attempt)) is not None]
    return max(found, key=lambda path: path.name, default=None)


def _resumed(settings: TrialConfig, folder: Path, attempt: int) -> TrainingRun:
    """The run at the furthest checkpoint of the earlier attempts that is whole and its own; at its start where none is."""
    found = [checkpoint.latest(folder / f"attempt-{earlier}") for earlier in range(1, attempt)]
    whole = [path for path in found if path is not None]
    for path in sorted(whole, key=lambda path: path.name, reverse=True):
        run = TrainingRun(settings, corpus(settings.corpus))
        with contextlib.suppress(CheckpointError):
            run.load_state_dict(checkpoint.load(path))
            return run
    return TrainingRun(settings, corpus(settings.corpus))


@lru_cache(maxsize=2)
def corpus(name: str) -> Corpus:
    """A corpus, opened and verified once in a process."""
    return load_corpus(name)
