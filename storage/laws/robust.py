"""Robust fits of a floor plus a sum of powers, the form of every scaling law here.

| symbol | name | unit |
|---|---|---|
| n, k | | points, power terms |
| X_j, x_j = log X_j | x | (n, k): log of parameters, tokens, or FLOPs |
| E | floor | irreducible loss, nats |
| c_j, p_j | log_scale, exponent | (k,): the term is exp(c_j) X_j^-p_j |
| delta | HUBER_DELTA | 1e-3, of the log residual |

Objective (Hoffmann et al. 2022, arXiv 2203.15556, eq. 3): sum_i huber_delta(log L_i - logsumexp(log E, c_j -
p_j x_ij)). It is a sum: with a mean and default tolerances the optimiser stops early (Besiroglu et al. 2024,
arXiv 2404.10102). Variable projection (Golub and Pereyra 1973) finds the starts: for exponents on a grid the floor and
the scales that are best for relative squares are a non-negative linear problem. From the best few of the grid L-BFGS
goes on with the analytic gradient, on centred x, and the best result is polished.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from storage.laws.run import Array

HUBER_DELTA = 1e-3
EXPONENTS = np.geomspace(0.05, 1.5, 12)
STARTS = 3
LEAST_TERM = 1e-3
"""A term that a start leaves out counts as this share of the lowest loss: the search is over logarithms."""
TIGHT = {"ftol": 1e-15, "gtol": 1e-10, "maxiter": 5000, "maxfun": 20000, "maxcor": 30}


@dataclass(frozen=True, eq=False)
class Terms:
    """Solution of `fit_terms`: floor in nats, log_scale and exponent (k,), and the objective."""

    floor: float
    log_scale: Array
    exponent: Array
    objective: float


def fit_terms(x: Array, log_loss: Array, starts: Sequence[tuple[float, ...]] | None = None) -> Terms:
    """Minimise the objective over floor, scales and exponents.

    Args:
        x: (n, k) log sizes.
        log_loss: (n,).
        starts: exponents (k) to begin at; a grid of them when None.
    """
    from scipy.optimize import minimize  # here: every driver and command loads these laws, and few ever fit so

    centre = x.mean(axis=0)
    arguments = (x - centre, log_loss)
    grid = list(itertools.product(EXPONENTS, repeat=x.shape[1])) if starts is None else starts
    found = [minimize(objective, start, arguments, "L-BFGS-B", jac=True, options=TIGHT) for start in _starts(*arguments, grid)]
    best = min(found, key=lambda result: float(result.fun))
    best = minimize(objective, best.x, arguments, "L-BFGS-B", jac=True, options=TIGHT)
    scales, exponents = np.split(best.x[1:], 2)
    return Terms(float(np.exp(best.x[0])), scales + exponents * centre, exponents, float(best.fun))


def _starts(x: Array, log_loss: Array, grid: Sequence[tuple[float, ...]]) -> list[Array]:
    """The best points of a grid of exponents, theta each; x is centred."""
    from scipy.optimize import nnls

    loss, found = np.exp(log_loss), []
    for powers in grid:
        terms = np.column_stack([np.ones(len(x)), np.exp(-np.array(powers) * x)])
        scales, residual = nnls(terms / loss[:, None], np.ones(len(x)))
        logs = np.log(np.maximum(scales, LEAST_TERM * loss.min()))
        found.append((residual, [*logs, *powers]))
    return [np.array(theta) for _, theta in sorted(found)[:STARTS]]


def objective(theta: Array, x: Array, log_loss: Array) -> tuple[float, Array]:
    """Summed Huber loss and its gradient at theta = (log E, c_1..c_k, p_1..p_k), (1 + 2k,)."""
    scales, exponents = np.split(theta[1:], 2)
    terms = np.column_stack([np.full(len(x), theta[0]), scales - exponents * x])
    peak = terms.max(axis=1, keepdims=True)
    parts = np.exp(terms - peak)
    total = parts.sum(axis=1, keepdims=True)
    residual = log_loss - (peak + np.log(total))[:, 0]
    size = np.abs(residual)
    value = np.where(size <= HUBER_DELTA, residual**2 / 2, HUBER_DELTA * (size - HUBER_DELTA / 2)).sum()
    pull = -np.clip(residual, -HUBER_DELTA, HUBER_DELTA)[:, None] * parts / total
    return float(value), np.concatenate([pull.sum(axis=0), -(pull[:, 1:] * x).sum(axis=0)])
