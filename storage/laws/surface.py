"""The second law of the dense runs, L(N, D), with a verdict: does it agree with the frontier?

| symbol | name | unit |
|---|---|---|
| N | params | MACs per token: FLOPs per token / 6 |
| D | tokens | training tokens |
| N* | best_params | N of the lowest loss at the target compute |

It takes sizes and tokens that vary, each by itself: at least SIZES sizes over a factor of SPAN, and as many points of
each run as it has. All points enter, since they differ in D. The hull of the points is the check: the law of the
surface must not lie further from it than HULL_TOLERANCE of the loss.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from storage.laws.chinchilla import FLOPS_PER_MAC, LossSurface, fit_surface
from storage.laws.frontier import HULL_TOLERANCE, lower_hull
from storage.laws.law_set import DENSE
from storage.laws.run import Array, Run, finite, json_value

SIZES, SPAN, POINTS = 3, 3.0, 12
NOT_ENOUGH = "not enough sizes"
NOT_IDENTIFIED = "not identified"
AT_EDGE = "optimum outside the sizes that were run"
OFF_HULL = "departs from the frontier"
AGREES = "agrees with the frontier"


@dataclass(frozen=True)
class SurfaceLaw:
    """The surface, its optimum N* and lowest loss (nats) at the target compute, and a verdict.

    surface is None where there are not enough sizes; best_params and loss are NaN then, and where it is not identified.
    distance: largest distance of its frontier from the hull of the points, relative loss.
    """

    surface: LossSurface | None
    best_params: float
    loss: float
    distance: float
    verdict: str

    def to_dict(self) -> dict[str, Any]:
        """Fields as JSON values."""
        surface = None if self.surface is None else self.surface.to_dict()
        names = ("best_params", "loss", "distance", "verdict")
        return {"surface": surface} | {name: json_value(getattr(self, name)) for name in names}


def surface_law(runs: Sequence[Run], target_compute: float) -> SurfaceLaw:
    """Fit L(N, D) to the dense runs whose size (FLOPs per token) is known, and judge it."""
    params, tokens, loss = _points([run for run in runs if run.structure == DENSE and np.isfinite(run.size)])
    sizes = np.unique(np.round(np.log(params), 6))
    nan = float("nan")
    if sizes.size < SIZES or sizes[-1] - sizes[0] < np.log(SPAN) or loss.size < POINTS:
        return SurfaceLaw(None, nan, nan, nan, NOT_ENOUGH)
    surface = fit_surface(params, tokens, loss)
    compute = FLOPS_PER_MAC * params * tokens
    hull = np.exp(lower_hull(np.log(compute), np.log(loss)))
    law = surface.frontier()
    late = compute >= np.median(compute)
    distance = float(np.max(np.abs(np.log(law.predict(compute[late]) / hull[late]))))
    if not (0.02 < surface.alpha < 3 and 0.02 < surface.beta < 3 and 0.02 < surface.floor / loss.min() < 0.99):
        return SurfaceLaw(surface, nan, nan, distance, NOT_IDENTIFIED)
    best = surface.best_params(target_compute)
    inside = params.min() <= best <= params.max()
    verdict = OFF_HULL if distance > HULL_TOLERANCE else AGREES if inside else AT_EDGE
    return SurfaceLaw(surface, best, float(law.predict(target_compute)), distance, verdict)


def _points(runs: Sequence[Run]) -> tuple[Array, Array, Array]:
    """N, D and L of all finite points."""
    columns: list[list[Array]] = [[], [], []]
    for run in runs:
        good = finite(run.loss)
        values = np.full(int(good.sum()), run.size / FLOPS_PER_MAC), run.compute[good] / run.size, run.loss[good]
        for column, value in zip(columns, values, strict=True):
            column.append(value)
    params, tokens, loss = (np.concatenate(column) if column else np.empty(0) for column in columns)
    return params, tokens, loss
