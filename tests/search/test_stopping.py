"""Early stopping: curves whose end is known, and runs of a study that end where they were judged."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import optuna
import pytest

from search.cluster import Cluster
from search.driver import Task
from search.executor import Crew, LedgerScheduler, _registered
from search.stopping import Frontier
from search.study import Study
from search.trial import AttemptRunner
from storage.curves import runs
from storage.database import Database
from storage.decisions import Decision, decisions_frame
from storage.laws import Run
from storage.studies import open_study
from trainers.points import Point

SHARES = np.geomspace(0.25, 1.0, 6)
L_INF, EXPONENT = 1.5, 0.3


def losses(compute: np.ndarray, scale: float) -> np.ndarray:
    return np.asarray(L_INF + scale * (compute / 1e10) ** -EXPONENT)


def points(budget: float, scale: float, noise: float = 0.0, seed: int = 0) -> list[Point]:
    """A run whose loss follows a power law, with luck of its own."""
    compute = budget * SHARES
    luck = np.exp(noise * np.random.default_rng(seed).standard_normal())
    return [
        Point(step, 64 * step, flops, float(loss * luck), float(loss), 0.1 * step, False)
        for step, (flops, loss) in enumerate(zip(compute, losses(compute, scale), strict=True), start=1)
    ]


def run(budget: float, seed: int) -> Run:
    curve = points(budget, 1.0, 0.01, seed)
    columns = ([getattr(point, name) for point in curve] for name in ("flops", "loss", "seconds"))
    return Run("dense", str(seed), *map(np.array, columns))


@pytest.fixture(scope="module")
def frontier() -> Frontier:
    return Frontier.of([run(budget, seed) for seed, budget in enumerate((1e10, 1e10, 4e10, 4e10, 1.6e11))])


def decisions(frontier: Frontier, curve: list[Point], budget: float) -> list[Decision]:
    judged = (frontier.judge(curve[:number], budget) for number in range(1, len(curve) + 1))
    return [one for one in judged if one is not None]


@pytest.mark.parametrize("scale", [0.5, 1.0, 2.0, 4.0])
@pytest.mark.parametrize("budget", [1e10, 1.6e11])
def test_a_bound_is_below_what_the_run_comes_to(frontier: Frontier, scale: float, budget: float) -> None:
    found = decisions(frontier, points(budget, scale), budget)
    assert [round(one.flops / budget, 2) for one in found] == [0.44, 0.57, 0.76]
    assert all(one.bound < losses(np.array(budget), scale) for one in found)
    assert all(one.frontier == pytest.approx(losses(np.array(budget), 1.0), rel=0.03) for one in found)


def test_only_what_cannot_reach_the_frontier_is_stopped(frontier: Frontier) -> None:
    stopped = {
        scale: [one.stopped for one in decisions(frontier, points(1e10, scale), 1e10)] for scale in (0.8, 1.0, 1.05, 2.0)
    }
    assert stopped == {0.8: [False] * 3, 1.0: [False] * 3, 1.05: [False] * 3, 2.0: [True] * 3}


def test_runs_as_good_as_dense_go_on_whatever_their_luck(frontier: Frontier) -> None:
    judged = [one.stopped for seed in range(100) for one in decisions(frontier, points(4e10, 1.0, 0.01, seed), 4e10)]
    assert sum(judged) <= 0.05 * len(judged)


def test_the_warmup_decides_nothing(frontier: Frontier) -> None:
    warming = [replace(point, warmup=number < 4) for number, point in enumerate(points(1e10, 4.0))]
    assert decisions(frontier, warming, 1e10) == []


@pytest.fixture
def hopeless(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every decision is a stop."""
    judge = Frontier.judge

    def stop(self: Frontier, curve: Any, budget: float) -> Decision | None:
        found = judge(self, curve, budget)
        return found and replace(found, frontier=found.bound / 2)

    monkeypatch.setattr(Frontier, "judge", stop)


def test_a_stopped_run_is_truncated_and_a_bound_on_its_structure(
    study: Study, drive: Callable[..., Any], hopeless: None
) -> None:
    assert study.settings is not None
    trial = replace(study.settings.trial, evaluations=6)
    study.settings = replace(study.settings, early_stopping=True, trial=trial)
    with study.driver(create=True) as driver:
        drive(driver)
        told = optuna.load_study(study_name=study.name, storage=driver._optuna._storage).trials
    frame = study.trials_frame()
    assert frame["state"].tolist() == ["completed", "completed", *["truncated"] * 4]
    with Database.open(study.db) as database:
        kept = decisions_frame(database, study.name)
        curves = {int(curve.run_id): curve for curve in runs(database, open_study(database, study.name))}
    assert kept["number"].tolist() == [2, 3, 4, 5] and kept["stopped"].all()
    for row in kept.itertuples():
        ended = frame.loc[row.number]
        assert (ended["flops"], ended["loss"], ended["steps"]) == (row.flops, row.loss, row.step)
        assert 0.4 <= row.flops / row.budget <= 0.8
        assert (curves[row.number].compute[-1], curves[row.number].loss[-1]) == (row.budget, row.bound)
        assert told[ended["optuna_number"]].value == ended["value"]
        assert curves[row.number].compute[-2] == row.flops


def test_tune_hears_what_was_decided(study: Study, hopeless: None) -> None:
    assert study.settings is not None
    study.settings = replace(study.settings, early_stopping=True, trial=replace(study.settings.trial, evaluations=6))
    answers = []
    with study.driver(create=True) as driver, _registered(crew := Crew(driver, Cluster(), 1)) as key:
        scheduler = LedgerScheduler(key)
        while isinstance(task := crew.next(), Task) and task.claim.number < 3:
            trial = type("Trial", (), {"trial_id": str(task.claim.number)})()
            crew.tasks[trial.trial_id] = task
            runner = AttemptRunner(task.config, task.place, 1)
            while (report := runner.advance()).state == "running":
                answers.append(scheduler.on_trial_result(None, trial, {"report": report.to_json()}))
                if answers[-1] == LedgerScheduler.STOP:
                    break
            else:
                crew.report(trial.trial_id, {"report": report.to_json()})
            crew.ended(trial.trial_id)
    assert answers == ["CONTINUE"] * 5 * 2 + ["CONTINUE"] * 2 + ["STOP"]
    assert study.trials_frame()["state"].tolist()[:3] == ["completed", "completed", "truncated"]
