"""What a study survives under Ray: workers and drivers that are killed."""

from __future__ import annotations

import contextlib
import os
import signal
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd

from search.driver import Driver
from search.settings import Rung, StudySettings
from search.study import Study

PATIENCE = 300.0
"""Seconds after which a condition that was waited for has failed."""

ENDED = "finished IS NOT NULL"
UNDER_WAY = "state = 'running' AND steps > 0"
RUNNING_AGAIN = "attempts > 1"

LISTENING = "0A"
LOOPBACK = {"0100007F", "00000000000000000000000001000000", "0000000000000000FFFF00000100007F"}


def wait_until(condition: Callable[[], bool], what: str) -> None:
    end = time.monotonic() + PATIENCE
    pause = threading.Event()
    while not condition():
        assert time.monotonic() < end, f"waited in vain until {what}"
        pause.wait(0.1)


def count(study: Study, condition: str) -> int:
    """Trials that meet a condition in SQL; 0 while there is no table."""
    with contextlib.suppress(sqlite3.Error), contextlib.closing(sqlite3.connect(study.db.removeprefix("sqlite:///"))) as file:
        return int(file.execute(f"SELECT count(*) FROM einsearch_trials WHERE {condition}").fetchone()[0])
    return 0


def processes() -> Iterator[tuple[int, bytes, bytes]]:
    """(id, command line, environment) of every process that we may look at."""
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if (folder / "stat").read_text().rpartition(")")[2].split()[0] not in "ZX":
                yield int(folder.name), (folder / "cmdline").read_bytes(), (folder / "environ").read_bytes()


def marked(mark: str) -> list[int]:
    """Processes that a driver with this mark started."""
    return [pid for pid, _, environment in processes() if f"EINSEARCH_TEST_MARK={mark}\0".encode() in environment]


def listening(pids: set[int]) -> set[str]:
    """Addresses, in the kernel's hexadecimal, on which these processes listen."""
    inodes: set[str] = set()
    for pid in pids:
        for link in Path(f"/proc/{pid}/fd").glob("*"):
            with contextlib.suppress(OSError):
                inodes.add(str(link.readlink()))
    found = set()
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        for line in Path(table).read_text().splitlines()[1:]:
            columns = line.split()
            if columns[3] == LISTENING and f"socket:[{columns[9]}]" in inodes:
                found.add(columns[1].partition(":")[0])
    return found


def lengthen(settings: StudySettings, factor: float) -> StudySettings:
    """The settings with more compute and more evaluations: a study that can be met in mid-trial."""
    rungs = tuple(Rung(flops=factor * rung.flops, width=rung.width) for rung in settings.rungs)
    return replace(settings, rungs=rungs, trial=replace(settings.trial, evaluations=12))


def workers(mark: str) -> list[int]:
    """Those of a driver's processes that run a trial."""
    mine, names = set(marked(mark)), (b"ray::TrialActor", b"ray::ResourceTrainable")
    return [pid for pid, command, _ in processes() if pid in mine and command.startswith(names)]


def test_a_killed_worker_is_replaced_and_kill_9_leaves_no_process_and_loses_nothing(
    study: Study,
    settings: StudySettings,
    others: Any,
    drive: Callable[[Driver], Any],
    whole: Callable[..., pd.DataFrame],
    attempts: Callable[[Study], pd.DataFrame],
    tmp_path: Path,
) -> None:
    study.settings = lengthen(settings, 12)
    calm = Study("calm", db=f"sqlite:///{tmp_path}/calm.db", trials=4, settings=study.settings)
    with calm.driver(create=True) as driver:
        drive(driver)
    losses = calm.trials_frame()["loss"].to_dict()

    mark = f"{os.getpid()}"
    pid = others.start(study, workers=2, environment={"EINSEARCH_TEST_MARK": mark})
    wait_until(lambda: count(study, UNDER_WAY) > 0, "a trial is under way")
    os.kill(workers(mark)[0], signal.SIGKILL)
    wait_until(lambda: count(study, ENDED) >= 1 and count(study, RUNNING_AGAIN) >= 1, "a trial has a second worker")
    assert listening(set(marked(mark)) | {pid}) <= LOOPBACK
    os.kill(pid, signal.SIGKILL)
    assert others.wait(pid) == -signal.SIGKILL
    wait_until(lambda: not marked(mark), "the processes of a killed driver have gone")
    assert count(study, ENDED) < 6, "the study was over before it was killed"

    with study.driver(create=False) as driver:
        drive(driver)
    whole(study, 6, losses)
    assert "preempted" in set(attempts(study)["state"])
