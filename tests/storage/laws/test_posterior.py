"""The mixed model against the joint Gaussian it stands for, and what is weighed around it."""

from __future__ import annotations

import numpy as np
import pytest

from storage.laws.evidence import SHARES, SUMS, Scale, Sums, sums
from storage.laws.frontier import Front
from storage.laws.mixed import EXPONENT_PRIOR, FLAT, Settings, solve
from storage.laws.posterior import sample

SIGMA, SIGMA_Q, OMEGA, TAU, BIAS = 0.01, 0.02, 0.15, 0.03, 0.04
NODE = 30


def made(structures: int, rng: np.random.Generator) -> list[Front]:
    """Structures with one to three runs on noisy lines."""
    found = []
    for number in range(structures):
        runs = 1 + number % 3
        x = 25 + rng.choice([-1.0, 0.0, 1.0], runs) + 0.1 * rng.standard_normal(runs)
        log_loss = 0.6 - 0.1 * (x - 25) + 0.05 * rng.standard_normal(runs)
        slope = np.where(rng.random(runs) < 0.2, np.nan, -0.1 + 0.02 * rng.standard_normal(runs))
        ends = np.array([x.min(), x.min()]), np.array([x.max(), x.max()])
        names = tuple(map(str, range(runs)))
        counts = np.ones((runs, 5), dtype=np.intp)
        found.append(Front(np.stack([x, x]), log_loss, np.stack([slope, slope]), *ends, 1.5, None, names, counts))
    return found


def whole(fronts: list[Front], scale: Scale) -> Sums:
    levels = np.array([front.log_loss.size for front in fronts])
    slopes = np.array([np.isfinite(front.slope[0]).sum() for front in fronts])
    return Sums(sums(fronts, 0, scale), levels, slopes)


def joint(fronts: list[Front], scale: Scale) -> tuple[float, np.ndarray]:
    """Log density of all centres and slopes, and the posterior mean of (c, a, b), by one dense Gaussian."""
    e, wide = scale.grid[NODE], 1e2
    rows, values, noise, groups = [], [], [], []
    for number, front in enumerate(fronts):
        h = 1 - e / np.exp(front.log_loss)
        for x, y, share in zip(front.x[0], np.log(np.exp(front.log_loss) - e), h, strict=True):
            rows.append([1.0, -(x - scale.x_0), 0.0])
            values.append(y)
            noise.append(SIGMA / share)
            groups.append((number, x - scale.x_0))
        for q, share in zip(front.slope[0], h, strict=True):
            if np.isfinite(q):
                rows.append([0.0, -1.0, -1.0])
                values.append(q / share)
                noise.append(SIGMA_Q / share)
                groups.append((-1, 0.0))
    design, y = np.array(rows), np.array(values)
    prior = np.diag([wide**2, EXPONENT_PRIOR[1] ** 2, BIAS**2])
    mean = design @ [0.0, EXPONENT_PRIOR[0], 0.0]
    covariance = np.diag(np.array(noise) ** 2)
    for i, (s, d) in enumerate(groups):
        for j, (r, k) in enumerate(groups):
            if s == r >= 0:
                covariance[i, j] += (FLAT**-1 if s == 0 else OMEGA**2) + TAU**2 * d * k
    total = covariance + design @ prior @ design.T
    phi = [0.0, EXPONENT_PRIOR[0], 0.0] + prior @ design.T @ np.linalg.solve(total, y - mean)
    off = y - mean
    inner = -(off @ np.linalg.solve(total, off) + np.linalg.slogdet(2 * np.pi * total)[1]) / 2
    jacobian = sum(np.log(1 - e / np.exp(front.log_loss)).sum() for front in fronts)
    slopes = sum(np.log((1 - e / np.exp(front.log_loss))[np.isfinite(front.slope[0])]).sum() for front in fronts)
    return float(inner) - float(jacobian) - float(slopes), phi


def settings(count: int = 1) -> Settings:
    ones = np.ones(count)
    return Settings(np.full(count, NODE), SIGMA * ones, SIGMA_Q * ones, OMEGA * ones, TAU * ones, BIAS * ones)


def test_the_elimination_is_the_joint_gaussian() -> None:
    scale = Scale(1.4, 25.0)
    differences = []
    for seed in (0, 1, 2):
        fronts = made(7, np.random.default_rng(seed))
        data = whole(fronts, scale)
        population = np.arange(7) > 0
        at = settings()
        found = solve(data, population, at)
        log_density, phi = joint(fronts, scale)
        assert found.mean[0] == pytest.approx(phi, abs=2e-3)
        counted = (data.levels.sum() + data.slopes.sum()) * 0.5 * np.log(2 * np.pi)
        differences.append(found.log_evidence[0] - log_density - counted)
    assert differences == pytest.approx([differences[0]] * 3, abs=0.02)


def test_draws_of_structures_have_their_conditional_moments() -> None:
    data = whole(made(5, np.random.default_rng(3)), Scale(1.4, 25.0))
    at = settings(20_000)
    found = solve(data, np.arange(5) > 0, at)
    level, exponent = found.conditional(found.mean)
    drawn_level, drawn_exponent = found.conditional(found.mean, np.random.default_rng(0))
    assert drawn_level.mean(axis=0) == pytest.approx(level[0], abs=5e-3)
    assert drawn_exponent.mean(axis=0) == pytest.approx(exponent[0], abs=5e-3)
    for s in range(5):
        cc, ct, tt = found.inverse[:, 0, s]
        assert np.cov(drawn_level[:, s], drawn_exponent[:, s]) == pytest.approx(
            np.array([[cc, ct], [ct, tt]]), rel=0.1, abs=1e-5
        )


def test_sums_add_up_over_runs_and_leave_room_below_the_lowest_loss() -> None:
    fronts = made(4, np.random.default_rng(4))
    scale = Scale.of(1.5, 25.0)
    assert 1.5 / 2 ** (1 / 16) < scale.unit <= 1.5
    table = sums(fronts, 0, scale)
    assert table.shape == (len(SUMS), SHARES.size, 4)
    e, loss = scale.grid[NODE], np.exp(fronts[2].log_loss)
    h = 1 - e / loss
    assert table[0, NODE, 2] == pytest.approx(np.sum(h**2))
    assert table[4, NODE, 2] == pytest.approx(np.sum(h**2 * (fronts[2].x[0] - 25.0) * np.log(loss - e)))
    assert table[7, NODE, 2] == pytest.approx(np.nansum(h * fronts[2].slope[0]))


def test_a_lonely_level_shrinks_to_its_population_and_a_known_one_does_not() -> None:
    """One run 5 % better than eleven others that agree: the estimate keeps part of that; with twenty runs nearly all of it."""
    rng = np.random.default_rng(5)

    def shrunk(runs: int) -> float:
        fronts = []
        for number in range(13):
            count = runs if number == 1 else 3
            x = np.full(count, 25.0)
            log_loss = 0.6 - 0.05 * (number == 1) + 0.01 * rng.standard_normal(count)
            slope = np.full((2, count), -0.1)
            names = tuple(map(str, range(count)))
            ends = np.full(2, 25.0)
            fronts.append(Front(np.stack([x, x]), log_loss, slope, ends, ends, 1.5, None, names, np.ones((count, 5), np.intp)))
        scale = Scale(1.4, 25.0)
        found = sample(whole(fronts, scale), np.arange(13) > 0, 3, scale.grid, 25.0, 50, np.random.default_rng(0)).estimate
        loss = np.log(found.l_inf + np.exp(found.log_b[0] - found.exponent[0] * 25.0))
        return float(np.mean(np.delete(loss, [0, 1])) - loss[1])

    assert 0.01 < shrunk(1) < shrunk(20) < 0.055
    assert shrunk(20) > 0.04
