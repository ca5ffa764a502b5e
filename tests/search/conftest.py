"""Tiny studies on generated text, drivers in other processes, and what must hold of a study that has ended."""

from __future__ import annotations

import importlib.util
import json
import os
import random
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import optuna
import pandas as pd
import pytest
from optuna.trial import TrialState
from sqlalchemy import select

from search.driver import Driver
from search.sampler import parameters
from search.settings import Rung, StudySettings
from search.study import Study
from space.structure import Structure
from storage.claims import Finished, Wait
from storage.database import Database
from storage.schema import Attempt, Trial
from trainers import flops
from trainers.config import TrialConfig
from trainers.gpt_config import model_config
from trainers.text import VOCAB_SIZE

DRIVING = Path(__file__).with_name("driving.py")
TRIALS = 6

Drive = Callable[[Driver], Wait | Finished]


def write_text(folder: Path, seed: int) -> Path:
    """A folder of 40 small documents that a model can learn something from."""
    rng = random.Random(seed)
    words = ["".join(rng.choices("abcdefgh", k=rng.randint(1, 5))) for _ in range(40)]
    folder.mkdir(exist_ok=True)
    for number in range(40):
        lines = (" ".join(rng.choices(words, k=8)) for _ in range(40))
        (folder / f"{number}.txt").write_text("\n".join(lines))
    return folder


@pytest.fixture(scope="session")
def new_text() -> Callable[[Path, int], Path]:
    return write_text


@pytest.fixture(scope="session")
def text(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_text(tmp_path_factory.mktemp("text"), 0)


@pytest.fixture(scope="session")
def settings(text: Path) -> StudySettings:
    """A study whose trials take a fraction of a second: four are planned, dense at two sizes, Monarch, Kronecker."""
    trial = TrialConfig(
        structure="dense", width=8, budget_flops=1, depth=1, d_head=8, context=16, batch_size=4, warmup_steps=2,
        evaluations=3, eval_windows=8, corpus=str(text), precision="fp32",
    )  # fmt: skip
    return StudySettings(
        rungs=(Rung(flops=1.5e7, width=8), Rung(flops=3e7, width=16)),
        baseline=((0, 8), (1, 16)),
        known=("monarch", "kronecker"),
        known_rung=0,
        trial=trial,
    )


@pytest.fixture(scope="session")
def drive() -> Drive:
    """Runs a driver's trials in this very process."""
    spec = importlib.util.spec_from_file_location("driving", DRIVING)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    function: Drive = module.drive
    return function


@pytest.fixture
def study(tmp_path: Path, settings: StudySettings) -> Study:
    return Study("tiny", db=f"sqlite:///{tmp_path}/study.db", trials=TRIALS, settings=settings)


@dataclass
class Others:
    """Drivers in other processes (see `driving.py`)."""

    process: subprocess.Popen[str]

    def start(self, study: Study, workers: int = 0, **more: Any) -> int:
        """Run a study in a process of its own; returns its id."""
        assert study.settings is not None
        known = {"name": study.name, "db": study.db, "trials": study.trials, "settings": study.settings.to_dict()}
        return self._order({"start": known | {"workers": workers} | more})

    def wait(self, pid: int) -> int:
        """How a process ended: its exit status, or below 0 the signal that ended it."""
        return self._order({"wait": pid})

    def _order(self, order: dict[str, Any]) -> int:
        assert self.process.stdin is not None and self.process.stdout is not None
        self.process.stdin.write(json.dumps(order) + "\n")
        self.process.stdin.flush()
        return int(self.process.stdout.readline())


@pytest.fixture(scope="session")
def others(surroundings: None) -> Iterator[Others]:
    command = [sys.executable, str(DRIVING)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=dict(os.environ)) as process:
        yield Others(process)
        assert process.stdin is not None
        process.stdin.close()


@pytest.fixture(scope="session")
def planned_losses(tmp_path_factory: pytest.TempPathFactory, settings: StudySettings, drive: Drive) -> dict[int, float]:
    """Final losses of a study that nothing interrupted, by number."""
    study = Study("calm", db=f"sqlite:///{tmp_path_factory.mktemp('calm')}/study.db", trials=TRIALS, settings=settings)
    with study.driver(create=True) as driver:
        drive(driver)
    frame = study.trials_frame()
    return dict(zip(frame["number"], frame["loss"], strict=True))


def run_flops(config: dict[str, Any]) -> float:
    """FLOPs of a whole run of a trial: as many steps as its budget pays for."""
    trial = TrialConfig.from_dict(config)
    per_step = float(flops.count(model_config(trial, VOCAB_SIZE)).total * trial.tokens_per_step)
    return flops.affordable_steps(trial, per_step) * per_step


def attempts_of(study: Study) -> pd.DataFrame:
    """Every attempt of a study, with its trial's number and the FLOPs its trial was to spend."""
    query = select(Trial.number, Trial.flops.label("trial_flops"), Trial.config, Attempt.attempt, Attempt.state, Attempt.flops)
    with Database.open(study.db) as database, database.reading() as session:
        wanted = query.join(Attempt, Attempt.trial_id == Trial.id).where(Trial.study_id == study.record().id)
        rows = session.execute(wanted.order_by(Trial.number, Attempt.attempt)).all()
    frame = pd.DataFrame(rows, columns=["number", "trial_flops", "config", "attempt", "state", "flops"])
    frame["run_flops"] = [run_flops(config) for config in frame["config"]]
    return frame


def assert_whole(study: Study, trials: int, losses: dict[int, float] | None = None) -> pd.DataFrame:
    """A study has ended: its budget exactly, nothing twice, nothing lost, Optuna and the ledger of one mind."""
    frame = study.trials_frame()
    assert list(frame["number"]) == list(range(trials))
    assert set(frame["state"]) == {"completed"}
    attempts = attempts_of(study)
    by_trial = attempts.groupby("number")
    assert (by_trial["state"].agg(lambda states: (states == "completed").sum()) == 1).all()
    assert (by_trial["state"].last() == "completed").all() and not (attempts["state"] == "running").any()
    assert by_trial["flops"].sum().to_numpy() == pytest.approx(by_trial["trial_flops"].first().to_numpy(), rel=1e-12)
    assert (by_trial["trial_flops"].first() == by_trial["run_flops"].first()).all()
    assert_optuna_agrees(study, frame)
    for number, loss in (losses or {}).items():
        assert frame["loss"][number] == loss, f"trial {number}"
    return frame


def assert_optuna_agrees(study: Study, frame: pd.DataFrame) -> None:
    rungs = len(StudySettings.from_dict(study.record().settings).rungs)
    storage = optuna.storages.RDBStorage(study.db)
    try:
        trials = optuna.load_study(study_name=study.name, storage=storage).trials
    finally:
        storage.remove_session()
        storage.engine.dispose()
    assert sorted(frame["optuna_number"]) == list(range(len(trials)))
    for row in frame.itertuples():
        theirs = trials[row.optuna_number]
        assert theirs.state == TrialState.COMPLETE
        assert theirs.user_attrs["ledger_number"] == row.number
        assert theirs.params == pytest.approx(parameters(Structure.parse(row.key), row.rung, rungs), abs=1e-15)
        assert theirs.value == row.value


@pytest.fixture(scope="session")
def whole() -> Callable[..., pd.DataFrame]:
    return assert_whole


@pytest.fixture(scope="session")
def attempts() -> Callable[[Study], pd.DataFrame]:
    return attempts_of
