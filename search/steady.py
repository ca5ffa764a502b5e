"""Patience with a database that is away: operations that are tried again until it is back."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

from storage.failures import UnavailableError

Answer = TypeVar("Answer")

PATIENCE = 900.0
"""Seconds a driver waits for its database before it gives up; its workers go on to their next report meanwhile."""

FIRST_PAUSE, LONGEST_PAUSE = 0.05, 5.0


class Steady:
    """Repeats an operation while the database is unavailable.

    What was asked may have been done, and only the answer lost. So each operation given here is one whose repetition changes
    nothing, or comes with `again`, which finds out first.

    Attributes:
        away: why the database is waited for, None while it answers.
    """

    def __init__(self, patience: float = PATIENCE) -> None:
        self._patience = patience
        self._hurried = False
        self.away: str | None = None

    def hurry(self) -> None:
        """Wait no longer, now and from now on: this process is to stop. A signal handler may call it, as it takes no lock."""
        self._hurried = True

    def __call__(self, operation: Callable[[], Answer], again: Callable[[], Answer] | None = None) -> Answer:
        """The answer of `operation`, or of `again` once an answer was lost.

        Raises:
            UnavailableError: the database is still away after all patience, or this process is to stop.
        """
        deadline, pause = time.monotonic() + self._patience, FIRST_PAUSE
        while True:
            try:
                answer = operation()
            except UnavailableError as error:
                self.away = str(error)
                self._pause(pause)
                if self._hurried or time.monotonic() > deadline:
                    raise
                operation, pause = again or operation, min(2 * pause, LONGEST_PAUSE)
            else:
                self.away = None
                return answer

    def _pause(self, seconds: float) -> None:
        end = time.monotonic() + seconds
        while not self._hurried and time.monotonic() < end:
            time.sleep(FIRST_PAUSE)
