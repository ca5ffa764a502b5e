"""A study under way in this process: its driver, and the Ray that its trials run on."""

from __future__ import annotations

from dataclasses import dataclass

from search.connection import Connection
from search.driver import Driver


@dataclass(frozen=True, slots=True)
class Session:
    """What `Study.session` gives. `connection` is None where nothing is left to run."""

    driver: Driver
    connection: Connection | None

    def execute(self) -> None:
        """Run trials until the budget is used up.

        Raises:
            EinsearchError: the driver's fault; the study can be resumed.
        """
        if self.connection is None:
            return
        from search.executor import execute  # here: it loads Ray Tune, while workers load torch

        execute(self.driver, self.connection)
        if self.driver.fault is not None:
            raise self.driver.fault
        self.driver.conclude()
