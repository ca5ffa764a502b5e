"""One trial's curve as the scaling laws see it.

| symbol | name | unit |
|---|---|---|
| C | compute | training FLOPs spent so far, one ledger convention for all runs of a fit |
| L | loss | validation nats per token, one evaluation set for all runs of a fit |
| S | seconds | training seconds spent so far, evaluation excluded |
"""

from __future__ import annotations

import math
import operator
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]
Index = npt.NDArray[np.intp]
Axis = Literal["compute", "seconds"]
AXES: tuple[Axis, ...] = get_args(Axis)


@dataclass(frozen=True, eq=False)
class Run:
    """The curve of one trial, points of the warmup already left out (not legitimate points).

    A point of a constant-rate run is what a shorter run would have reached, so every point counts as a
    (compute, loss) pair, but points of one run share its luck: everything here resamples runs, not points.

    Args:
        structure: key of the structure; the dense reference has the key "dense".
        run_id: anything that tells the runs apart; it names the run in reports.
        compute: (n,) FLOPs, positive and increasing; empty when the run has not been evaluated yet.
        loss: (n,) nats; a value that is not finite is left out of fits and reported.
        seconds: (n,) seconds, positive.
        size: model size in any unit (FLOPs per token, parameters), NaN when unknown. It has one purpose: to
            report that the frontier lies on the edge of the sizes that were run.

    Raises:
        ValueError: when lengths differ, compute is not positive and increasing, or seconds are not positive.
    """

    structure: str
    run_id: str
    compute: Array
    loss: Array
    seconds: Array
    size: float = float("nan")

    def __post_init__(self) -> None:
        for name in ("compute", "loss", "seconds"):
            object.__setattr__(self, name, np.array(getattr(self, name), dtype=np.float64).reshape(-1))
        if not self.compute.size == self.loss.size == self.seconds.size:
            sizes = f"{self.compute.size}, {self.loss.size} and {self.seconds.size}"
            raise ValueError(f"run {self.run_id}: compute, loss, seconds have {sizes} values; give one of each per point")
        compute = self.compute.tolist()  # curves are short, and many: plain numbers are checked sooner than arrays
        for name, values in (("compute", compute), ("seconds", self.seconds.tolist())):
            if not (all(map(math.isfinite, values)) and min(values, default=1.0) > 0.0):
                raise ValueError(f"run {self.run_id}: {name} must be finite and above 0, and is {values}")
        if not all(map(operator.lt, compute, compute[1:])):
            raise ValueError(f"run {self.run_id}: compute must increase from point to point, and is {self.compute}")

    @property
    def usable(self) -> bool:
        """Whether at least one point has a finite positive loss."""
        return any(0.0 < value < math.inf for value in self.loss.tolist())

    @property
    def flops(self) -> float:
        """FLOPs the run spent, 0 before its first point."""
        return float(self.compute[-1]) if self.compute.size else 0.0

    def log(self, axis: Axis) -> Array:
        """Natural logarithm of compute or seconds, (n,)."""
        return np.log(self.compute if axis == "compute" else self.seconds)


def finite(loss: Array) -> Mask:
    """(n,) True where a loss can enter a fit."""
    return np.isfinite(loss) & (loss > 0)


def by_structure(runs: Sequence[Run]) -> dict[str, list[Run]]:
    """Runs with at least one usable point, grouped by structure in the order of first appearance."""
    groups: dict[str, list[Run]] = {}
    for run in runs:
        if run.usable:
            groups.setdefault(run.structure, []).append(run)
    return groups


def json_value(value: Any) -> Any:
    """The value fit for JSON: arrays and numpy scalars as lists and numbers, what is not finite as None."""
    if isinstance(value, np.ndarray | list | tuple):
        return [json_value(item) for item in value]
    if isinstance(value, dict):
        return {str(key): json_value(item) for key, item in value.items()}
    if isinstance(value, float | np.floating):
        return float(value) if np.isfinite(value) else None
    return value.item() if isinstance(value, np.generic) else value
