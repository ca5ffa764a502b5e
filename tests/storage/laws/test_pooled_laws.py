"""The pooled fit, against a general optimiser on the same posterior."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import least_squares

from storage.laws import bootstrap
from storage.laws.pooled import EXPONENT_PRIOR, SHARE_PRIOR, Noise, Observations, solve

L_INF, SIGMA = 0.9, 0.01


def observations(rng: np.random.Generator, spread: float = 0.0) -> tuple[Observations, np.ndarray]:
    structure = np.repeat(np.arange(6), [4, 3, 3, 2, 1, 1])
    x = np.log(1e11) + rng.choice([0.0, 1.0, 2.0], structure.size) + 0.05 * rng.standard_normal(structure.size)
    exponent = 0.3 + spread * rng.standard_normal(6)
    level = 8.0 + 0.2 * rng.standard_normal(6) + (exponent - 0.3) * 26
    log_loss = np.log(L_INF + np.exp(level[structure] - exponent[structure] * x))
    noise = SIGMA / 10 * rng.standard_normal(x.size)
    return Observations(x, log_loss + noise, structure, np.ones(6, dtype=bool)), exponent


def brute(data: Observations, tau: float) -> np.ndarray:
    """(L_inf, a, t_0..t_5) of the same posterior by nonlinear least squares on the exact residuals."""

    def residuals(theta: np.ndarray) -> np.ndarray:
        l_inf, a, level, delta = theta[0], theta[1], theta[2:8], theta[8:14]
        line = level[data.structure] - (a + delta[data.structure]) * (data.x - data.x.mean())
        fit = (data.log_loss - np.log(l_inf + np.exp(line))) / SIGMA
        share = (l_inf / data.lowest - SHARE_PRIOR[0]) / SHARE_PRIOR[1]
        return np.concatenate([fit, [share, (a - EXPONENT_PRIOR[0]) / EXPONENT_PRIOR[1]], delta / tau])

    start = np.concatenate([[0.8, 0.3], np.zeros(12)])
    found = least_squares(residuals, start, xtol=1e-12, ftol=1e-12).x
    return np.concatenate([found[:2], found[1] + found[8:14]])


@pytest.mark.parametrize(("tau", "spread"), [(1e-6, 0.0), (0.02, 0.02)])
def test_the_closed_form_is_the_optimum_of_the_posterior(tau: float, spread: float) -> None:
    data, _ = observations(np.random.default_rng(3), spread)
    grid = np.linspace(0.0, 0.9, 901)
    fit = solve(data, Noise.none(data.x.size, 6, SIGMA), tau, grid)
    l_inf, a, *exponents = brute(data, tau)
    assert fit.l_inf[0] == pytest.approx(l_inf, abs=0.02)
    assert fit.pooled_exponent[0] == pytest.approx(a, abs=0.005)
    assert fit.exponent[0] == pytest.approx(np.array(exponents), abs=0.005)


def test_draws_solved_together_are_those_solved_alone() -> None:
    data, _ = observations(np.random.default_rng(4))
    noise = bootstrap.noise(bootstrap.RunEffect(SIGMA, 10), data.x.size, 6, 0.01, 5, np.random.default_rng(5))
    together = solve(data, noise, 0.01)
    for draw in range(5):
        alone = Noise(*(getattr(noise, name)[draw : draw + 1] for name in vars(noise)))
        assert solve(data, alone, 0.01).log_b[0] == pytest.approx(together.log_b[draw], rel=1e-12)


def test_a_structure_that_is_not_pooled_does_not_inform_the_others() -> None:
    data, _ = observations(np.random.default_rng(6))
    absurd = Observations(
        np.append(data.x, [24.0, 28.0]),
        np.append(data.log_loss, [0.9, 3.0]),
        np.append(data.structure, [6, 6]),
        np.append(data.pooled, False),
    )
    plain = solve(data, Noise.none(data.x.size, 6, SIGMA), 0.01)
    other = solve(absurd, Noise.none(absurd.x.size, 7, SIGMA), 0.01)
    assert other.l_inf == plain.l_inf
    assert other.exponent[0, :6] == pytest.approx(plain.exponent[0])


def test_the_spread_of_runs_starts_at_its_prior_and_follows_the_data() -> None:
    assert bootstrap.RunEffect.estimate(1.0, 0) == bootstrap.RunEffect(bootstrap.SIGMA_PRIOR, 4)
    assert bootstrap.RunEffect.estimate(1000 * 0.03**2, 1000).sigma == pytest.approx(0.03, rel=0.01)
    drawn = bootstrap.RunEffect(0.02, 400).draw(4000, np.random.default_rng(0))
    assert np.mean(drawn) == pytest.approx(0.02, rel=0.01)
    assert np.std(drawn) == pytest.approx(0.02 / np.sqrt(2 * 400), rel=0.1)
