"""Studies driven by other processes: `driving.py` reads orders, one JSON object a line, and forks a driver for each.

{"start": {...}} forks and answers with the driver's process id, {"wait": pid} answers with how it ended (below 0: by that
signal). An order to start has `name`, `db`, `trials`, `settings`; `workers` for Ray's, 0 for trials in the driver itself; and
perhaps `environment`, for it and its children, and `kill`: [class, method, "before" or "after", n], the n-th call at which the
driver kills itself.
"""

from __future__ import annotations

import importlib
import json
import os
import signal
import sys
import traceback
from typing import Any

from search.driver import Driver, Task
from search.settings import StudySettings
from search.study import Study
from search.trial import AttemptRunner
from storage.claims import Finished, Wait


def drive(driver: Driver) -> Wait | Finished:
    """Run trials in this very process until none is left to claim."""
    while isinstance(task := driver.next(), Task):
        runner = AttemptRunner(task.config, task.place, task.claim.attempt)
        while (report := runner.advance()) and driver.report(task, report) and report.state == "running":
            pass
    return task


def die_at(place: str, method: str, when: str, call: int) -> None:
    """Have the n-th call of a method kill this process, as `kill -9` would."""
    module, _, name = place.rpartition(".")
    owner = getattr(importlib.import_module(module), name)
    original = getattr(owner, method)
    calls = 0

    def fatal(*args: Any, **keywords: Any) -> Any:
        nonlocal calls
        calls += 1
        answer = None if when == "before" and calls == call else original(*args, **keywords)
        if calls == call:
            os.kill(os.getpid(), signal.SIGKILL)
        return answer

    setattr(owner, method, fatal)


def run(order: dict[str, Any]) -> None:
    """What a forked driver does."""
    os.environ.update(order.get("environment", {}))
    if "kill" in order:
        die_at(*order["kill"])
    study = Study(order["name"], db=order["db"], trials=order["trials"], settings=StudySettings.from_dict(order["settings"]))
    if order["workers"]:
        study.run(concurrency=order["workers"])
    else:
        with study.driver(create=True) as driver:
            drive(driver)


def fork(order: dict[str, Any]) -> int:
    """Start a driver; its standard output is ours no more."""
    if pid := os.fork():
        return pid
    status = 1
    try:
        os.setpgid(0, 0)
        os.dup2(2, 1)
        run(order)
        status = 0
    except BaseException:  # noqa: BLE001 - a fork must not return
        traceback.print_exc()
    finally:
        os._exit(status)


def main() -> None:
    """Obey until standard input ends."""
    for name in ("search.executor", "botorch.models", "storage.results"):
        importlib.import_module(name)
    for line in sys.stdin:
        order = json.loads(line)
        answer = fork(order["start"]) if "start" in order else os.waitstatus_to_exitcode(os.waitpid(order["wait"], 0)[1])
        print(answer, flush=True)


if __name__ == "__main__":
    main()
