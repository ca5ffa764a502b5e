"""Fit the laws of a study: one per structure, with a shared irreducible loss.

| symbol | name | meaning |
|---|---|---|
| L_inf | l_inf | irreducible loss, nats, shared |
| a | exponent | pooled exponent of the laws |
| tau | tau | spread of the exponents around a |
| sigma | effect.sigma | spread of runs in log loss |

Steps: choose frontier points, reduce each run to its mean point, fit all runs together, repeat (the choice
needs L_inf and a); test whether exponents differ; estimate the spread of runs; bootstrap. The dense reference
enters twice: once as the reference, once, with run effects of its own, as a candidate, so that the interval
of dense against dense is a real one.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.stats import f as f_distribution

from storage.laws import bootstrap
from storage.laws.frontier import USED, Frontier, frontier
from storage.laws.law_set import DENSE, LawSet, PointReport, StructureLaw
from storage.laws.pooled import EXPONENT_PRIOR, L_INF_GRID, Fits, Noise, Observations, solve
from storage.laws.power_law import PowerLaw
from storage.laws.run import Array, Axis, Run, by_structure, finite

SELECTION_ROUNDS = 4
POOLING_LEVEL = 0.05
SPREAD = (0.03, 0.2)
IDENTIFIED_SHARE = 0.1


def laws(runs: Sequence[Run], *, axis: Axis = "compute", draws: int = 200, seed: int = 0) -> LawSet:
    """Fit the laws of a study.

    Args:
        runs: every run with points, the dense baseline (structure "dense") among them; a run without a finite
            loss is skipped.
        axis: fit loss against compute (FLOPs) or against seconds.
        draws: bootstrap replicates.
        seed: of the bootstrap.

    Raises:
        ValueError: without a usable dense run, since there is then nothing to compare with.
    """
    groups = by_structure(runs)
    if DENSE not in groups:
        raise ValueError(f"no usable run of {DENSE!r} among {len(runs)} runs: run a dense baseline first")
    fronts, data, base = _select(groups, axis)
    tau, p_value, effect = _pooling(data, base)
    final = solve(data, Noise.none(data.x.size, data.pooled.size, effect.sigma), tau, _finer(base, data))
    rng = np.random.default_rng(seed)
    replicates = solve(data, bootstrap.noise(effect, data.x.size, data.pooled.size, tau, draws, rng), tau)
    return _assemble(axis, groups, fronts, data, final, replicates, (tau, p_value, effect))


def _select(groups: dict[str, list[Run]], axis: Axis) -> tuple[list[Frontier], Observations, Fits]:
    """Alternate the choice of frontier points with the fit of the laws."""
    lowest = min(float(run.loss[finite(run.loss)].min()) for runs in groups.values() for run in runs)
    shapes = [PowerLaw(lowest / 2, 0.0, EXPONENT_PRIOR[0], 1.0, 1.0)] * len(groups)
    for _ in range(SELECTION_ROUNDS):
        pairs = zip(groups.values(), shapes, strict=True)
        fronts = [frontier(runs, shape, lowest / 2, axis) for runs, shape in pairs]
        data = _observations(list(groups), fronts)
        base = solve(data, Noise.none(data.x.size, data.pooled.size, bootstrap.SIGMA_PRIOR), 0.0)
        shapes = [_law(base, number, front) for number, front in enumerate(fronts)]
    return fronts, data, base


def _law(fits: Fits, number: int, front: Frontier) -> PowerLaw:
    """Law of one structure by the first draw, with the range of its frontier points."""
    x = front.x[front.used]
    parameters = float(fits.l_inf[0]), float(fits.log_b[0, number]), float(fits.exponent[0, number])
    return PowerLaw(*parameters, float(np.exp(x.min())), float(np.exp(x.max())))


def _observations(keys: list[str], fronts: list[Frontier]) -> Observations:
    """One mean point per run that is on its frontier, then those of dense once more as a candidate."""
    rows = [(*point, number) for number, front in enumerate(fronts) for point in _means(front)]
    again = [(x, log_loss, len(fronts)) for x, log_loss, number in rows if keys[number] == DENSE]
    table = np.array(rows + again)
    pooled = np.arange(len(fronts) + 1) < len(fronts)
    return Observations(table[:, 0], table[:, 1], table[:, 2].astype(int), pooled)


def _means(front: Frontier) -> list[tuple[float, float]]:
    """Mean (x, log loss) of the used points of each run that has any."""
    members = [front.used & (front.run == number) for number in np.unique(front.run)]
    return [(float(front.x[mask].mean()), float(front.log_loss[mask].mean())) for mask in members if mask.any()]


def _pooling(data: Observations, base: Fits) -> tuple[float, float, bootstrap.RunEffect]:
    """tau, the p-value of tau = 0 (F test of own exponents against a common one), and the spread of runs.

    tau^2 by moments (DerSimonian and Laird 1986) when the test rejects, its lower bound when not: exponents
    are then pooled, but for the little that matters to a structure that was run far from the target only.
    """
    here, exponent = np.array([base.l_inf[0] / data.lowest]), float(base.pooled_exponent[0])
    still = Noise.none(data.x.size, data.pooled.size, bootstrap.SIGMA_PRIOR)
    counted = data.pooled[data.structure]
    common, own = (float(np.sum(solve(data, still, tau, here).residual[0, counted] ** 2)) for tau in (0.0, 1e3))
    information = _exponent_information(data, float(base.l_inf[0]))
    extra = int(np.sum(information > 0)) - 1
    dof = int(counted.sum() - data.pooled.sum()) - 2
    if extra < 1:
        return SPREAD[0] * exponent, float("nan"), bootstrap.RunEffect.estimate(common, dof)
    effect = bootstrap.RunEffect.estimate(own, dof - extra)
    p_value = float(f_distribution.sf((common - own) / extra / effect.sigma**2, extra, effect.dof))
    if p_value > POOLING_LEVEL:
        return SPREAD[0] * exponent, p_value, bootstrap.RunEffect.estimate(common, dof)
    spread = information.sum() - np.sum(information**2) / information.sum()
    tau = np.sqrt(max(common - own - extra * effect.sigma**2, 0.0) / spread)
    return float(np.clip(tau, SPREAD[0] * exponent, SPREAD[1] * exponent)), p_value, effect


def _exponent_information(data: Observations, l_inf: float) -> Array:
    """Weight of each structure's runs on its exponent, sum h^2 (x - mean)^2, (S,); 0 with one compute."""
    weight = (1 - l_inf / np.exp(data.log_loss)) ** 2
    member = np.eye(data.pooled.size)[data.structure]
    mean = (weight * data.x) @ member / (weight @ member)
    information = (weight * (data.x - mean[data.structure]) ** 2) @ member
    return np.asarray(np.where(information > 1e-6, information, 0.0)[:-1])


def _finer(base: Fits, data: Observations) -> Array:
    """Grid around the best L_inf of the coarse one."""
    place = int(np.argmin(np.abs(L_INF_GRID - base.l_inf[0] / data.lowest)))
    low, high = L_INF_GRID[max(place - 1, 0)], L_INF_GRID[min(place + 1, L_INF_GRID.size - 1)]
    return np.linspace(low, high, 41)


def _assemble(
    axis: Axis,
    groups: dict[str, list[Run]],
    fronts: list[Frontier],
    data: Observations,
    final: Fits,
    replicates: Fits,
    pooling: tuple[float, float, bootstrap.RunEffect],
) -> LawSet:
    """Put the pieces of a fit together."""
    tau, p_value, effect = pooling
    identified = bool(np.std(replicates.l_inf) < IDENTIFIED_SHARE * data.lowest)
    entries = {}
    for number, (key, runs) in enumerate(groups.items()):
        law = _law(final, number, fronts[number])
        verdict = _verdict(len(_means(fronts[number])), p_value, identified)
        entries[key] = StructureLaw(key, law, verdict, len(runs), _reports(runs, fronts[number]), fronts[number].edge)
    l_inf, exponent = (bootstrap.interval(values, 0.9) for values in (replicates.l_inf, replicates.pooled_exponent))
    return LawSet(
        axis=axis,
        laws=entries,
        l_inf=float(final.l_inf[0]),
        l_inf_interval=(float(l_inf[0]), float(l_inf[1])),
        l_inf_identified=identified,
        exponent=float(final.pooled_exponent[0]),
        exponent_interval=(float(exponent[0]), float(exponent[1])),
        tau=tau,
        pooling_p=p_value,
        effect=effect,
        draws=replicates,
    )


def _verdict(runs: int, pooling_p: float, identified: bool) -> str:
    """Plain words on what the data of one structure settle."""
    exponent = "single run" if runs == 1 else "own exponent" if pooling_p <= POOLING_LEVEL else "exponent pooled"
    return exponent if identified else f"{exponent}, L_inf not identified"


def _reports(runs: Sequence[Run], front: Frontier) -> tuple[PointReport, ...]:
    """Used and left-out points of each run."""
    reports = []
    for number, run in enumerate(runs):
        reasons = [reason for reason, owner in zip(front.reason, front.run, strict=True) if owner == number]
        left_out = {reason: reasons.count(reason) for reason in dict.fromkeys(reasons) if reason != USED}
        reports.append(PointReport(run.run_id, reasons.count(USED), left_out))
    return tuple(reports)
