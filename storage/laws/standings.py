"""The leaderboard: structures by their compute multiplier at the target compute, with intervals.

| symbol | name | unit |
|---|---|---|
| C* | target_compute | FLOPs |
| lambda | multiplier | C_dense(L) / C* at the loss L the structure's law has at C* |
| lambda_s | seconds_multiplier | S_dense(L) / S(L) at the same loss, by laws of loss against seconds |
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from storage.laws.bootstrap import interval
from storage.laws.fit import laws
from storage.laws.law_set import LawSet
from storage.laws.multiplier import log_multiplier
from storage.laws.power_law import REACH
from storage.laws.run import Array, Run, plain


@dataclass(frozen=True)
class Standing:
    """One row of the leaderboard; losses are those of the structure's law at the target compute.

    Attributes:
        flops: training FLOPs of all its runs together.
        verdict: what the data settle about its law, and whether its multiplier is an extrapolation.
        probability_best: share of bootstrap draws in which no other structure, dense included, does better.
    """

    key: str
    multiplier: float
    multiplier_low: float
    multiplier_high: float
    seconds_multiplier: float
    seconds_multiplier_low: float
    seconds_multiplier_high: float
    loss: float
    loss_low: float
    loss_high: float
    runs: int
    flops: float
    verdict: str
    probability_best: float

    def to_dict(self) -> dict[str, Any]:
        """Fields as JSON values."""
        return {name: plain(value) for name, value in asdict(self).items()}


def leaderboard(
    runs: Sequence[Run], target_compute: float, *, draws: int = 200, seed: int = 0, level: float = 0.9
) -> list[Standing]:
    """Rank every structure with a usable run, dense included, by the lower end of its multiplier, best first.

    Args:
        runs: all runs of a study, the dense baseline (structure "dense") among them.
        target_compute: FLOPs at which the structures are compared.
        draws: bootstrap replicates.
        seed: of the bootstrap.
        level: of the intervals.

    Raises:
        ValueError: when the target is not positive and finite, or no dense run is usable.
    """
    if not (np.isfinite(target_compute) and target_compute > 0):
        raise ValueError(f"target_compute must be finite and above 0 FLOPs, and is {target_compute}")
    compute = laws(runs, draws=draws, seed=seed)
    seconds = laws(runs, axis="seconds", draws=draws, seed=seed + 1)
    return rank(runs, compute, seconds, target_compute, level)


def rank(runs: Sequence[Run], compute: LawSet, seconds: LawSet, target_compute: float, level: float = 0.9) -> list[Standing]:
    """Leaderboard from laws already fitted on both axes; see `leaderboard`."""
    multipliers = {key: log_multiplier(compute, key, target_compute) for key in compute.laws}
    best = np.argmax(np.stack([draws for _, draws in multipliers.values()]), axis=0)
    rows = []
    for number, (key, (value, draws)) in enumerate(multipliers.items()):
        loss = float(compute.law(key).predict(target_compute))
        loss_low, loss_high = compute.band(key, np.array([target_compute]), level)
        timed = log_multiplier(seconds, key, float(seconds.law(key).compute_at(loss)))
        row = Standing(
            key,
            *_with_interval(value, draws, level),
            *_with_interval(*timed, level),
            loss=loss,
            loss_low=float(loss_low[0]),
            loss_high=float(loss_high[0]),
            runs=compute.laws[key].runs,
            flops=sum(run.flops for run in runs if run.structure == key),
            verdict=_verdict(compute, key, target_compute),
            probability_best=float(np.mean(best == number)),
        )
        rows.append(row)
    return sorted(rows, key=lambda row: row.multiplier_low, reverse=True)


def _with_interval(value: float, draws: Array, level: float) -> tuple[float, float, float]:
    """Multiplier and its interval from logarithms."""
    low, high = interval(draws, level)
    return float(np.exp(value)), float(np.exp(low)), float(np.exp(high))


def _verdict(fits: LawSet, key: str, target_compute: float) -> str:
    """The law's verdict, and a warning when its multiplier needs a law far outside of what was run."""
    entry = fits.laws[key]
    own = target_compute / entry.law.high
    dense = float(fits.dense.compute_at(entry.law.predict(target_compute))) / fits.dense.high
    ratios = {"extrapolated": own, "dense extrapolated": dense}
    notes = [f"{name} {ratio:.1f}x" for name, ratio in ratios.items() if ratio > REACH]
    return ", ".join([entry.verdict, *notes])
