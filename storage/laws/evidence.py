"""What runs say about laws, as sums: one column per structure, for every candidate of the irreducible loss.

| symbol | name | meaning |
|---|---|---|
| e | l_inf | candidate of the irreducible loss, nats; g is its place on the grid |
| l_r, q_r | | centre and slope of run r in log loss (`storage.laws.frontier`) |
| h | share | (L - e) / L |
| y, k | | log(L - e) at the centre; q / h, the slope of y |
| d | | x - x_0, the log compute from a reference |

In y a law is a line: y = c - t d, k = -t. An error of one unit in l is one of 1 / h in y, so the sums carry the
weight h^2. They add up over runs: a study is the sum of its structures, a structure of its runs.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from storage.laws.frontier import Front
from storage.laws.run import Array

SHARES = np.append(np.linspace(0.0, 0.96, 65), [0.97, 0.98])
"""Candidates of L_inf as shares of the unit."""

LATTICE, STEP = 16, 0.25
"""Steps in which units move: sixteenths of an octave of the loss, and a quarter in log compute."""
SUMS = ("w", "wd", "wdd", "wy", "wdy", "wyy", "v", "vk", "vkk")


class Scale(NamedTuple):
    """Units that all structures of a study share. unit: nats, at most the lowest loss; x_0: log compute (seconds)."""

    unit: float
    x_0: float

    @classmethod
    def of(cls, lowest: float, x_0: float) -> Scale:
        """From the lowest loss and a middling log compute of a study, so that most new results leave all sums as they are."""
        return cls(float(2.0 ** (np.floor(np.log2(lowest) * LATTICE) / LATTICE)), round(x_0 / STEP) * STEP)

    @property
    def grid(self) -> Array:
        """(G,) candidates of L_inf, nats."""
        return self.unit * SHARES


@dataclass(frozen=True, eq=False)
class Sums:
    """table: (9, G, S) by the names in SUMS, w = h^2 over centres, v = h^2 over slopes; levels, slopes: (S,) counts."""

    table: Array
    levels: Array
    slopes: Array


def sums(fronts: list[Front], row: int, scale: Scale) -> Array:
    """Sums (9, G, S) of structures on one axis (row 0 compute, 1 seconds)."""
    counts = np.array([front.log_loss.size for front in fronts])
    starts = np.concatenate([[0], np.cumsum(counts)[:-1]])
    log_loss = np.concatenate([front.log_loss for front in fronts])
    d = np.concatenate([front.x[row] for front in fronts]) - scale.x_0
    slope = np.concatenate([front.slope[row] for front in fronts])
    known = np.isfinite(slope)
    loss = np.exp(log_loss)
    reducible = loss - scale.grid[:, None]
    h = reducible / loss
    w, y = h**2, np.log(reducible)
    k_w = np.where(known, np.nan_to_num(slope) * h, 0.0)
    rows = [w, w * d, w * d**2, w * y, w * d * y, w * y**2, np.where(known, w, 0.0), k_w, k_w**2 / w]
    return np.stack([np.add.reduceat(values, starts, axis=1) for values in rows])
