"""A PostgreSQL server that is killed under its drivers."""

from __future__ import annotations

import os
import signal
from typing import Any

LEDGER, PAUSE = "storage.ledger.Ledger", "search.steady.Steady"


def test_a_server_that_is_killed_and_started_again(server: Any, drivers: Any, check: Any) -> None:
    db = server.new()
    stops = [(LEDGER, "record", "before", 3, signal.SIGSTOP), (PAUSE, "_pause", "before", 1, signal.SIGSTOP)]
    running = [drivers.start(db, trials=10, calls=stops) for _ in range(2)]
    for change in (server.kill, server.start):
        for pid in running:
            drivers.wait_until_stopped(pid)
        change()
        for pid in running:
            os.kill(pid, signal.SIGCONT)
    assert {drivers.wait(pid)[1] for pid in running} == {0}, drivers.log
    assert (check(db, trials=10)["attempts"] == 1).all()
