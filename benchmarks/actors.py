"""Trials that cost nothing, or a known amount, in workers that import what a trial's workers do."""

from __future__ import annotations

import hashlib
import os
import time
from typing import Any

from search.report import Report
from search.worker import TrialActor
from trainers.points import Point


class NoopActor(TrialActor):
    """Ends a trial as soon as it has it, or sleeps through it."""

    def setup(self, config: dict[str, Any]) -> None:
        """Nothing to prepare."""
        self._seconds = float(config.get("seconds", os.environ.get("NOOP_SECONDS", 0)))

    def step(self) -> dict[str, Any]:
        """The whole trial."""
        time.sleep(self._seconds)
        return {"report": ended().to_json(), "flops": 1e9, "loss": 2.0, "done": True}

    def cleanup(self) -> None:
        """Nothing to keep."""


class BusyActor(NoopActor):
    """Keeps a core busy for a fixed amount of work."""

    def step(self) -> dict[str, Any]:
        """The work, then the end."""
        work()
        return super().step()


def work(rounds: int = 0) -> None:
    """About half a minute of a core, the same amount each time; `BUSY_ROUNDS` says how much that is here."""
    block = bytes(2**20)
    for _ in range(rounds or int(os.environ["BUSY_ROUNDS"])):
        hashlib.sha256(block)


def ended() -> Report:
    """What a trial that costs nothing says: three evaluations, and that it is over."""
    points = tuple(Point(step, 64 * step, 1e7 * step, 2 + 1 / step, 2 + 1 / step, 0.1 * step, False) for step in (2, 4, 8))
    return Report("completed", points, flops=8e7, tokens=512, steps=8, seconds=0.8, progress=1.0)
