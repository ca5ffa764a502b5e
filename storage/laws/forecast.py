"""Does the dense law predict? Leave out the largest compute, predict it, compare with not extrapolating.

| symbol | name | unit |
|---|---|---|
| C_max | compute | FLOPs, of the run left out that reached furthest |
| L | observed, predicted, baseline | nats: lowest loss there, its forecast, lowest loss of the runs kept |
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from storage.laws.book import laws
from storage.laws.law_set import DENSE, interval
from storage.laws.run import Run, finite, json_value

KEPT_BELOW = 0.7


@dataclass(frozen=True)
class HoldOut:
    """Forecast of the dense loss (nats) at the largest compute (FLOPs), with a 90 % interval for the runs left out."""

    compute: float
    observed: float
    predicted: float
    low: float
    high: float
    baseline: float

    @property
    def better_than_baseline(self) -> bool:
        """Whether the forecast is closer than assuming that more compute brings nothing."""
        return abs(self.predicted - self.observed) < abs(self.baseline - self.observed)

    def to_dict(self) -> dict[str, Any]:
        """Fields as JSON values."""
        return {name: json_value(value) for name, value in asdict(self).items()}


def hold_out(runs: Sequence[Run], *, draws: int = 200, seed: int = 0) -> HoldOut | None:
    """Forecast the dense runs above KEPT_BELOW of the largest dense budget from all smaller runs.

    What is forecast is the lowest loss of those of them that are on the frontier, as large a part as of the smaller ones: the
    interval holds the luck of each run, and that of the sizes of that budget, as well as what is unknown of the law. None
    when all dense runs are that large. Runs of other structures of that budget are left out as well.
    """
    dense = [run for run in runs if run.structure == DENSE and run.usable]
    largest = max((run.flops for run in dense), default=0.0)
    kept = [run for run in runs if run.flops <= KEPT_BELOW * largest]
    known = [run for run in dense if run.flops <= KEPT_BELOW * largest]
    if not known:
        return None
    fits = laws(kept, draws=draws, seed=seed)
    unseen = [_lowest([run]) for run in dense if run.flops > KEPT_BELOW * largest]
    observed, baseline = min(unseen), _lowest(known)
    front = fits.laws[DENSE].front
    rivals = max(1, round(len(unseen) * front.log_loss.size / len(known)))
    rng = np.random.default_rng(seed)
    luck = (fits.draws.sigma * rng.standard_normal((rivals, draws))).min(axis=0)
    luck += fits.effect.budget * rng.standard_normal(draws)
    column = list(fits.laws).index(DENSE)
    forecast = fits.log_losses(column, np.array([np.log(largest)]))[:, 0] + luck
    low, high = np.exp(interval(forecast, 0.9))
    return HoldOut(largest, observed, float(np.exp(np.median(forecast))), float(low), float(high), baseline)


def _lowest(runs: Sequence[Run]) -> float:
    """Lowest finite loss of the runs, nats."""
    return min(float(run.loss[finite(run.loss)].min()) for run in runs)
