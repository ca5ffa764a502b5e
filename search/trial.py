"""One attempt at a trial, from its checkpoint to its end: what a worker does, without knowing who asked."""

from __future__ import annotations

import socket
import time
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from search.report import Report
from search.vault import Vault, vault
from space.errors import CheckpointError
from trainers import checkpoint
from trainers.config import TrialConfig
from trainers.corpus import Corpus, load_corpus
from trainers.run import TrainingRun

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
