"""Studies run by Ray Tune: the budget to the trial, a larger one, and what is refused."""

from __future__ import annotations

import dataclasses
import gc
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from benchmarks.actors import NoopActor
from benchmarks.orchestration import random_proposals
from search import executor
from search.driver import Driver, Task
from search.report import Report
from search.settings import StudySettings, with_trial
from search.study import Study
from space.errors import ConfigError, DataError, StudyError

THEIRS_AND_OURS = tuple(f"<class '{package}." for package in ("ray.tune", "ray.air", "search"))


def test_run_twice_grow_and_resume(
    study: Study, drive: Callable[..., Any], whole: Callable[..., pd.DataFrame], attempts: Callable[..., Any]
) -> None:
    study.trials = 5
    study.run(concurrency=2)
    first = whole(study, 5)
    assert np.isfinite(first["loss"]).all()
    assert "kronecker" in set(study.leaderboard()["structure"])

    study.run(concurrency=2)
    pd.testing.assert_frame_equal(study.trials_frame(), first)
    assert len(attempts(study)) == 5, "a finished study trains nothing"

    with Study(study.name, db=study.db, trials=7).driver(create=False) as driver:
        drive(driver)
    grown = whole(study, 7)
    pd.testing.assert_frame_equal(grown[:5], first)
    assert len(attempts(study)) == 7


def test_trials_that_ended_are_forgotten(study: Study, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither Ray Tune nor the driver holds more objects after 40 trials than after 20."""
    held: dict[int, int] = {}
    report = Driver.report

    def counting(self: Driver, task: Task, word: Report) -> bool:
        if self.ended in (20, 40):
            gc.collect()
            held[self.ended] = sum(f"{type(one)}".startswith(THEIRS_AND_OURS) for one in gc.get_objects())
        return report(self, task, word)

    monkeypatch.setattr(Driver, "report", counting)
    monkeypatch.setattr(executor, "TrialActor", NoopActor)
    study.trials = 41
    with random_proposals():
        study.run(concurrency=1)
    assert held[40] < held[20] + 20


def test_a_driver_of_ray_that_is_killed_is_resumed(
    study: Study, others: Any, drive: Callable[..., Any], whole: Callable[..., pd.DataFrame], planned_losses: dict[int, float]
) -> None:
    study.trials = 4
    kill = ("search.driver.Driver", "report", "after", 5)
    assert others.wait(others.start(study, workers=2, kill=kill)) == -signal.SIGKILL
    cut_off = study.trials_frame()["state"] == "running"
    assert cut_off.any(), "in mid-run"
    with study.driver(create=False) as driver:
        drive(driver)
    frame = whole(study, 4, {number: planned_losses[number] for number in range(4)})
    assert frame["attempts"].tolist() == [1 + one for one in cut_off]


def test_other_settings_are_refused(study: Study, settings: StudySettings) -> None:
    with study.driver(create=True):
        pass
    before = study.trials_frame()
    other = Study(study.name, db=study.db, trials=6, settings=with_trial(settings, {"lr": 0.01}))
    with pytest.raises(StudyError, match=r"trial\.lr: given 0\.01, recorded 0\.003"):
        other.run()
    fewer = Study(study.name, db=study.db, trials=5, settings=settings)
    with pytest.raises(StudyError, match=r"budget of 6 trials, 5 given"):
        fewer.run()
    pd.testing.assert_frame_equal(study.trials_frame(), before)


def test_what_says_what_to_try_next_may_change(study: Study, settings: StudySettings) -> None:
    with study.driver(create=True):
        pass
    with Study(study.name, db=study.db, settings=dataclasses.replace(settings, explore=0.5)).driver(create=False):
        pass
    assert study.record().settings["explore"] == 0.5
    with Study(study.name, db=study.db, trials=9, target_compute=5e7).driver(create=False):
        pass
    record = study.record()
    assert (record.target_compute, record.budget, record.settings["explore"]) == (5e7, 9, 0.5)


def test_a_seed_that_differs_is_named_before_data_that_differ(
    tmp_path: Path, study: Study, settings: StudySettings, new_text: Callable[[Path, int], Path]
) -> None:
    folder = new_text(tmp_path / "text", 1)
    study.settings = with_trial(settings, {"corpus": str(folder)})
    with study.driver(create=True):
        pass
    new_text(folder, 2)
    study.settings = dataclasses.replace(study.settings, seed=7)
    with pytest.raises(StudyError, match="exists with other settings: seed: given 7, recorded 0"):
        study.run()


def test_where_checkpoints_go_is_recorded(study: Study, settings: StudySettings, tmp_path: Path) -> None:
    there = Study(study.name, db=study.db, trials=6, settings=settings, checkpoints=tmp_path / "elsewhere")
    with there.driver(create=True):
        pass
    assert study.trial_place(3).startswith(f"{tmp_path}/elsewhere/study-1-") and study.trial_place(3).endswith("/trial-00003")


def test_a_relative_corpus_is_found_by_every_process(
    tmp_path: Path,
    study: Study,
    settings: StudySettings,
    new_text: Callable[[Path, int], Path],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    new_text(tmp_path / "text", 1)
    monkeypatch.chdir(tmp_path)
    study.settings = with_trial(settings, {"corpus": "text"})
    with study.driver(create=True):
        pass
    assert study.record().settings["trial"]["corpus"] == str(tmp_path / "text")


def test_a_mistake_leaves_no_file(study: Study, tmp_path: Path) -> None:
    study.trials = 3
    with pytest.raises(StudyError, match="its plan alone has 4"):
        study.run()
    assert list(tmp_path.iterdir()) == []


def test_an_unknown_study_is_not_resumed(study: Study) -> None:
    with study.driver(create=True):
        pass
    with pytest.raises(StudyError, match=r"no study 'other'.*it has 'tiny'"):
        Study("other", db=study.db).resume()


def test_a_corpus_that_changed_is_refused_before_any_trial(
    tmp_path: Path, study: Study, settings: StudySettings, new_text: Callable[[Path, int], Path]
) -> None:
    folder = new_text(tmp_path / "text", 1)
    study.settings = with_trial(settings, {"corpus": str(folder)})
    with study.driver(create=True):
        pass
    new_text(folder, 2)
    with pytest.raises(DataError, match="the data differ here"):
        study.run()
    assert set(study.trials_frame()["state"]) == {"queued"}


@pytest.mark.parametrize("workers", [0, -1])
def test_no_workers_is_refused(study: Study, workers: int) -> None:
    with pytest.raises(ConfigError, match=f"concurrency is {workers}; give at least 1"):
        study.run(concurrency=workers)


def test_a_rung_that_pays_for_no_step_is_refused(study: Study, settings: StudySettings) -> None:
    study.settings = dataclasses.replace(settings, rungs=(dataclasses.replace(settings.rungs[0], flops=1e4), settings.rungs[1]))
    with pytest.raises(ConfigError, match="pays for 0 steps"):
        study.run()
