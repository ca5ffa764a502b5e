"""What the model that steers a search foresees of each trial from the trials before it.

    n        trials with a value, in the order of their numbers
    K, s²    covariance of the model between them, variance of a trial's own luck
    L        lower Cholesky factor of K + s² I
    z        L⁻¹ (y - m)

The model is fitted once to all results. Its forecast of trial i from trials 0..i-1 then falls out of one factorisation:
mean y_i - L_ii z_i, standard deviation L_ii (the innovations of a Gaussian process), luck included.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from numpy.typing import NDArray

    from storage.studies import StudyRecord

    Floats: TypeAlias = NDArray[np.float64]

FEWEST = 4
"""Results before a forecast is worth its name."""

MOST = 1500
"""Of a longer study the latest so many trials enter: the cost grows with the cube of their number."""


def predictions(trials: pd.DataFrame, record: StudyRecord) -> pd.DataFrame | None:
    """`number`, `mean` and `sd` of the natural log multiplier of each structured trial; None where there are too few.

    Args:
        trials: columns of `storage.queries.TRIAL_COLUMNS`.
        record: the study that they belong to.
    """
    import pandas as pd

    known = trials[trials["value"].notna() & (trials["key"] != "dense")].sort_values("number").tail(MOST)
    if len(known) <= FEWEST:
        return None
    mean, sd = _forecasts(*_observed(known, record))
    numbers = known["number"].to_numpy()
    return pd.DataFrame({"number": numbers, "mean": mean, "sd": sd})[FEWEST:].reset_index(drop=True)


def _observed(known: pd.DataFrame, record: StudyRecord) -> tuple[Floats, Floats]:
    """Features (n, 11) and values (n,) as the search sees them."""
    import numpy as np

    from search.steering import Steering, features
    from space.structure import Structure

    rungs = tuple(float(rung["flops"]) for rung in record.settings["rungs"])
    policy = Steering(rungs=rungs, target=record.target_compute)
    pairs = zip(known["key"], known["rung"], strict=True)
    return (
        np.array([features(Structure.parse(key), policy.log_compute(int(rung))) for key, rung in pairs]),
        known["value"].to_numpy(dtype=np.float64),
    )


def _forecasts(x: Floats, y: Floats) -> tuple[Floats, Floats]:
    """Forecast mean and standard deviation of each result (n,) from those before it."""
    import warnings

    import torch

    from search.steering import fit

    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")  # jitter on a covariance
        with torch.enable_grad():
            model = fit(x, y, x[:0])
        inputs = torch.as_tensor(x)
        noise = model.likelihood.noise.reshape(-1)[0]
        covariance = model.covar_module(inputs).to_dense() + noise * torch.eye(len(x), dtype=torch.float64)
        values = model.outcome_transform(torch.as_tensor(y)[:, None])[0][:, 0]
        scale = float(model.outcome_transform.stdvs.reshape(-1)[0])
        error, sd = innovations(covariance.numpy(), (values - model.mean_module(inputs)).numpy())
    return y - scale * error, scale * sd


def innovations(covariance: Floats, values: Floats) -> tuple[Floats, Floats]:
    """How far each value is from its forecast by those before it, and the standard deviation of that forecast.

    Args:
        covariance: (n, n) of the values, their noise on its diagonal.
        values: (n,) with mean 0.
    """
    import numpy as np
    from scipy.linalg import solve_triangular

    factor = np.linalg.cholesky(covariance)
    sd = np.diagonal(factor)
    return sd * solve_triangular(factor, values, lower=True), sd
