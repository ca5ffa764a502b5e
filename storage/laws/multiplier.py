"""The compute multiplier: how many times its compute the dense model needs to match a structure.

| symbol | name | meaning |
|---|---|---|
| lambda | multiplier | C_dense(L) / C(L), in seconds S_dense(L) / S(L); above 1 the structure is better |
| log lambda | log_multiplier, value | natural logarithm |

Source: Potapczynski et al. 2024 (arXiv 2410.02117), section 4. Only the local slope of the dense law enters
near the measured range, so multipliers are known well where L_inf is not.
"""

from __future__ import annotations

import numpy as np

from storage.laws.law_set import DENSE, LawSet
from storage.laws.posterior import Draws
from storage.laws.power_law import PowerLaw, log_compute_at, log_loss_at
from storage.laws.run import Array, Run, finite


def run_value(run: Run, dense: PowerLaw) -> float:
    """log lambda of one run at the compute it actually spent: the value of a trial.

    Uses its last point with a finite loss. It is finite for any loss, L_inf and below included (see
    `log_compute_at`).

    Raises:
        ValueError: when the run has no point with a finite loss.
    """
    good = np.flatnonzero(finite(run.loss))
    if good.size == 0:
        raise ValueError(f"run {run.run_id} has no point with a finite loss: it has no value")
    last = good[-1]
    return float(np.log(dense.compute_at(float(run.loss[last]))) - np.log(run.compute[last]))


def log_multiplier(fits: LawSet, key: str, spent: float) -> tuple[float, Array]:
    """log lambda of one structure and its draws (D,), at `spent` FLOPs (seconds, on that axis)."""
    estimate, drawn = log_multipliers(fits, np.full(len(fits.laws), spent))
    column = list(fits.laws).index(key)
    return float(estimate[column]), drawn[:, column]


def log_losses(draws: Draws, x: Array) -> Array:
    """log loss of every law at its own x = log C (S,), by draw, (D, S)."""
    return log_loss_at(x, draws.l_inf[:, None], draws.log_b, draws.exponent)


def log_multipliers(fits: LawSet, spent: Array, losses_drawn: Array | None = None) -> tuple[Array, Array]:
    """log lambda of every structure (S,) and its draws (D, S), at `spent` (S,) FLOPs (seconds, on that axis).

    In the order of `fits.laws`. That of dense is 0: it is the measure. `losses_drawn` are the `log_losses` of the draws there,
    where they are known already.
    """
    x, keys = np.log(spent), list(fits.laws)
    reference, reach = keys.index(DENSE), fits.dense.x_trusted
    losses = log_losses(fits.estimate, x)[0]
    estimate = np.log(fits.dense.compute_at(np.exp(losses))) - x
    draws = fits.draws
    dense = draws.l_inf[:, None], draws.log_b[:, [reference]], draws.exponent[:, [reference]]
    drawn = log_compute_at(log_losses(draws, x) if losses_drawn is None else losses_drawn, *dense, reach) - x
    estimate[reference] = drawn[:, reference] = 0.0
    return estimate, drawn
