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
from storage.laws.power_law import PowerLaw, log_compute_at
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
    """log lambda of a structure and its draws (D,), at `spent` FLOPs (seconds, for laws on that axis).

    Dense is compared with a replicate of itself that has run effects of its own: its estimate is 0, its draws
    are not.
    """
    x, reach = np.log(spent), fits.dense.x_trusted
    estimate = float(np.log(fits.dense.compute_at(fits.law(key).predict(spent))) - x)
    keys = list(fits.laws)
    column = len(keys) if key == DENSE else keys.index(key)
    reference = keys.index(DENSE)
    log_loss = fits.log_losses(column, np.array([x]))[:, 0]
    dense = fits.draws.l_inf, fits.draws.log_b[:, reference], fits.draws.exponent[:, reference]
    return estimate, log_compute_at(log_loss, *dense, reach) - x
