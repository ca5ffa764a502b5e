"""Power laws: inversion, extrapolation, and recovery of known parameters."""

from __future__ import annotations

from decimal import Decimal

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import check_grad, minimize, minimize_scalar

from storage.laws.chinchilla import fit_surface
from storage.laws.power_law import REACH, PowerLaw, log_compute_at, log_loss_at
from storage.laws.robust import HUBER_DELTA, TIGHT, objective

LAW = PowerLaw(0.9, 7.5, 0.3, 1e11, 1e12)


def test_prediction_is_the_formula() -> None:
    assert LAW.predict(1e12) == pytest.approx(0.9 + np.exp(7.5) * 1e12**-0.3)


@given(st.floats(7.0, np.log10(REACH * 1e12)))
def test_inversion_undoes_prediction_up_to_the_reach(digits: float) -> None:
    assert float(LAW.compute_at(LAW.predict(10.0**digits))) == pytest.approx(10.0**digits, rel=1e-6)


@given(st.floats(0.01, 50.0), st.floats(1.0001, 2.0))
def test_inversion_is_finite_and_decreasing_for_any_loss(loss: float, factor: float) -> None:
    more, less = float(LAW.compute_at(loss)), float(LAW.compute_at(loss * factor))
    assert np.isfinite(more)
    assert more > less > 0


@pytest.mark.parametrize(("l_inf", "log_b", "exponent"), [(1.5, 3000.0, 150.0), (1.5, 3000.0, 0.5), (0.0, 900.0, 0.01)])
def test_draws_that_are_absurd_overflow_nowhere(l_inf: float, log_b: float, exponent: float) -> None:
    law, x = (np.array(l_inf), np.array(log_b), np.array(exponent)), np.array([-5.0, 1.0, 30.0])
    log_loss = log_loss_at(x, *law)
    exact = [float((Decimal(l_inf) + (Decimal(log_b) - Decimal(exponent) * Decimal(at)).exp()).ln()) for at in x.tolist()]
    assert log_loss == pytest.approx(exact, rel=1e-12)
    assert np.isfinite(log_compute_at(log_loss, *law, 20.0)).all()


def test_inversion_is_smooth_where_it_leaves_the_law() -> None:
    edge = float(LAW.predict(REACH * LAW.high))
    below, at, above = np.log(LAW.compute_at(edge * np.exp([-1e-4, 0.0, 1e-4])))
    assert at == pytest.approx(np.log(REACH * LAW.high))
    assert (below - at) / (at - above) == pytest.approx(1.0, rel=1e-2)


def test_the_gradient_is_that_of_the_objective() -> None:
    rng = np.random.default_rng(0)
    x, log_loss = rng.standard_normal((20, 2)), rng.normal(0.8, 0.1, 20)
    for theta in rng.normal(0.0, 0.4, (5, 5)):
        error = check_grad(lambda at: objective(at, x, log_loss)[0], lambda at: objective(at, x, log_loss)[1], theta)
        assert error < 1e-7


def test_the_objective_is_a_sum() -> None:
    x, log_loss, theta = np.zeros((3, 1)), np.zeros(3), np.array([0.0, -50.0, 1.0])
    assert objective(theta, x, log_loss + 1.0)[0] == pytest.approx(3 * HUBER_DELTA * (1 - HUBER_DELTA / 2))


@pytest.mark.parametrize("scale", [1.0, 1e-6, 1e9])
def test_the_optimum_does_not_depend_on_units_or_outliers(scale: float) -> None:
    rng = np.random.default_rng(2)
    params, tokens = np.exp(rng.uniform([16, 20], [23, 26], (150, 2))).T
    loss = 1.8 + 480 * params**-0.35 + 2100 * tokens**-0.37
    loss[::10] *= 1.1
    surface = fit_surface(params * scale, tokens / scale, loss)
    assert (surface.floor, surface.alpha, surface.beta) == (
        pytest.approx(1.8, rel=5e-3),
        pytest.approx(0.35, rel=5e-3),
        pytest.approx(0.37, rel=5e-3),
    )


def test_a_loss_surface_and_its_optimum_are_recovered() -> None:
    rng = np.random.default_rng(1)
    params, tokens = np.exp(rng.uniform([16, 20], [23, 26], (120, 2))).T
    loss = (1.8 + 480 * params**-0.35 + 2100 * tokens**-0.37) * np.exp(0.0005 * rng.standard_normal(120))
    surface = fit_surface(params, tokens, loss)
    assert surface.floor == pytest.approx(1.8, rel=0.01)
    assert (surface.alpha, surface.beta) == (pytest.approx(0.35, rel=0.02), pytest.approx(0.37, rel=0.02))
    flops = 1e20
    best = minimize_scalar(lambda size: float(surface.predict(np.exp(size), flops / 6 / np.exp(size))))
    assert np.log(surface.best_params(flops)) == pytest.approx(best.x, rel=1e-5)
    assert float(surface.frontier().predict(flops)) == pytest.approx(best.fun, rel=1e-9)
    assert surface.to_dict()["alpha"] == surface.alpha


def test_no_start_finds_less_than_the_fit_and_a_mean_with_default_tolerances_stalls() -> None:
    """240 points as in Hoffmann et al. (2022); the objective is about 1e-3 there, and its mean below tolerances."""
    rng = np.random.default_rng(0)
    params, flops = np.exp(rng.uniform(np.log([4e7, 6e18]), np.log([1.6e10, 3e21]), (240, 2))).T
    tokens = flops / 6 / params
    loss = (1.8172 + 477.8 * params**-0.3473 + 2143 * tokens**-0.3672) * np.exp(0.002 * rng.standard_t(3, 240))
    given = np.log(np.column_stack([params, tokens])), np.log(loss)
    fitted = fit_surface(params, tokens, loss)
    assert (fitted.floor, fitted.alpha, fitted.beta) == pytest.approx((1.8172, 0.3473, 0.3672), rel=0.01)
    starts = rng.uniform([-1, 0, 0, 0.2, 0.2], [1, 12, 12, 0.8, 0.8], (8, 5))
    summed = [minimize(objective, start, given, "L-BFGS-B", jac=True, options=TIGHT).fun for start in starts]
    assert fitted.objective <= min(summed) * (1 + 1e-9)
    far = [fit_surface(params, tokens, loss, [start]).objective for start in ((0.05, 1.5), (1.5, 1.5))]
    assert far == pytest.approx([fitted.objective] * 2, rel=1e-6)

    def mean(theta: np.ndarray) -> tuple[float, np.ndarray]:
        value, gradient = objective(theta, *given)
        return value / 240, gradient / 240

    stalled = minimize(mean, np.array([0.5, 5.0, 5.0, 0.5, 0.5]), method="L-BFGS-B", jac=True)
    assert stalled.success
    assert 240 * stalled.fun > 2 * fitted.objective
    assert abs(np.exp(stalled.x[0]) - 1.8172) > 0.1
