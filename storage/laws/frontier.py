"""Which points of a study's runs speak for the compute-optimal frontiers, and what each run says there.

| symbol | name | meaning |
|---|---|---|
| C, S, L | compute, seconds, loss | FLOPs, seconds, nats per token |
| x, l | | log C or log S; log L |
| q | slope | d log L / d log C along the end of a run |
| L_0 | floor | half of the lowest loss of a structure: an estimate of L_inf, too high, would throw runs away |
| y, h | | log(L - L_0); (L - L_0) / L, which turns a difference in y into a relative difference in loss |

A run of one size touches the frontier where its size is the best one for its compute, with the slope of the frontier
there (envelope theorem). A study gives each run the compute that its size is meant for, so that is its end. A line
through the last part of the run, from TAIL of its compute on, gives the loss at the end and the slope there. All
points of a run share its luck, so the loss counts as one observation, however many points it rests on; the slope does
not contain that luck, and is the second.

Four rules, each leaves a reason: a loss that is not finite; a loss that has risen again along its run; a point
before the end of its run; a run whose end is further above the lower convex hull of its structure's points, in
(x, y), than HULL_TOLERANCE (2-5 % of the loss): a model of the wrong size for its compute.
Each rule looks at one structure alone, so a new run changes what is known of its own structure only.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from storage.laws.run import Array, Axis, Index, Mask, Run, finite

TAIL = 0.4
HULL_TOLERANCE = 0.04
RISE_TOLERANCE = 0.01
SAME_COMPUTE = 0.05
"""Runs whose compute differs by less, in logarithm, count as of one budget: whole steps never spend it exactly."""

USED, NOT_FINITE, ROSE = "used", "loss not finite", "loss rose again"
EARLY, ABOVE_HULL = "before the end of its run", "above the frontier"
REASONS = (USED, NOT_FINITE, ROSE, EARLY, ABOVE_HULL)

Edge = Literal["largest size", "smallest size"]


@dataclass(frozen=True)
class PointReport:
    """What became of the points of one run: how many are on the frontier, and why the others are not."""

    run_id: str
    used: int
    left_out: dict[str, int]


@dataclass(frozen=True, eq=False)
class Front:
    """What the runs of one structure say about its frontier; (U,) over the runs that are used.

    x, slope: end and slope against log compute and log seconds, (2, U) in that order; slope is NaN where a run has
    one usable point. log_loss: (U,), at the end. low, high: (2,) log of the least and the largest compute (seconds) of
    used points.
    lowest: the lowest of all finite losses and of those at the ends of lines, nats.
    edge: the end of the sizes that the frontier touches, None when it is inside or sizes are unknown. run_ids: of all
    usable runs (R). counts: points of each by what became of them, (R, 5) in the order of REASONS.
    """

    x: Array
    log_loss: Array
    slope: Array
    low: Array
    high: Array
    lowest: float
    edge: Edge | None
    run_ids: tuple[str, ...]
    counts: Index

    @property
    def points(self) -> tuple[PointReport, ...]:
        """What became of the points of each run."""
        reports = []
        for run_id, (used, *rest) in zip(self.run_ids, self.counts.tolist(), strict=True):
            reports.append(PointReport(run_id, used, {why: n for why, n in zip(REASONS[1:], rest, strict=True) if n}))
        return tuple(reports)


def fronts(groups: dict[str, list[Run]]) -> dict[str, Front]:
    """The frontier of each structure from its runs; each run has at least one point with a finite positive loss."""
    runs = [run for group in groups.values() for run in group]
    if not runs:
        return {}
    compute, seconds, loss = (_padded([getattr(run, name) for run in runs]) for name in ("compute", "seconds", "loss"))
    reason = _along_runs(compute, loss)
    found, start = {}, 0
    for key, group in groups.items():
        rows = slice(start, start + len(group))
        start += len(group)
        found[key] = _front(group, compute[rows], seconds[rows], loss[rows], reason[rows])
    return found


@dataclass(frozen=True, eq=False)
class Judged:
    """Every point of some runs of one structure, (n,): what it is, whose it is, and what became of it."""

    x: Array
    log_loss: Array
    run: Index
    reason: tuple[str, ...]


def frontier(runs: Sequence[Run]) -> Judged:
    """What becomes of each point of the runs of one structure, all usable; NaN for a log loss that there is none of."""
    compute, loss = (_padded([getattr(run, name) for run in runs]) for name in ("compute", "loss"))
    reason = _along_runs(compute, loss)
    reason[_above_hull(compute, loss, reason == 0)[:, None] & (reason == 0)] = REASONS.index(ABOVE_HULL)
    real = np.arange(reason.shape[1]) < np.array([run.loss.size for run in runs])[:, None]
    log_loss = np.log(np.where(finite(loss), loss, np.nan))
    why = tuple(REASONS[number] for number in reason[real].tolist())
    return Judged(np.log(compute[real]), log_loss[real], np.nonzero(real)[0], why)


def lower_hull(x: Array, y: Array) -> Array:
    """Height of the non-increasing lower convex hull of the points (x, y) at each x, (n,).

    Monotone chain (Andrew 1979) over the points that are lower than every cheaper point; flat to the right of
    the lowest.
    """
    order = np.lexsort((y, x))
    lower = y[order] < np.minimum.accumulate(np.concatenate([[np.inf], y[order][:-1]]))
    chain: list[tuple[float, float]] = []
    for point in zip(x[order][lower].tolist(), y[order][lower].tolist(), strict=True):
        while len(chain) > 1 and _turns_up(chain[-2], chain[-1], point):
            chain.pop()
        chain.append(point)
    hull = np.array(chain)
    return np.asarray(np.interp(x, hull[:, 0], hull[:, 1]))


def _turns_up(p: tuple[float, float], q: tuple[float, float], r: tuple[float, float]) -> bool:
    """Whether q lies on or above the line from p to r."""
    return (q[1] - p[1]) * (r[0] - p[0]) >= (r[1] - p[1]) * (q[0] - p[0])


def _padded(columns: Sequence[Array]) -> Array:
    """Columns of different lengths as rows of one array, NaN after their ends."""
    lengths = np.array([column.size for column in columns])
    table = np.full((len(columns), int(lengths.max())), np.nan)
    table[np.arange(table.shape[1]) < lengths[:, None]] = np.concatenate(columns)
    return table


def _along_runs(compute: Array, loss: Array) -> Index:
    """Index into REASONS by the rules that look along one run, (R, P)."""
    good = finite(loss)
    so_far = np.minimum.accumulate(np.where(good, loss, np.inf), axis=1)
    rose = good & (loss > so_far * (1 + RISE_TOLERANCE))
    kept = good & ~rose
    end = np.max(np.where(kept, compute, 0.0), axis=1, keepdims=True)
    early = kept & (compute < TAIL * end)
    return np.select([~good, rose, early], [REASONS.index(why) for why in (NOT_FINITE, ROSE, EARLY)], 0).astype(np.intp)


def _front(runs: Sequence[Run], compute: Array, seconds: Array, loss: Array, reason: Index) -> Front:
    """Frontier of one structure from its padded rows (R, P)."""
    reason = reason.copy()
    high = _above_hull(compute, loss, reason == 0)
    reason[high[:, None] & (reason == 0)] = REASONS.index(ABOVE_HULL)
    used = reason == 0
    spent = np.stack([compute, seconds])
    x = np.log(np.where(used, spent, 1.0))[:, ~high]
    end, level, slope = _ends(x, np.log(np.where(used, loss, 1.0))[~high], used[~high])
    ranges = np.log([[values[used].min(), values[used].max()] for values in spent])
    lowest = float(np.min(loss, where=finite(loss), initial=np.exp(level.min())))
    return Front(
        end,
        level,
        slope,
        ranges[:, 0],
        ranges[:, 1],
        lowest,
        _edge(runs, compute, loss),
        tuple(run.run_id for run in runs),
        _counts(runs, reason),
    )


def _ends(x: Array, y: Array, used: Mask) -> tuple[Array, Array, Array]:
    """x at the end (2, U), y there on a line through the used points of each run (U,), and slopes on both axes (2, U)."""
    count = used.sum(axis=1)
    centre = np.where(used, x, 0.0).sum(axis=2) / count
    middle = np.where(used, y, 0.0).sum(axis=1) / count
    dx, dy = np.where(used, x - centre[..., None], 0.0), np.where(used, y - middle[:, None], 0.0)
    xx = (dx**2).sum(axis=2)
    slope = np.divide((dx * dy).sum(axis=2), xx, out=np.full_like(xx, np.nan), where=xx > 1e-6)
    end = np.max(np.where(used, x, -np.inf), axis=2)
    return end, middle + np.nan_to_num(slope[0]) * (end[0] - centre[0]), slope


def _above_hull(compute: Array, loss: Array, usable: Mask) -> Mask:
    """(R,) True for runs the last usable point (R, P) of which is not near the hull of all usable points."""
    at = np.nonzero(usable)
    values = loss[at]
    floor = values.min() / 2
    y = np.log(values - floor)
    above = (1 - floor / values) * (y - lower_hull(np.log(compute[at]), y))
    last = np.append(np.diff(at[0]) > 0, True)
    return np.asarray(above[last] > HULL_TOLERANCE)


def _edge(runs: Sequence[Run], compute: Array, loss: Array) -> Edge | None:
    """Whether the best run at the largest compute that two runs reached has an extreme size of those that reached it."""
    if len(runs) < 2:
        return None
    ends = np.log(np.where(finite(loss), compute, 0.0).max(axis=1))
    shared = float(np.sort(ends)[-2]) - SAME_COMPUTE
    there = [run for run, end in zip(runs, ends.tolist(), strict=True) if end >= shared and math.isfinite(run.size)]
    sizes = {run.size for run in there}
    if len(sizes) < 2:
        return None
    curves = [(run.size, run.log("compute")[finite(run.loss)], run.loss[finite(run.loss)]) for run in there]
    best, _, _ = min(curves, key=lambda c: np.interp(shared, *c[1:]))
    return "largest size" if best == max(sizes) else "smallest size" if best == min(sizes) else None


def _counts(runs: Sequence[Run], reason: Index) -> Index:
    """Points of each run by reason, (R, 5)."""
    lengths = np.array([run.loss.size for run in runs])
    real = np.arange(reason.shape[1]) < lengths[:, None]
    return np.stack([((reason == number) & real).sum(axis=1) for number in range(len(REASONS))], axis=1).astype(np.intp)


def axis_row(axis: Axis) -> int:
    """Row of an axis in the arrays of a `Front`."""
    return 0 if axis == "compute" else 1
