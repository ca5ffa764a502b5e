"""The leaderboard: structures by their compute multiplier at the target compute, with intervals.

| symbol | name | unit |
|---|---|---|
| C* | target_compute | FLOPs |
| lambda | multiplier | C_dense(L) / C* at the loss L the structure's law has at C* |
| lambda_s | seconds_multiplier | S_dense(L) / S(L) at the same loss, by laws of loss against seconds |

Nothing is read off a law further than it carries. A multiplier for which dense would have to be extrapolated more
than REACH beyond its largest run is cut there: its upper end is NaN ("at least"). A structure, or dense, whose
largest run is a decade or more below the target has no multiplier: it "needs another decade".
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from storage.laws.book import Book
from storage.laws.law_set import DENSE, LawSet, interval
from storage.laws.multiplier import log_losses, log_multipliers
from storage.laws.power_law import log_compute_at
from storage.laws.run import Array, Run, json_value

DECADE = 10.0
NEEDS_DECADE = "needs another decade"
SHOWN_FROM = 1.5
"""Smallest ratio of the target to the largest compute that counts as an extrapolation worth a word."""


@dataclass(frozen=True)
class Standing:
    """One row of the leaderboard; losses are those of the structure's law at the target compute.

    Attributes:
        multiplier, seconds_multiplier: with intervals; NaN where the data do not settle them (see the module).
        flops: training FLOPs of all its runs together.
        verdict: what the data settle about its law, and whether its multiplier is an extrapolation.
        probability_best: share of draws in which no other structure, dense included, does better.
        rank_low, rank_high: interval of its place among all structures with a multiplier, 1 is the best.
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
    verdict: str
    probability_best: float
    rank_low: float
    rank_high: float

    def to_dict(self) -> dict[str, Any]:
        """Fields as JSON values."""
        return {name: json_value(value) for name, value in asdict(self).items()}


def leaderboard(
    runs: Sequence[Run], target_compute: float, *, draws: int = 200, seed: int = 0, level: float = 0.9
) -> list[Standing]:
    """Rank every structure with a usable run, dense included, by the lower end of its multiplier, best first.

    Args:
        runs: all runs of a study, the dense baseline (structure "dense") among them.
        target_compute: FLOPs at which the structures are compared.
        draws: joint draws of all laws.
        seed: of the draws.
        level: of the intervals.

    Raises:
        ValueError: when the target is not positive and finite, or no dense run is usable.
    """
    if not (np.isfinite(target_compute) and target_compute > 0):
        raise ValueError(f"target_compute must be finite and above 0 FLOPs, and is {target_compute}")
    fits = Book.of(runs).both(draws=draws, seed=seed)
    return rank(fits["compute"], fits["seconds"], target_compute, level)


def rank(compute: LawSet, seconds: LawSet, target_compute: float, level: float = 0.9) -> list[Standing]:
    """Leaderboard from laws fitted on both axes; see `leaderboard`."""
    entries = list(compute.laws.values())
    spent = np.full(len(entries), target_compute)
    drawn = log_losses(compute.draws, np.log(spent))
    value, draws = log_multipliers(compute, spent, drawn)
    reach = _reaches(compute, target_compute)
    logs = log_losses(compute.estimate, np.log(spent))
    unsettled = (reach >= DECADE) | (reach[0] >= DECADE)
    with ThreadPoolExecutor(1) as pool:
        in_seconds = pool.submit(_seconds_ends, seconds, _seconds_at(compute, seconds, logs[0]), level)
        flops_ends = _cut(value, draws, compute, spent, level)
        losses = np.exp(np.stack([logs[0], *interval(drawn, level)]))
        best, places = _places(np.where(unsettled, -np.inf, draws), level)
        time_ends = in_seconds.result()
    for ends in (flops_ends, time_ends):
        ends[:, unsettled] = np.nan
    rows = []
    for n, entry in enumerate(entries):
        multiplier, timed = flops_ends[:, n].tolist(), time_ends[:, n].tolist()
        row = Standing(
            entry.key,
            multiplier=multiplier[0],
            multiplier_low=multiplier[1],
            multiplier_high=multiplier[2],
            seconds_multiplier=timed[0],
            seconds_multiplier_low=timed[1],
            seconds_multiplier_high=timed[2],
            loss=float(losses[0, n]),
            loss_low=float(losses[1, n]),
            loss_high=float(losses[2, n]),
            runs=entry.runs,
            verdict=_verdict(compute, entry.key, float(reach[n]), bool(unsettled[n]), flops_ends[:, n]),
            probability_best=float(best[n]),
            rank_low=float(places[0][n]),
            rank_high=float(places[1][n]),
        )
        rows.append(row)
    return sorted(rows, key=lambda row: (np.isnan(row.multiplier_low), -row.multiplier_low, row.key))


def _seconds_ends(seconds: LawSet, spent: Array, level: float) -> Array:
    """Multipliers in seconds with their intervals, (3, S), at the seconds that each structure takes (S,)."""
    return _cut(*log_multipliers(seconds, spent), seconds, spent, level)


def _seconds_at(compute: LawSet, seconds: LawSet, log_loss: Array) -> Array:
    """Seconds at which each structure, in the order of `compute`, reaches a log loss (S,)."""
    if list(compute.laws) != list(seconds.laws):
        raise ValueError("the laws on the two axes are not of the same structures; fit both from the same runs")
    one = seconds.estimate
    return np.exp(log_compute_at(log_loss, one.l_inf, one.log_b[0], one.exponent[0], seconds.reach))


def _reaches(fits: LawSet, target: float) -> Array:
    """How many times the largest compute of each structure on its frontier the target is, (S,)."""
    return target / np.array([entry.law.high for entry in fits.laws.values()])


def _cut(value: Array, draws: Array, fits: LawSet, spent: Array, level: float) -> Array:
    """Multipliers and their intervals from logarithms, (3, S), cut where dense is not trusted; NaN for a cut end."""
    cap = fits.dense.x_trusted - np.log(spent)
    low, high = interval(draws, level)
    ends = np.exp(np.minimum(np.stack([value, low, high]), cap))
    ends[2, high > cap] = np.nan
    return ends


def _places(draws: Array, level: float) -> tuple[Array, tuple[Array, Array]]:
    """Probability of being best (S,), and the interval of the place of each structure, from draws (D, S).

    Of all intervals of places with that share of the draws it is the shortest (Chen and Shao 1999): places are whole
    numbers, and two tails that each hold at most half of the rest would give away up to a place at either end.
    """
    order = np.argsort(-draws, axis=1)
    place = np.empty(order.shape, dtype=np.int32)
    np.put_along_axis(place, order, np.arange(1, draws.shape[1] + 1, dtype=np.int32)[None], axis=1)
    held = int(np.ceil(level * len(place)))
    ordered = np.sort(place, axis=0)
    first = np.argmin(ordered[held - 1 :] - ordered[: len(place) - held + 1], axis=0)[None]
    low, high = (np.take_along_axis(ordered, row, axis=0)[0] for row in (first, first + held - 1))
    return np.mean(place == 1, axis=0), (low, high)


def _verdict(fits: LawSet, key: str, reach: float, decade: bool, ends: Array) -> str:
    """The law's verdict, and warnings where its multiplier needs a law outside of what was run."""
    entry = fits.laws[key]
    notes = [entry.verdict]
    if entry.edge:
        notes.append(f"frontier at the {entry.edge}")
    if decade:
        return ", ".join([*notes, NEEDS_DECADE])
    if reach >= SHOWN_FROM:
        notes.append(f"extrapolated {reach:.1f}x")
    if key != DENSE and np.isnan(ends[2]):
        notes.append(f"at least {ends[1]:.1f}: dense {NEEDS_DECADE}")
    return ", ".join(notes)
