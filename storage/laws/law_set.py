"""What a fit of the laws returns: one law per structure, with verdicts, evidence and bootstrap draws.

| symbol | name | unit |
|---|---|---|
| L_inf | l_inf | irreducible loss, nats, shared by the structures |
| a | exponent | pooled exponent of the laws |
| tau | tau | spread of the structures' exponents around a |
| sigma | effect.sigma | spread of runs in log loss |
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from storage.laws.bootstrap import RunEffect, interval
from storage.laws.pooled import Fits
from storage.laws.power_law import PowerLaw, log_loss_at
from storage.laws.run import Array, Axis, plain

DENSE = "dense"


@dataclass(frozen=True)
class PointReport:
    """What became of the points of one run: how many are on the frontier, and why the others are not."""

    run_id: str
    used: int
    left_out: dict[str, int]


@dataclass(frozen=True)
class StructureLaw:
    """Law of one structure, with what it rests on.

    Attributes:
        verdict: what the data settle: "single run", "exponent pooled" or "own exponent"; if L_inf is unknown.
        runs: number of its usable runs; points: what became of their points.
        edge: the end of the sizes that its frontier touches, None when it is inside or sizes are unknown.
    """

    key: str
    law: PowerLaw
    verdict: str
    runs: int
    points: tuple[PointReport, ...]
    edge: str | None


@dataclass(frozen=True, eq=False)
class LawSet:
    """Laws of all structures of a study on one axis (compute or seconds).

    Attributes:
        laws: by structure key, in the order of first appearance; the reference "dense" is among them.
        l_inf, l_inf_interval: nats, with a 90 % interval.
        l_inf_identified: whether the data, not the prior, fix L_inf.
        exponent, exponent_interval: pooled exponent, with a 90 % interval.
        tau, pooling_p: spread of exponents around it, p-value of one common exponent (NaN: not testable).
        effect: spread of runs.
        draws: bootstrap solutions, structures in the order of `laws`, dense as a candidate last.
    """

    axis: Axis
    laws: dict[str, StructureLaw]
    l_inf: float
    l_inf_interval: tuple[float, float]
    l_inf_identified: bool
    exponent: float
    exponent_interval: tuple[float, float]
    tau: float
    pooling_p: float
    effect: RunEffect
    draws: Fits = field(repr=False)

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

    def to_dict(self) -> dict[str, Any]:
        """Everything but the draws, as JSON values."""
        structures = {key: _structure_dict(entry) for key, entry in self.laws.items()}
        names = (
            "axis",
            "l_inf",
            "l_inf_interval",
            "l_inf_identified",
            "exponent",
            "exponent_interval",
            "tau",
            "pooling_p",
        )
        values = {name: plain(getattr(self, name)) for name in names}
        return values | {
            "sigma_run": self.effect.sigma,
            "sigma_dof": self.effect.dof,
            "structures": structures,
        }


def _structure_dict(entry: StructureLaw) -> dict[str, Any]:
    points = [{"run_id": report.run_id, "used": report.used, "left_out": report.left_out} for report in entry.points]
    return {
        "law": entry.law.to_dict(),
        "verdict": entry.verdict,
        "runs": entry.runs,
        "edge": entry.edge,
        "points": points,
    }
