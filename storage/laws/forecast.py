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

from storage.laws.fit import laws
from storage.laws.law_set import DENSE
from storage.laws.run import Run, finite, plain

KEPT_BELOW = 0.7


@dataclass(frozen=True)
class HoldOut:
    """Forecast of the dense loss (nats) at the largest compute (FLOPs), with a 90 % interval of the law."""

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
        return {name: plain(value) for name, value in asdict(self).items()}


def hold_out(runs: Sequence[Run], *, draws: int = 200, seed: int = 0) -> HoldOut | None:
    """Forecast the dense runs above KEPT_BELOW of the largest dense budget from all smaller runs.

    None when all dense runs are that large. Runs of other structures of that budget are left out as well.
    """
    dense = [run for run in runs if run.structure == DENSE and run.usable]
    largest = max((run.flops for run in dense), default=0.0)
    kept = [run for run in runs if run.flops <= KEPT_BELOW * largest]
    known = [run for run in dense if run.flops <= KEPT_BELOW * largest]
    if not known:
        return None
    fits = laws(kept, draws=draws, seed=seed)
    low, high = fits.band(DENSE, np.array([largest]))
    observed, baseline = (_lowest(group) for group in (dense, known))
    return HoldOut(largest, observed, float(fits.dense.predict(largest)), float(low[0]), float(high[0]), baseline)


def _lowest(runs: Sequence[Run]) -> float:
    """Lowest finite loss of the runs, nats."""
    return min(float(run.loss[finite(run.loss)].min()) for run in runs)
