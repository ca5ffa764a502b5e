"""What a fit of the laws returns: one law per structure, with verdicts, evidence and bootstrap draws.

| symbol | name | unit |
|---|---|---|
| L_inf | l_inf | irreducible loss, nats, shared by the structures |
| a | exponent | pooled exponent of the laws |
| sigma | effect.sigma | spread of runs in log loss |
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from storage.laws.frontier import Front, PointReport
from storage.laws.posterior import Draws
from storage.laws.power_law import PowerLaw, log_loss_at
from storage.laws.run import Array, Axis, json_value

DENSE = "dense"


@dataclass(frozen=True)
class RunEffect:
    """Spread between runs of one structure, in log loss, with its 90 % interval.

    size, budget: what a size off its best costs a structure, and all runs of one budget, in log loss
    (`storage.laws.posterior`): not luck, but as unknown.
    """

    sigma: float
    low: float
    high: float
    size: float
    budget: float


@dataclass(frozen=True, eq=False, slots=True)
class StructureLaw:
    """Law of one structure, with what it rests on.

    Attributes:
        verdict: what the data settle: "single run", "exponent pooled" or "own exponent"; if L_inf is unknown.
        front: what its runs say.
    """

    key: str
    law: PowerLaw
    verdict: str
    front: Front = field(repr=False)

    @property
    def runs(self) -> int:
        """Number of its usable runs."""
        return len(self.front.run_ids)

    @property
    def points(self) -> tuple[PointReport, ...]:
        """What became of the points of each run."""
        return self.front.points

    @property
    def edge(self) -> str | None:
        """The end of the sizes that its frontier touches, None when it is inside or sizes are unknown."""
        return self.front.edge


@dataclass(frozen=True, eq=False)
class LawSet:
    """Laws of all structures of a study on one axis (compute or seconds).

    Attributes:
        laws: by structure key, the reference "dense" first.
        l_inf, l_inf_interval: nats, with a 90 % interval.
        l_inf_identified: whether the data, not the prior, fix L_inf.
        exponent, exponent_interval: pooled exponent, with a 90 % interval.
        pooling_p: p-value of one exponent for all structures (NaN: not testable).
        effect: spread of runs.
        estimate, draws: parameters of all laws, one row and joint draws, structures in the order of `laws`.
    """

    axis: Axis
    laws: dict[str, StructureLaw]
    l_inf: float
    l_inf_interval: tuple[float, float]
    l_inf_identified: bool
    exponent: float
    exponent_interval: tuple[float, float]
    pooling_p: float
    effect: RunEffect
    estimate: Draws = field(repr=False)
    draws: Draws = field(repr=False)

    @property
    def reach(self) -> Array:
        """log of the largest compute at which each law is inverted as it stands, (S,)."""
        return np.array([entry.law.x_trusted for entry in self.laws.values()])

    @property
    def dense(self) -> PowerLaw:
        """Law of the reference."""
        return self.laws[DENSE].law

    def law(self, key: str) -> PowerLaw:
        """Law of a structure. Raises KeyError for one without a usable run."""
        return self.laws[key].law

    def band(self, key: str, compute: Array, level: float = 0.9) -> tuple[Array, Array]:
        """Lower and upper loss in nats of the law at each compute (n,): FLOPs, or seconds on that axis."""
        column = list(self.laws).index(key)
        x = np.log(np.asarray(compute, dtype=np.float64))
        curves = self.log_losses(column, x)
        low, high = interval(curves, level)
        return np.exp(low), np.exp(high)

    def log_losses(self, column: int, x: Array) -> Array:
        """Draws of log loss of one column of `draws` at log compute x (n,): (D, n)."""
        parameters = (self.draws.l_inf, self.draws.log_b[:, column], self.draws.exponent[:, column])
        return log_loss_at(x, *(value[:, None] for value in parameters))

    def to_dict(self, *, points: bool = True) -> dict[str, Any]:
        """Everything but the draws, as JSON values; with what became of the points of each run, or without."""
        structures = {key: _structure_dict(entry, points) for key, entry in self.laws.items()}
        names = (
            "axis",
            "l_inf",
            "l_inf_interval",
            "l_inf_identified",
            "exponent",
            "exponent_interval",
            "pooling_p",
        )
        values = {name: json_value(getattr(self, name)) for name in names}
        return values | {
            "sigma_run": self.effect.sigma,
            "sigma_interval": [self.effect.low, self.effect.high],
            "size_effect": self.effect.size,
            "budget_effect": self.effect.budget,
            "structures": structures,
        }


def _structure_dict(entry: StructureLaw, points: bool) -> dict[str, Any]:
    found = {"law": entry.law.to_dict(), "verdict": entry.verdict, "runs": entry.runs, "edge": entry.edge}
    if not points:
        return found
    names = ("run_id", "used", "left_out")
    return found | {"points": [{name: getattr(report, name) for name in names} for report in entry.points]}


def interval(draws: Array, level: float) -> tuple[Array, Array]:
    """Lower and upper ends of the central interval over the first axis: quantiles, linear between draws, none of them NaN."""
    ordered = np.sort(draws, axis=0)  # sooner than the partition of np.quantile, where draws are few and laws are many
    low, high = ((1 + side * level) / 2 * (len(draws) - 1) for side in (-1, 1))
    return _between(ordered, low), _between(ordered, high)


def _between(ordered: Array, place: float) -> Array:
    """Values at a place between two rows."""
    row = min(int(place), len(ordered) - 2) if len(ordered) > 1 else 0
    after = ordered[min(row + 1, len(ordered) - 1)]
    return np.asarray(ordered[row] + (place - row) * (after - ordered[row]))
