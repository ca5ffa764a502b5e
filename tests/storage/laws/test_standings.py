"""Laws, multipliers and the leaderboard on studies with known truth."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from typing import Any

import numpy as np
import pytest

from benchmarks.laws import FAR, study_of
from benchmarks.laws_data import TARGET, World, make_study
from storage.laws import DENSE, Book, Run, hold_out, laws, leaderboard, log_multiplier, log_multipliers, rank, run_value
from storage.laws.standings import NEEDS_DECADE, _places


def study(seed: int = 0, **world: Any) -> tuple[list[Run], dict[str, float]]:
    runs, truth = make_study(World(**world), np.random.default_rng(seed))
    return runs, truth.multiplier


def exact(key: str, multiplier: float, budgets: tuple[float, ...], pace: float = 1.0) -> list[Run]:
    """Noiseless runs on the law 0.9 + (C / 1e12)^-0.3 shifted by the multiplier, at pace * 1e10 FLOP/s."""
    compute = [budget * np.linspace(0.3, 1.0, 8) for budget in budgets]
    return [Run(key, f"{key}-{n}", c, 0.9 + (c * multiplier / 1e12) ** -0.3, c / 1e10 / pace) for n, c in enumerate(compute)]


RUNGS = (1.2e11, 3.4e11, 9.6e11)
DECADES = tuple(1e9 * 4.0 ** np.arange(10))


def test_an_exact_study_gives_exact_multipliers() -> None:
    runs = exact(DENSE, 1.0, RUNGS) + exact("fast", 2.0, RUNGS, pace=0.5) + exact("slow", 0.5, RUNGS[:1])
    board = {row.key: row for row in leaderboard(runs, TARGET)}
    assert board["fast"].multiplier == pytest.approx(2.0, rel=0.03)
    assert board["slow"].multiplier == pytest.approx(0.5, rel=0.05)
    assert board["fast"].seconds_multiplier == pytest.approx(1.0, rel=0.03)
    assert board["slow"].seconds_multiplier == pytest.approx(0.5, rel=0.05)
    assert board["fast"].loss == pytest.approx(0.9 + (2 * TARGET / 1e12) ** -0.3, rel=5e-3)
    assert "single run" in board["slow"].verdict
    assert "extrapolated 8.0x" in board["slow"].verdict
    assert board["fast"].probability_best > 0.95
    assert (board["fast"].rank_low, board["slow"].rank_high) == (1, 3)


def test_the_order_is_by_the_lower_end_best_first() -> None:
    board = leaderboard(study()[0], TARGET)
    lows = [row.multiplier_low for row in board]
    assert lows == sorted(lows, reverse=True)
    assert sum(row.probability_best for row in board) == pytest.approx(1.0)
    for row in board:
        assert row.loss_low < row.loss < row.loss_high
        assert 1 <= row.rank_low <= row.rank_high <= len(board)
        if row.key != DENSE:
            assert row.multiplier_low < row.multiplier
            assert np.isnan(row.multiplier_high) or row.multiplier < row.multiplier_high


def test_dense_is_the_measure() -> None:
    dense = next(row for row in leaderboard(study()[0], TARGET) if row.key == DENSE)
    assert (dense.multiplier_low, dense.multiplier, dense.multiplier_high) == (1.0, 1.0, 1.0)
    assert (dense.seconds_multiplier_low, dense.seconds_multiplier_high) == (1.0, 1.0)
    assert dense.loss_low < dense.loss < dense.loss_high


def test_the_laws_depend_on_the_runs_and_the_seed_and_on_nothing_else() -> None:
    runs, truth = study(2, structures=25)
    first, again, other = (leaderboard(order, TARGET, seed=seed) for seed, order in ((1, runs), (1, runs[::-1]), (2, runs)))
    assert [row.multiplier_low for row in first] == pytest.approx([row.multiplier_low for row in again], rel=1e-9)
    assert [row.multiplier_low for row in first] != pytest.approx([row.multiplier_low for row in other], rel=1e-9)
    assert {row.key for row in first} == set(truth)


def test_a_book_that_grew_is_the_book_of_all_runs() -> None:
    runs, _ = study(3)
    last = runs[-1].structure
    book = Book.of([run for run in runs if run is not runs[-1]])
    book.laws()
    grown = book.with_runs([run for run in runs if run.structure == last])
    whole = Book.of(runs)
    for axis in ("compute", "seconds"):
        assert grown.laws(axis).to_dict() == whole.laws(axis).to_dict()  # type: ignore[arg-type]
    better = Run(last, "better", [1e12], [0.5], [1.0])
    assert (
        book.with_runs([better]).laws().to_dict()
        == Book.of([run for run in runs if run.structure != last] + [better]).laws().to_dict()
    )


def test_intervals_cover_the_truth() -> None:
    """60 studies, each of a world of its own: 90 % intervals must cover 85-97 % of multipliers and predictions, up to chance.

    The runs of each budget share the fault of its size: the hold-out and L_inf are covered where that is reckoned with.
    """
    rows = [study_of(None, number, 100)[0] for number in range(60)]
    multiplier, prediction, place, single, error = (
        np.concatenate([getattr(row, name) for row in rows])
        for name in ("multiplier", "prediction", "place", "single", "error")
    )
    assert 0.85 <= multiplier.mean() <= 0.98
    assert multiplier[single].mean() >= 0.85
    assert 0.85 <= prediction.mean() <= 0.98
    assert place.mean() >= 0.9
    assert np.mean([row.held_out for row in rows]) >= 0.85
    assert np.mean([row.floor for row in rows]) >= 0.85
    assert abs(error.mean()) < 0.05


def test_places_are_the_shortest_interval_that_holds_the_level() -> None:
    """Three structures: the second and the third swap in 6 % of the draws, which an interval of 90 % leaves out."""
    draws = np.tile([3.0, 2.0, 1.0], (200, 1))
    draws[:12, 1:] = [1.0, 2.0]
    best, (low, high) = _places(draws, 0.9)
    assert best.tolist() == [1.0, 0.0, 0.0]
    assert (low.tolist(), high.tolist()) == ([1, 2, 3], [1, 2, 3])
    low, high = _places(draws, 0.95)[1]
    assert (low.tolist(), high.tolist()) == ([1, 2, 2], [1, 3, 3])


def test_the_best_of_ten_that_ran_at_a_quarter_of_the_target_is_not_flattered() -> None:
    """The winner's curse: of ten structures with one run each, the one that leads must still hold its interval."""
    held, shown = [], []
    for seed in range(30):
        runs, truth = study(200 + seed, **asdict(replace(FAR, exponents=0.1)))
        leader = next(row for row in leaderboard(runs, TARGET, seed=seed) if row.key != DENSE)
        held.append(leader.multiplier_low <= truth[leader.key])
        shown.append("extrapolated 4.0x" in leader.verdict)
    assert np.mean(held) >= 0.85
    assert all(shown)


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
    assert fits.l_inf_interval[1] - fits.l_inf_interval[0] > 0.15
    assert all(entry.verdict.endswith("L_inf not identified") for entry in fits.laws.values())


def test_a_long_study_knows_the_irreducible_loss_and_the_exponent() -> None:
    fits = laws(exact(DENSE, 1.0, DECADES) + exact("s", 1.5, DECADES))
    assert fits.l_inf_identified
    assert fits.l_inf == pytest.approx(0.9, rel=0.03)
    assert fits.exponent == pytest.approx(0.3, rel=0.03)
    assert fits.laws["s"].verdict == "exponent pooled"
    assert fits.l_inf_interval[0] < 0.9 < fits.l_inf_interval[1]


def test_exponents_that_differ_are_found_and_used() -> None:
    compute = [budget * np.linspace(0.3, 1.0, 8) for budget in DECADES]
    steep = [Run("steep", str(n), c, 0.9 + (c / 1e12) ** -0.36, c / 1e10) for n, c in enumerate(compute)]
    fits = laws(exact(DENSE, 1.0, DECADES) + exact("s", 1.5, DECADES) + steep)
    assert fits.pooling_p < 0.01
    assert fits.laws["steep"].verdict == "own exponent"
    assert fits.law("steep").exponent - fits.dense.exponent == pytest.approx(0.06, abs=0.015)


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
    reports = {report.run_id: report for entry in laws(runs).laws.values() for report in entry.points}
    for run in runs:
        report = reports[run.run_id]
        assert report.used + sum(report.left_out.values()) == run.loss.size


def test_results_are_json() -> None:
    runs, truth = study()
    text = json.dumps([laws(runs).to_dict(), *(row.to_dict() for row in leaderboard(runs, 100 * TARGET))], allow_nan=False)
    assert set(json.loads(text)[0]["structures"]) == set(truth)


def test_unusable_runs_are_skipped() -> None:
    runs, truth = study()
    extra = [Run("new", "e", [], [], []), Run("bad", "n", [1e11], [np.nan], [1.0])]
    assert {row.key for row in leaderboard(runs + extra, TARGET)} == set(truth)


def test_any_part_of_a_study_gets_answers_or_says_what_is_missing() -> None:
    rng = np.random.default_rng(0)
    for seed in range(30):
        runs = []
        for run in study(seed)[0]:
            points = int(rng.integers(0, run.loss.size + 1))
            wild = run.loss[:points] * np.exp(rng.choice([0.0, 0.3]) * rng.standard_normal(points))
            runs.append(Run(run.structure, run.run_id, run.compute[:points], wild, run.seconds[:points], run.size))
        some = [run for run in runs if rng.random() < 0.5] + [runs[0], study(seed)[0][1]]
        for row in leaderboard(some, float(rng.choice([1e9, TARGET, 1e15])), draws=20):
            assert np.isfinite([row.loss, row.loss_low, row.loss_high, row.probability_best]).all()
            if NEEDS_DECADE in row.verdict and "at least" not in row.verdict:
                assert np.isnan([row.multiplier, row.multiplier_low, row.seconds_multiplier]).all()
            else:
                assert 0 < row.multiplier_low <= row.multiplier * (1 + 1e-9)
                assert np.isnan(row.multiplier_high) or row.multiplier_high > 0


def test_a_multiplier_that_needs_dense_far_beyond_its_runs_is_a_lower_bound() -> None:
    runs = exact(DENSE, 1.0, RUNGS) + exact("s", 20.0, RUNGS)
    best = leaderboard(runs, TARGET)[0]
    assert best.key == "s"
    assert np.isnan(best.multiplier_high)
    assert 2.0 < best.multiplier_low <= 4.0 * RUNGS[-1] / TARGET * (1 + 1e-9)
    assert f"at least {best.multiplier_low:.1f}: dense {NEEDS_DECADE}" in best.verdict


def test_a_target_a_decade_beyond_what_was_run_is_refused_with_the_reason() -> None:
    runs = exact(DENSE, 1.0, DECADES) + exact("near", 2.0, DECADES) + exact("far", 2.0, DECADES[:3])
    board = {row.key: row for row in leaderboard(runs, DECADES[-1])}
    assert np.isfinite(board["near"].multiplier)
    assert np.isnan(board["far"].multiplier)
    assert board["far"].verdict.endswith(NEEDS_DECADE)
    assert board["far"].probability_best == 0.0
    assert all(np.isnan(row.multiplier) for row in leaderboard(runs, 20 * DECADES[-1]))


def test_one_dense_run_is_enough_for_an_answer_and_says_how_little_it_is() -> None:
    runs = exact(DENSE, 1.0, RUNGS[:1]) + exact("s", 2.0, RUNGS[:1])
    best, dense = leaderboard(runs, RUNGS[0])
    assert best.multiplier_low < 2.0
    assert np.isnan(best.multiplier_high) or best.multiplier_high > 2.0
    assert dense.verdict == "single run, L_inf not identified"


def test_a_study_without_dense_or_with_a_target_of_zero_is_refused() -> None:
    runs, _ = study()
    with pytest.raises(ValueError, match="run a dense baseline first"):
        laws([run for run in runs if run.structure != DENSE])
    with pytest.raises(ValueError, match="target_compute must be finite and above 0"):
        leaderboard(runs, 0.0)


def test_draws_of_a_multiplier_centre_on_its_estimate() -> None:
    fits = laws(study()[0], draws=2000)
    estimates, drawn = log_multipliers(fits, np.full(len(fits.laws), TARGET))
    for column, key in enumerate(fits.laws):
        value, draws = log_multiplier(fits, key, TARGET)
        assert (value, draws.tolist()) == (estimates[column], drawn[:, column].tolist())
        assert np.median(draws) == pytest.approx(value, abs=0.5 * np.std(draws) + 1e-9)


def test_ranks_are_those_of_the_draws() -> None:
    book = Book.of(study(5)[0])
    compute, seconds = book.laws("compute"), book.laws("seconds", seed=1)
    board = rank(compute, seconds, TARGET)
    _, drawn = log_multipliers(compute, np.full(len(compute.laws), TARGET))
    place = 1 + (drawn[:, :, None] < drawn[:, None, :]).sum(axis=2)
    for column, key in enumerate(compute.laws):
        row = next(row for row in board if row.key == key)
        assert row.probability_best == pytest.approx(np.mean(place[:, column] == 1))
        assert np.mean((row.rank_low <= place[:, column]) & (place[:, column] <= row.rank_high)) >= 0.9


def test_the_dense_law_forecasts_the_largest_compute_better_than_no_forecast() -> None:
    check = hold_out(exact(DENSE, 1.0, RUNGS) + exact("s", 2.0, RUNGS))
    assert check is not None
    assert check.better_than_baseline
    assert check.low < check.observed < check.high
    assert check.baseline == pytest.approx(0.9 + 0.34**-0.3)
    assert hold_out(exact(DENSE, 1.0, RUNGS[:1])) is None
    assert json.loads(json.dumps(check.to_dict()))["compute"] == RUNGS[-1]
