"""Which points of a structure's runs speak for its compute-optimal frontier.

| symbol | name | meaning |
|---|---|---|
| x | log C | log compute (FLOPs) or log seconds |
| y | log(L - L_0) | the frontier is a line for L_0 = L_inf, convex for less: its lower hull is its envelope |
| h | (L - L_0) / L | turns a difference in y into a relative difference in loss |
| L_0 | floor | nats; half of the lowest loss: an estimate of L_inf, too high, would throw runs away |

Four rules, each leaves a reason: a loss that is not finite; a loss that has risen again along its run; a
point further above the hull than HULL_TOLERANCE (2-5 % of the loss), a model of the wrong size for that
compute; a point whose relative distance from the law exceeds that of the closest point of its own run by more
than RUN_TOLERANCE. The last treats a structure with one run like one with many: a run is convex, so it is its
own hull, and only the law tells where along it the model was too large for the compute (early) or too small
(late).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from storage.laws.power_law import PowerLaw
from storage.laws.run import Array, Axis, Index, Mask, Run, finite

HULL_TOLERANCE = 0.04
RUN_TOLERANCE = 0.015
RISE_TOLERANCE = 0.01
SAME_COMPUTE = 0.05
"""Runs whose compute differs by less, in logarithm, count as of one budget: whole steps never spend it exactly."""

USED, NOT_FINITE, ROSE = "used", "loss not finite", "loss rose again"
ABOVE_HULL, OFF_BEST = "above the frontier", "off the best of its run"


@dataclass(frozen=True, eq=False)
class Frontier:
    """Points of one structure, (n,) over all its runs, with one reason per point, and the edge touched.

    `edge` is "largest size" or "smallest size" when the best run at the largest compute two runs reached has
    the extreme size, so that the true optimum is outside what was run; None otherwise, or when sizes are
    unknown.
    """

    x: Array
    log_loss: Array
    run: Index
    reason: tuple[str, ...]
    edge: Literal["largest size", "smallest size"] | None

    @property
    def used(self) -> Mask:
        """(n,) True where the point is on the frontier."""
        return np.array([reason == USED for reason in self.reason], dtype=np.bool_)


def lower_hull(x: Array, y: Array) -> Array:
    """Height of the non-increasing lower convex hull of the points (x, y) at each x, (n,).

    Monotone chain (Andrew 1979) over the points that are lower than every cheaper point; flat to the right of
    the lowest.
    """
    chain: list[tuple[float, float]] = []
    for px, py in sorted(zip(x.tolist(), y.tolist(), strict=True)):
        if chain and py >= chain[-1][1]:
            continue
        while len(chain) > 1 and _turns_up(chain[-2], chain[-1], (px, py)):
            chain.pop()
        chain.append((px, py))
    hull = np.array(chain)
    return np.asarray(np.interp(x, hull[:, 0], hull[:, 1]))


def _turns_up(p: tuple[float, float], q: tuple[float, float], r: tuple[float, float]) -> bool:
    """Whether q lies on or above the line from p to r."""
    return (q[1] - p[1]) * (r[0] - p[0]) >= (r[1] - p[1]) * (q[0] - p[0])


def rises(loss: Array) -> Mask:
    """(n,) True where a loss is more than RISE_TOLERANCE above the lowest before it in the run."""
    lowest = np.minimum.accumulate(np.where(finite(loss), loss, np.inf))
    return np.asarray(loss > lowest * (1 + RISE_TOLERANCE), dtype=np.bool_)


def frontier(runs: Sequence[Run], shape: PowerLaw, floor: float, axis: Axis = "compute") -> Frontier:
    """Frontier of one structure's runs.

    Args:
        runs: of one structure, at least one point with a finite loss among them.
        shape: current law of the structure; only its slope matters. Fits alternate with it.
        floor: L_0 in nats, below every loss; not taken above the L_inf of the shape: then the law is convex.
        axis: compute or seconds.
    """
    x = np.concatenate([run.log(axis) for run in runs])
    loss = np.concatenate([run.loss for run in runs])
    index = np.repeat(np.arange(len(runs)), [run.loss.size for run in runs])
    reason = np.full(loss.size, USED, dtype=object)
    reason[np.concatenate([rises(run.loss) for run in runs])] = ROSE
    reason[~finite(loss)] = NOT_FINITE
    log_loss = np.log(np.where(finite(loss), loss, 1.0))
    kept = reason == USED
    reason[kept] = _judge(x[kept], log_loss[kept], index[kept], shape, floor)
    return Frontier(x, log_loss, index, tuple(reason.tolist()), _edge(runs, axis))


def _judge(x: Array, log_loss: Array, index: Index, shape: PowerLaw, floor: float) -> npt.NDArray[np.object_]:
    """Reason of each point (n,) by the last two rules; the hull counts first."""
    loss = np.exp(log_loss)
    below = min(floor, shape.l_inf)
    y = np.log(loss - below)
    above = (1 - below / loss) * (y - lower_hull(x, y))
    distance = log_loss - np.log(shape.predict(np.exp(x)))
    closest = np.full(index.max() + 1, np.inf)
    np.minimum.at(closest, index, distance)
    verdict = np.full(x.size, USED, dtype=object)
    verdict[distance - closest[index] > RUN_TOLERANCE] = OFF_BEST
    verdict[above > HULL_TOLERANCE] = ABOVE_HULL
    return verdict


def _edge(runs: Sequence[Run], axis: Axis) -> Literal["largest size", "smallest size"] | None:
    """Whether the best run at the largest compute that two runs reached has an extreme size of those that reached it."""
    curves = [(run.size, run.log(axis)[finite(run.loss)], run.loss[finite(run.loss)]) for run in runs]
    if len(curves) < 2:
        return None
    shared = sorted(float(x[-1]) for _, x, _ in curves)[-2] - SAME_COMPUTE
    there = [curve for curve in curves if curve[1][-1] >= shared and np.isfinite(curve[0])]
    sizes = {size for size, _, _ in there}
    if len(sizes) < 2:
        return None
    best, _, _ = min(there, key=lambda c: np.interp(shared, *c[1:]))
    return "largest size" if best == max(sizes) else "smallest size" if best == min(sizes) else None
