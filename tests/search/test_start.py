"""How a study starts: nothing heavy before what is wrong with it is found, and workers that are ready when they are needed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
import ray
from ray.tune.execution.class_cache import _ActorClassCache

from search.cluster import Cluster
from search.connection import Connection
from search.executor import _workers_that_wait
from search.settings import StudySettings
from search.study import Study
from space.errors import RunError, UserError


def test_a_driver_claims_its_first_trials_without_torch(settings: StudySettings, tmp_path: Path) -> None:
    script = f"""
import sys
from search.settings import StudySettings
from search.study import Study
settings = StudySettings.from_dict({settings.to_dict()!r})
with Study("s", db="sqlite:///{tmp_path}/s.db", settings=settings).driver(create=True) as driver:
    print(driver.next().claim.number, "torch" in sys.modules)
"""
    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert ran.stdout == "0 False\n", ran.stderr


@pytest.mark.parametrize(
    "wrong",
    [
        lambda folder: Study("s", db=f"sqlite:///{folder}/none.db").session(create=False),
        lambda folder: Study("s", db=f"sqlite:///{folder}/s.db", trials=1).session(create=True),
        lambda folder: Study("s", db=f"sqlite:///{folder}/s.db").session(create=True, concurrency=0),
    ],
)
def test_ray_does_not_start_for_a_study_that_cannot(wrong: Callable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    began = []
    monkeypatch.setattr(Connection, "__enter__", lambda self: began.append(self) or self)
    with pytest.raises(UserError), wrong(tmp_path):
        pass
    assert not began


def test_tune_runs_in_the_workers_that_ray_began_with() -> None:
    class Actor:
        def process(self) -> tuple[int, bool]:
            return os.getpid(), "search.worker" in sys.modules

    with Connection(Cluster(), 1) as connection:
        connection.wait()
        waiting = {process.pid for process in psutil.Process().children(recursive=True)}
        with _workers_that_wait(connection.cluster):
            actor = _ActorClassCache().get(Actor).remote()
        process, ready = ray.get(actor.process.remote())
    assert process in waiting
    assert ready


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signals_are_the_programs_own_while_ray_is_there(number: int) -> None:
    script = f"""
import signal
from search.cluster import Cluster
from search.connection import Connection
signal.signal({number}, lambda *_: print("heard"))
with Connection(Cluster(), 1) as connection:
    connection.wait()
    signal.raise_signal({number})
"""
    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert (ran.returncode, ran.stdout, ran.stderr) == (0, "heard\n", "")


def test_a_cluster_that_is_not_there_is_said_when_it_is_needed() -> None:
    with Connection(Cluster("127.0.0.1:1")) as connection, pytest.raises(RunError, match="no Ray cluster answers at 127"):
        connection.wait()
