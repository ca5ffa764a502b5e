"""The protocol without Ray: trials run in the driver's own process, and drivers that die between any two steps of it."""

from __future__ import annotations

import math
import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pandas as pd
import pytest
from optuna.trial import TrialState

from search.driver import Task
from search.report import Report, failure
from search.sampler import StructureSampler
from search.study import Study
from search.trial import AttemptRunner
from search.vault import load_furthest, vault
from space.errors import CheckpointError, ConfigError, DataError, DiskError, RunError, TrialError
from storage.charges import MAX_ATTEMPTS
from storage.claims import Finished
from storage.coordinates import movements
from storage.database import Database
from storage.leases import FencedError
from storage.ledger import Ledger
from trainers import checkpoint
from trainers.points import Point

STEPS = [
    ("search.optuna_side.OptunaSide", "enter", "after", 5),
    ("search.trial.AttemptRunner", "advance", "after", 5),
    ("storage.ledger.Ledger", "finish", "after", 1),
]
"""Steps of a driver with real trials after which it dies; all steps, with trials that cost nothing, are in tests/faults."""


def test_a_study_in_one_process(study: Study, drive: Callable[..., Any], whole: Callable[..., pd.DataFrame]) -> None:
    with study.driver(create=True) as driver:
        assert drive(driver) == Finished(6)
        assert driver.ended == 6 and driver.running == []
    frame = whole(study, 6)
    assert list(frame["kind"])[:4] == ["baseline", "baseline", "known", "known"]
    assert set(frame["kind"][4:]) <= {"proposal", "random"}
    assert frame["attempts"].tolist() == [1] * 6 and np.isfinite(frame["loss"]).all() and np.isfinite(frame["value"]).all()
    with Database.open(study.db) as database:
        looks = movements(database, study.record().id)
    assert sum(one.trials for one in looks if one.step == 4) == 6 and min(one.changes[-1] for one in looks) > 0


def test_the_sampler_sees_what_optuna_holds(study: Study) -> None:
    """Trials that completed, failed and run, read from the ledger as they read in Optuna's own tables."""
    whole = Report("completed", (Point(8, 512, 8e7, 2.1, 2.1, 0.8, False),), flops=8e7, tokens=512, steps=8, seconds=0.8)
    with study.driver(create=True) as driver:
        for report in (whole, whole, Report("failed", error="no such layer"), whole, None):
            task = driver.next()
            assert isinstance(task, Task)
            if report is not None:
                driver.report(task, report)
        storage = optuna.storages.RDBStorage(study.db)
        theirs = StructureSampler().observed(optuna.load_study(study_name=study.name, storage=storage))
        storage.remove_session()
        storage.engine.dispose()
        ours = driver._optuna.observed(number=5)
        assert repr(ours) == repr(theirs) and len(ours) == 5
        assert [one.value is None for one in ours] == [False] * 4 + [True] and math.isnan(ours[2].value or 0.0)
        assert repr(driver._optuna.observed(number=4)) == repr(ours[:4])


@pytest.mark.parametrize("step", STEPS, ids=lambda step: f"{step[2]}-{step[1]}-{step[3]}")
def test_a_driver_that_dies_anywhere_loses_nothing(
    step: tuple[str, str, str, int],
    study: Study,
    others: Any,
    drive: Callable[..., Any],
    whole: Callable[..., pd.DataFrame],
    planned_losses: dict[int, float],
) -> None:
    assert others.wait(others.start(study, kill=step)) == -signal.SIGKILL
    with study.driver(create=False) as driver:
        assert drive(driver) == Finished(6)
    frame = whole(study, 6, planned_losses)
    assert frame["attempts"].sum() in (6, 7)


def test_drivers_that_start_at_once_find_one_study(study: Study, others: Any, whole: Callable[..., pd.DataFrame]) -> None:
    drivers = [others.start(study) for _ in range(3)]
    assert [others.wait(pid) for pid in drivers] == [0, 0, 0]
    whole(study, 6)


def test_a_fenced_driver_stops_and_its_trial_is_another_s(
    study: Study, drive: Callable[..., Any], whole: Callable[..., pd.DataFrame]
) -> None:
    with study.driver(create=True) as fenced:
        task = fenced.next()
        assert isinstance(task, Task)
        with Database.open(study.db) as database:
            Ledger(database, study.record().id).reap(lease_seconds=-1.0)
        runner = AttemptRunner(task.config, task.place, task.claim.attempt)
        assert not fenced.report(task, runner.advance())
        assert isinstance(fenced.fault, FencedError) and fenced.next() == Finished(0)
        with study.driver(create=False) as driver:
            assert drive(driver) == Finished(6)
    assert whole(study, 6)["attempts"].tolist() == [2, 1, 1, 1, 1, 1]


def test_words_that_come_twice_or_too_late_are_passed_over(
    study: Study, drive: Callable[..., Any], whole: Callable[..., pd.DataFrame]
) -> None:
    with study.driver(create=True) as driver:
        first, lost = driver.next(), driver.next()
        assert isinstance(first, Task) and isinstance(lost, Task)
        runner = AttemptRunner(first.config, first.place, 1)
        while driver.report(first, last := runner.advance()) and last.state == "running":
            pass
        assert not driver.report(first, last) and not driver.report(first, replace(last, state="failed", error="late"))
        driver.lose(lost, "its worker process died")
        assert not driver.report(lost, AttemptRunner(lost.config, lost.place, 1).advance())
        assert driver.fault is None and drive(driver) == Finished(6)
    assert whole(study, 6)["attempts"].tolist() == [1, 2, 1, 1, 1, 1]


def test_a_worker_that_is_set_up_and_never_trains_deletes_nothing(study: Study) -> None:
    """Tune may start a worker for a task that it then gives to another."""
    with study.driver(create=True) as driver:
        task = driver.next()
        assert isinstance(task, Task)
    AttemptRunner(task.config, task.place, 1).advance()
    AttemptRunner(task.config, task.place, 1)
    assert load_furthest(task.place) is not None


def test_a_slice_of_time_saves_what_a_stop_would_lose(study: Study, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("search.trial.LOOK_EVERY", 1)
    with study.driver(create=True) as driver:
        task = driver.next()
        assert isinstance(task, Task)
    cut = AttemptRunner(task.config, task.place, 1)
    sliced = cut.advance(seconds=1e-9)
    assert sliced.state == "running" and sliced.points == () and sliced.steps == 1
    cut.save()
    rest = AttemptRunner(task.config, task.place, 2)
    reports = [rest.advance()]
    while reports[-1].state == "running":
        reports.append(rest.advance())
    whole = AttemptRunner(task.config, f"{task.place}-again", 1)
    while (report := whole.advance()).state == "running":
        pass
    assert reports[0].start_flops == sliced.flops
    assert [p.loss for p in reports[-1].points] == [p.loss for p in report.points]


@pytest.mark.parametrize("place", ["memory://kept", "file://{}/kept"])
def test_checkpoints_at_a_uri(study: Study, place: str, tmp_path: Path) -> None:
    with study.driver(create=True) as driver:
        task = driver.next()
        assert isinstance(task, Task)
    uri = f"{place.format(tmp_path)}/trial-00000"
    AttemptRunner(task.config, uri, 1).advance()
    second = AttemptRunner(task.config, uri, 2).advance()
    assert second.start_flops > 0 and len(second.points) == 2
    state = load_furthest(uri)
    assert state is not None and state["step"] == second.steps
    AttemptRunner(task.config, uri, 1).advance()
    state = load_furthest(uri)
    assert state is not None and state["step"] < second.steps, "a first attempt begins anew"


def test_a_place_that_nobody_knows_is_refused() -> None:
    with pytest.raises(DataError, match=r"checkpoints at nowhere://x: .*nowhere.*give a folder, or a URI that fsspec knows"):
        vault("nowhere://x")


def test_a_claim_after_the_lease_is_refused(study: Study) -> None:
    with study.driver(create=True) as fenced:
        with Database.open(study.db) as database:
            Ledger(database, study.record().id).reap(lease_seconds=-1.0)
        with pytest.raises(FencedError, match="join the study again"):
            fenced.next()


def test_a_trial_that_keeps_losing_its_worker_fails_everywhere(study: Study, drive: Callable[..., Any]) -> None:
    with study.driver(create=True) as driver:
        for attempt in range(1, MAX_ATTEMPTS + 1):
            task = driver.next()
            assert isinstance(task, Task) and (task.claim.number, task.claim.attempt) == (0, attempt)
            driver.lose(task, "its worker process died")
        assert drive(driver) == Finished(6)
        told = optuna.load_study(study_name=study.name, storage=driver._optuna._storage).trials
        assert told[0].state == TrialState.FAIL
        assert {trial.state for trial in told[1:]} == {TrialState.COMPLETE}
    frame = study.trials_frame()
    assert frame["state"].tolist() == ["failed", *["completed"] * 5]
    assert math.isnan(frame["value"][0])


def test_nothing_has_a_value_before_the_baseline_is_complete(study: Study, drive: Callable[..., Any]) -> None:
    with study.driver(create=True) as driver:
        first, second, third = (driver.next() for _ in range(3))
        assert isinstance(first, Task) and isinstance(second, Task) and isinstance(third, Task)
        for task, told in ((first, 0), (third, 0), (second, 3)):
            runner = AttemptRunner(task.config, task.place, task.claim.attempt)
            while driver.report(task, report := runner.advance()) and report.state == "running":
                pass
            assert study.trials_frame()["value"].count() == told
        assert drive(driver) == Finished(6)


def test_a_trial_that_cannot_run_fails_with_what_it_had_spent(study: Study, drive: Callable[..., Any]) -> None:
    with study.driver(create=True) as driver:
        task = driver.next()
        assert isinstance(task, Task)
        report = AttemptRunner(task.config, task.place, task.claim.attempt).advance()
        assert driver.report(task, report)
        assert driver.report(task, failure(ZeroDivisionError("no divisor"), report))
        drive(driver)
    row = study.trials_frame().loc[0]
    assert (row["state"], row["flops"], row["steps"], row["tokens"]) == ("failed", report.flops, report.steps, report.tokens)


def test_a_folder_that_cannot_be_written_stops_the_driver_and_loses_nothing(
    study: Study, drive: Callable[..., Any], whole: Callable[..., pd.DataFrame], tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("not a folder")
    bad = Study(study.name, db=study.db, trials=6, settings=study.settings, checkpoints=tmp_path / "file" / "checkpoints")
    with bad.driver(create=True) as driver:
        task = driver.next()
        assert isinstance(task, Task)
        with pytest.raises(DiskError) as raised:
            AttemptRunner(task.config, task.place, 1).advance()
        assert not driver.report(task, failure(raised.value, Report("running")))
        assert isinstance(driver.fault, TrialError) and isinstance(driver.fault, RunError)
        assert "cannot be written" in str(driver.fault) and "give another folder" in str(driver.fault)
        assert driver.next() == Finished(0)
    frame = study.trials_frame()
    assert set(frame["state"]) == {"queued"} and (frame["flops"] == 0).all()
    elsewhere = Study(study.name, db=study.db, checkpoints=tmp_path / "elsewhere")
    with elsewhere.driver(create=False) as driver:
        drive(driver)
    whole(study, 6)
    assert study.trial_place(0).startswith(str(tmp_path / "elsewhere"))


def test_reports_round_trip() -> None:
    point = Point(3, 192, 1.5e6, 2.25, float("nan"), 0.5, False)
    report = Report("completed", (point,), 1.0, 2.0, 3.0, 4, 5, 6.0, 1.0, None)
    again = Report.from_json(report.to_json())
    assert again.points[0].step == 3 and math.isnan(again.points[0].train_loss)
    assert replace(again, points=()) == replace(report, points=())
    assert again.loss == 2.25 and Report("failed").loss is None


@pytest.mark.parametrize(
    ("error", "state"),
    [
        (DataError("changed"), "fault"),
        (DiskError("full"), "fault"),
        (CheckpointError("spoiled"), "failed"),
        (ConfigError("too small"), "failed"),
        (MemoryError(), "failed"),
    ],
)
def test_whose_fault_it_is(error: Exception, state: str) -> None:
    report = failure(error, Report("running", flops=2.0, steps=1))
    assert (report.state, report.flops, report.steps) == (state, 2.0, 1)
    assert report.error


def test_an_attempt_falls_back_to_the_furthest_checkpoint_that_is_whole(study: Study) -> None:
    with study.driver(create=True) as driver:
        task = driver.next()
        assert isinstance(task, Task)
    AttemptRunner(task.config, task.place, 1).advance()
    second = AttemptRunner(task.config, task.place, 2)
    reached = second.advance()
    assert reached.start_flops > 0 and len(reached.points) == 2
    first = checkpoint.load(checkpoint.latest(Path(task.place) / "attempt-1"))["step"]

    spoiled = checkpoint.latest(Path(task.place) / "attempt-2")
    assert spoiled is not None
    content = spoiled.read_bytes()
    spoiled.write_bytes(content[:-1])
    assert AttemptRunner(task.config, task.place, 3).advance().steps == reached.steps
    assert first < reached.steps
    spoiled.write_bytes(content)
    stranger = dict(task.config) | {"seed": 1}
    assert AttemptRunner(stranger, task.place, 3).advance().start_flops == 0, "whole, and of another run"
