"""Fit the laws of a study from the sums of its structures.

| symbol | name | meaning |
|---|---|---|
| L_inf | l_inf | irreducible loss, nats, shared |
| a | exponent | pooled exponent of the laws |
| Q | | sum over structures of (own exponent - a)^2 times its information |

One exponent for all is tested: Q against its degrees of freedom (Cochran 1954), as an F test since the spread of
runs is estimated.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from scipy.special import fdtrc

from storage.laws.evidence import Scale, Sums
from storage.laws.frontier import Front, axis_row
from storage.laws.law_set import DENSE, LawSet, RunEffect, StructureLaw, interval
from storage.laws.posterior import SIGMA_DOF, Draws, Posterior, sample
from storage.laws.power_law import PowerLaw
from storage.laws.run import Axis

POOLING_LEVEL = 0.05
IDENTIFIED_SHARE, IDENTIFIED_RANGE = 0.05, 30.0
"""L_inf is identified when its draws spread by less than this share of the loss, and dense runs span this factor of compute:
over less, sizes a little off their best bend a curve as much as L_inf does."""
LEVEL = 0.9
SAME_BUDGET = 0.3
"""Runs whose log compute differs by less were given one budget: it is spent in whole steps."""


def fit(axis: Axis, fronts: Mapping[str, Front], sums: Sums, scale: Scale, draws: int, seed: int) -> LawSet:
    """The laws of structures in the order of `fronts`, dense among them, from their sums on one axis."""
    population = np.array([key != DENSE for key in fronts])
    found = sample(sums, population, _budgets(fronts[DENSE]), scale.grid, scale.x_0, draws, np.random.default_rng(seed))
    identified = _identified(found, scale, fronts[DENSE], axis_row(axis))
    p_value = _pooling(sums, scale, found)
    laws = _laws(found.estimate, fronts, axis_row(axis))
    verdicts = [_verdict(front, p_value, identified) for front in fronts.values()]
    ready = zip(fronts.items(), laws, verdicts, strict=True)
    entries = {key: StructureLaw(key, law, verdict, front) for (key, front), law, verdict in ready}
    return LawSet(
        axis=axis,
        laws=entries,
        l_inf=float(found.estimate.l_inf[0]),
        l_inf_interval=_ends(found.draws.l_inf),
        l_inf_identified=identified,
        exponent=float(found.estimate.pooled_exponent[0]),
        exponent_interval=_ends(found.draws.pooled_exponent),
        pooling_p=p_value,
        effect=RunEffect(float(found.estimate.sigma[0]), *_ends(found.draws.sigma), found.own, found.budget),
        estimate=found.estimate,
        draws=found.draws,
    )


def _budgets(dense: Front) -> int:
    """How many budgets of compute the dense runs were given."""
    return 1 + int(np.sum(np.diff(np.sort(dense.x[0])) > SAME_BUDGET))


def _identified(found: Posterior, scale: Scale, dense: Front, row: int) -> bool:
    known = float(np.std(found.draws.l_inf)) < IDENTIFIED_SHARE * scale.unit
    return known and float(np.ptp(dense.x[row])) >= np.log(IDENTIFIED_RANGE)


def _laws(estimate: Draws, fronts: Mapping[str, Front], row: int) -> list[PowerLaw]:
    """The law of each structure, with the range of compute (seconds) that it was fitted on."""
    l_inf, entries = float(estimate.l_inf[0]), list(fronts.values())
    low, high = (np.exp(np.array(ends)[:, row]) for ends in ([one.low for one in entries], [one.high for one in entries]))
    columns = (values.tolist() for values in (estimate.log_b[0], estimate.exponent[0], low, high))
    return [PowerLaw(l_inf, *parameters) for parameters in zip(*columns, strict=True)]


def _ends(draws: np.ndarray) -> tuple[float, float]:
    low, high = interval(draws, LEVEL)
    return float(low), float(high)


def _pooling(sums: Sums, scale: Scale, found: Posterior) -> float:
    """p-value of one exponent for all structures at the estimated L_inf; NaN where it cannot be tested."""
    node = int(np.argmin(np.abs(scale.grid - found.estimate.l_inf[0])))
    w, wd, wdd, wy, wdy, *_ = sums.table[:, node]
    xx, xy = wdd - wd**2 / w, wdy - wd * wy / w
    seen = xx > 1e-6 * w
    extra = int(seen.sum()) - 1
    if extra < 1:
        return float("nan")
    own, xx = -xy[seen] / xx[seen], xx[seen]
    departure = float(np.sum(xx * (own - np.average(own, weights=xx)) ** 2))
    dof = SIGMA_DOF + max(int(sums.levels.sum()) - sums.levels.size - extra - 1, 0)
    return float(fdtrc(extra, dof, departure / extra / float(found.estimate.sigma[0]) ** 2))


def _verdict(front: Front, pooling_p: float, identified: bool) -> str:
    """Plain words on what the data of one structure settle."""
    exponent = "single run" if len(front.run_ids) == 1 else "own exponent" if pooling_p <= POOLING_LEVEL else "exponent pooled"
    return exponent if identified else f"{exponent}, L_inf not identified"
