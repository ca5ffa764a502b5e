"""Laws, multipliers and the leaderboard on studies with known truth."""

from __future__ import annotations

import json
import runpy
from pathlib import Path

import numpy as np
import pytest

from storage.laws import DENSE, Run, hold_out, laws, leaderboard, log_multiplier, run_value

BENCHMARK = runpy.run_path(str(Path(__file__).parents[3] / "benchmarks" / "laws.py"), run_name="benchmark_of_laws")
TARGET, World = BENCHMARK["TARGET"], BENCHMARK["World"]


def study(seed: int = 0, structures: int | None = None) -> tuple[list[Run], dict[str, float]]:
    return BENCHMARK["make_study"](World(), np.random.default_rng(seed), structures)


def exact(key: str, multiplier: float, budgets: tuple[float, ...], pace: float = 1.0) -> list[Run]:
    """Noiseless runs on the law 0.9 + (C / 1e12)^-0.3 shifted by the multiplier, at pace * 1e10 FLOP/s."""
    compute = [budget * np.linspace(0.3, 1.0, 8) for budget in budgets]
    return [Run(key, f"{key}-{n}", c, 0.9 + (c * multiplier / 1e12) ** -0.3, c / 1e10 / pace) for n, c in enumerate(compute)]


RUNGS = (1.2e11, 3.4e11, 9.6e11)


def test_an_exact_study_gives_exact_multipliers() -> None:
    runs = exact(DENSE, 1.0, RUNGS) + exact("fast", 2.0, RUNGS, pace=0.5) + exact("slow", 0.5, RUNGS[:1])
    board = {row.key: row for row in leaderboard(runs, TARGET)}
    assert board["fast"].multiplier == pytest.approx(2.0, rel=0.01)
    assert board["slow"].multiplier == pytest.approx(0.5, rel=0.01)
    assert board[DENSE].multiplier == pytest.approx(1.0)
    assert board["fast"].seconds_multiplier == pytest.approx(1.0, rel=0.01)
    assert board["slow"].seconds_multiplier == pytest.approx(0.5, rel=0.01)
    assert board["fast"].loss == pytest.approx(0.9 + (2 * TARGET / 1e12) ** -0.3, rel=3e-3)
    assert "single run" in board["slow"].verdict
    assert "extrapolated 8.0x" in board["slow"].verdict
    assert board["fast"].probability_best == 1.0
    assert board["fast"].flops == pytest.approx(sum(RUNGS))


def test_the_order_is_by_the_lower_end_best_first() -> None:
    board = leaderboard(study()[0], TARGET)
    lows = [row.multiplier_low for row in board]
    assert lows == sorted(lows, reverse=True)
    assert sum(row.probability_best for row in board) == pytest.approx(1.0)
    for row in board:
        assert row.multiplier_low < row.multiplier < row.multiplier_high
        assert row.loss_low < row.loss < row.loss_high


def test_dense_against_itself_is_one_with_a_real_interval() -> None:
    dense = next(row for row in leaderboard(study()[0], TARGET) if row.key == DENSE)
    assert dense.multiplier == pytest.approx(1.0, abs=1e-9)
    assert dense.multiplier_low < 0.98
    assert dense.multiplier_high > 1.02
    assert dense.seconds_multiplier_low < 1.0 < dense.seconds_multiplier_high


def test_a_large_board_has_a_row_per_structure_and_is_reproducible() -> None:
    runs, truth = study(2, structures=25)
    first, again, other = (leaderboard(runs, TARGET, seed=seed) for seed in (1, 1, 2))
    assert first == again
    assert first != other
    assert {row.key for row in first} == set(truth)


def test_intervals_cover_the_truth() -> None:
    """40 studies: the 90 % interval must cover 85-97 % of multipliers; the binomial error is under 2 %."""
    tables = []
    for seed in range(40):
        runs, truth = study(100 + seed)
        tables.append(BENCHMARK["judge"](leaderboard(runs, TARGET, seed=seed), truth))
    covered, error, _, single = np.concatenate(tables).T
    assert 0.85 <= covered.mean() <= 0.97
    assert 0.83 <= covered[single == 1].mean() <= 0.99
    assert abs(error.mean()) < 0.03


def test_the_value_of_a_run_is_its_log_multiplier() -> None:
    fits = laws(exact(DENSE, 1.0, RUNGS))
    for multiplier in (0.3, 1.0, 2.5):
        run = exact("s", multiplier, RUNGS[1:2])[0]
        assert run_value(run, fits.dense) == pytest.approx(np.log(multiplier), abs=0.03)


def test_the_value_of_a_run_is_finite_and_falls_with_the_loss() -> None:
    fits = laws(study()[0])
    losses = [0.01, 0.5, fits.l_inf, fits.l_inf + 1e-9, 1.5, 2.0, 4.5, 40.0]
    values = [run_value(Run("s", "1", [1e12], [loss], [1.0]), fits.dense) for loss in sorted(losses)]
    assert np.all(np.isfinite(values))
    assert np.all(np.diff(values) < 0)


def test_the_value_of_a_diverged_run_is_that_of_its_last_finite_point_or_refused() -> None:
    dense = laws(study()[0]).dense
    whole = Run("s", "1", [1e11, 2e11, 3e11], [2.8, 2.6, np.nan], [1.0, 2.0, 3.0])
    part = Run("s", "1", [1e11, 2e11], [2.8, 2.6], [1.0, 2.0])
    assert run_value(whole, dense) == run_value(part, dense)
    with pytest.raises(ValueError, match="run 9 has no point"):
        run_value(Run("s", "9", [1e11], [np.inf], [1.0]), dense)


def test_a_small_study_says_that_it_does_not_know_the_irreducible_loss() -> None:
    fits = laws(study()[0])
    assert not fits.l_inf_identified
    assert fits.l_inf_interval[1] - fits.l_inf_interval[0] > 0.2
    assert all(entry.verdict.endswith("L_inf not identified") for entry in fits.laws.values())


def test_a_long_study_knows_the_irreducible_loss_and_the_exponent() -> None:
    budgets = tuple(1e9 * 4.0 ** np.arange(10))
    fits = laws(exact(DENSE, 1.0, budgets) + exact("s", 1.5, budgets))
    assert fits.l_inf_identified
    assert fits.l_inf == pytest.approx(0.9, rel=0.01)
    assert fits.exponent == pytest.approx(0.3, rel=0.01)
    assert fits.laws["s"].verdict == "exponent pooled"
    assert fits.l_inf_interval[0] < 0.9 < fits.l_inf_interval[1]


def test_exponents_that_differ_are_found_and_used() -> None:
    budgets = tuple(1e9 * 4.0 ** np.arange(10))
    compute = [budget * np.linspace(0.3, 1.0, 8) for budget in budgets]
    steep = [Run("steep", str(n), c, 0.9 + (c / 1e12) ** -0.36, c / 1e10) for n, c in enumerate(compute)]
    fits = laws(exact(DENSE, 1.0, budgets) + exact("s", 1.5, budgets) + steep)
    assert fits.pooling_p < 0.01
    assert fits.laws["steep"].verdict == "own exponent"
    assert fits.law("steep").exponent - fits.dense.exponent == pytest.approx(0.06, abs=0.01)


def test_bands_hold_their_law_and_widen_outside_of_the_data() -> None:
    fits = laws(study()[0])
    grid = np.array([1e10, 3.4e11, 1e14])
    low, high = fits.band(DENSE, grid)
    law = fits.dense.predict(grid)
    assert np.all((low < law) & (law < high))
    width = np.log(high / low)
    assert width[1] < min(width[0], width[2])
    assert np.all(fits.band(DENSE, grid, 0.5)[0] > low)


def test_every_point_of_every_run_is_accounted_for() -> None:
    runs, _ = study()
    entries = laws(runs).laws.values()
    reports = {report.run_id: report for entry in entries for report in entry.points}
    for run in runs:
        report = reports[run.run_id]
        assert report.used + sum(report.left_out.values()) == run.loss.size


def test_results_are_json() -> None:
    runs, truth = study()
    fits = laws(runs)
    text = json.dumps([fits.to_dict(), *(row.to_dict() for row in leaderboard(runs, TARGET))])
    assert set(json.loads(text)[0]["structures"]) == set(truth)


def test_unusable_runs_are_skipped() -> None:
    runs, truth = study()
    extra = [Run("new", "e", [], [], []), Run("bad", "n", [1e11], [np.nan], [1.0])]
    assert {row.key for row in leaderboard(runs + extra, TARGET)} == set(truth)


def test_any_part_of_a_study_gets_finite_answers() -> None:
    rng = np.random.default_rng(0)
    for seed in range(30):
        runs = []
        for run in study(seed)[0]:
            points = int(rng.integers(0, run.loss.size + 1))
            wild = run.loss[:points] * np.exp(rng.choice([0.0, 0.3]) * rng.standard_normal(points))
            runs.append(Run(run.structure, run.run_id, run.compute[:points], wild, run.seconds[:points], run.size))
        some = [run for run in runs if rng.random() < 0.5] + [runs[0], study(seed)[0][1]]
        for row in leaderboard(some, float(rng.choice([1e9, TARGET, 1e15])), draws=20):
            values = [value for value in row.to_dict().values() if not isinstance(value, str)]
            assert all(value is not None and np.isfinite(value) for value in values)
            assert row.multiplier_low > 0


def test_one_dense_run_is_enough_for_an_answer_and_says_how_little_it_is() -> None:
    runs = exact(DENSE, 1.0, RUNGS[:1]) + exact("s", 2.0, RUNGS[:1])
    best, dense = leaderboard(runs, RUNGS[0])
    assert best.multiplier_low < 2.0 < best.multiplier_high
    assert dense.verdict == "single run, L_inf not identified"


def test_a_study_without_dense_or_with_a_target_of_zero_is_refused() -> None:
    runs, _ = study()
    with pytest.raises(ValueError, match="run a dense baseline first"):
        laws([run for run in runs if run.structure != DENSE])
    with pytest.raises(ValueError, match="target_compute must be finite and above 0"):
        leaderboard(runs, 0.0)


def test_draws_of_a_multiplier_centre_on_its_estimate() -> None:
    fits = laws(study()[0], draws=2000)
    for key in fits.laws:
        value, draws = log_multiplier(fits, key, TARGET)
        assert np.median(draws) == pytest.approx(value, abs=0.5 * np.std(draws))


def test_the_dense_law_forecasts_the_largest_compute_better_than_no_forecast() -> None:
    check = hold_out(exact(DENSE, 1.0, RUNGS) + exact("s", 2.0, RUNGS))
    assert check is not None
    assert check.better_than_baseline
    assert check.low < check.observed < check.high
    assert check.baseline == pytest.approx(0.9 + 0.34**-0.3)
    assert hold_out(exact(DENSE, 1.0, RUNGS[:1])) is None
    assert json.loads(json.dumps(check.to_dict()))["compute"] == RUNGS[-1]
