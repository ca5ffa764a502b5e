"""Early stopping inside a run: it ends where it cannot reach the dense frontier at its own budget.

| symbol | name | meaning |
|---|---|---|
| C, L | compute, loss | FLOPs and nats per token at an evaluation after the warmup |
| C_b | budget | FLOPs that the run is to spend |
| q | slope | d log L / d log C over the evaluations from SHARE of C on, not above 0 |
| e | | root mean square of what the line below misses on the baseline's own runs |
| sigma | | spread of runs about their law, in log loss (`storage.laws`) |

    log bound = log L + q log(C_b / C) - WIDTH sqrt(e^2 + sigma^2)
    the run is stopped where bound > L_dense(C_b)

A curve that falls as a power of compute to a floor is convex in (log C, log L), so a straight line through its end stays below
it: the bound errs to the run's favour. The dense law and the margin come from the baseline alone, which is complete before the
first decision and never stopped itself. So a decision depends on nothing but the run's own curve: whoever makes it makes the
same.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from search.settings import StudySettings
from storage.curves import runs
from storage.database import Database
from storage.decisions import Decision
from storage.laws import PowerLaw, Run, laws
from storage.results import reference
from storage.studies import StudyRecord
from trainers.points import Point

LEAST = 3
"""Evaluations after the warmup before the first decision."""

SHARES = (0.4, 0.8)
"""Of the budget, between which decisions fall: before, a curve says little; after, there is little to save."""

SHARE = 0.4
WIDTH = 2.0


@dataclass(frozen=True, slots=True)
class Frontier:
    """The dense law, and the margin in log loss that a bound leaves."""

    dense: PowerLaw
    margin: float

    @classmethod
    def of(cls, baseline: Sequence[Run]) -> Frontier:
        """From the baseline's runs, at least one of them usable."""
        fitted = laws(baseline, draws=2)
        missed = [miss for run in baseline for miss in _misses(np.log(run.compute), np.log(run.loss))]
        square = float(np.mean(np.square(missed))) if missed else 0.0
        return cls(fitted.dense, WIDTH * float(np.sqrt(square + fitted.effect.sigma**2)))

    def judge(self, points: Sequence[Point], budget: float) -> Decision | None:
        """What is decided at the last of a run's points; None where it is no decision point."""
        last, legitimate = points[-1], [point for point in points if not point.warmup]
        if last.warmup or len(legitimate) < LEAST or not SHARES[0] <= last.flops / budget <= SHARES[1]:
            return None
        compute, loss = (np.log([getattr(point, name) for point in legitimate]) for name in ("flops", "loss"))
        bound = float(np.exp(_straight_on(compute, loss, float(np.log(budget))) - self.margin))
        return Decision(last.step, last.flops, last.loss, budget, bound, float(self.dense.predict(budget)))


class Judge:
    """Decides on the runs of a study, as soon as its baseline is complete."""

    def __init__(self, database: Database, study: StudyRecord, settings: StudySettings) -> None:
        self._database, self._study, self._settings = database, study, settings
        self._frontier: Frontier | None = None

    def decide(self, kind: str, rung: int, points: Sequence[Point], after: int) -> list[Decision]:
        """Decisions at the points of a run past step `after`, in their order, up to the first that stops it."""
        if not self._settings.early_stopping or kind == "baseline":
            return []
        found: list[Decision] = []
        for number, point in enumerate(points, start=1):
            if point.step > after and not (found and found[-1].stopped):
                found += self._at(points[:number], self._settings.rungs[rung].flops)
        return found

    def _at(self, points: Sequence[Point], budget: float) -> Iterator[Decision]:
        frontier = self._known()
        decision = None if frontier is None else frontier.judge(points, budget)
        if decision is not None:
            yield decision

    def _known(self) -> Frontier | None:
        """The frontier, None before the baseline is complete."""
        if self._frontier is None and reference(self._database, self._study) is not None:
            self._frontier = Frontier.of(runs(self._database, self._study, "baseline"))
        return self._frontier


def _straight_on(compute: np.ndarray, loss: np.ndarray, end: float) -> float:
    """Log loss at log compute `end`, by the line through the last points (all in logarithms)."""
    late = compute >= compute[-1] + np.log(SHARE)
    chosen = late if late.sum() >= LEAST else np.arange(compute.size) >= compute.size - LEAST
    slope = min(0.0, float(np.polyfit(compute[chosen], loss[chosen], 1)[0]))
    return float(loss[-1]) + slope * (end - float(compute[-1]))


def _misses(compute: np.ndarray, loss: np.ndarray) -> Iterator[float]:
    """What the line misses at the end of a whole run, from each of its decision points."""
    shares = np.exp(compute - compute[-1])
    for number in range(LEAST, compute.size):
        if SHARES[0] <= shares[number - 1] <= SHARES[1]:
            yield float(loss[-1]) - _straight_on(compute[:number], loss[:number], float(compute[-1]))
