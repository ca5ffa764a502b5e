"""What a worker tells its driver. Nothing here imports torch: a driver has no need of it before it proposes."""

from __future__ import annotations

import dataclasses
import json
import socket
import traceback
from dataclasses import dataclass

from space.errors import DataError, RunError
from trainers.points import Coordinates, Point


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
