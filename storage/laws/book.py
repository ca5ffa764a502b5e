"""The laws of a study kept up to date, structure by structure.

A new run changes the frontier and the sums of its own structure only (`storage.laws.frontier`,
`storage.laws.evidence`); the fit works on the sums. A book keeps both, so that a result costs the reduction of one
structure and a fit of sums, however many runs there are. The laws depend on the runs alone, not on the order in
which they came: structures are kept in the order of their keys, dense first.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from storage.laws.evidence import Scale, Sums, sums
from storage.laws.fit import fit
from storage.laws.frontier import Front, axis_row, fronts
from storage.laws.law_set import DENSE, LawSet
from storage.laws.run import AXES, Array, Axis, Run, by_structure

Table = tuple[Scale, Array]

CHUNK = 20
"""Structures whose sums are made at a time: of each of their runs there is a number for every candidate of L_inf."""


class Book:
    """Frontiers and sums of every structure of a study, on both axes.

    Attributes:
        fronts: by key, dense first, then by key.
        scales: units of the sums, by axis.
        tables: (9, G) sums of each structure and the units they are in, by axis and key; made when a fit needs them.
    """

    def __init__(self, known: Mapping[str, Front], tables: Mapping[Axis, Mapping[str, Table]] | None = None) -> None:
        self.fronts: dict[str, Front] = {key: known[key] for key in sorted(known, key=lambda key: (key != DENSE, key))}
        self.scales: dict[Axis, Scale] = {axis: self._scale(axis) for axis in AXES}
        self.tables: dict[Axis, dict[str, Table]] = {axis: dict(tables[axis]) if tables else {} for axis in AXES}

    @classmethod
    def of(cls, runs: Sequence[Run]) -> Book:
        """Of all runs of a study; those without a finite loss are skipped.

        Raises:
            ValueError: without a usable dense run, since there is then nothing to compare with.
        """
        groups = by_structure(runs)
        if DENSE not in groups:
            raise ValueError(f"no usable run of {DENSE!r} among {len(runs)} runs: run a dense baseline first")
        return cls(fronts(groups))

    def with_runs(self, runs: Sequence[Run]) -> Book:
        """The book with structures replaced: `runs` holds all runs of each structure in it, old and new."""
        changed = fronts(by_structure(runs))
        kept = {axis: {key: table for key, table in self.tables[axis].items() if key not in changed} for axis in AXES}
        return Book(self.fronts | changed, kept)

    def laws(self, axis: Axis = "compute", *, draws: int = 200, seed: int = 0) -> LawSet:
        """Fit the laws of all structures on one axis; see `storage.laws.fit.laws`."""
        return fit(axis, self.fronts, self._sums(axis), self.scales[axis], draws, seed)

    def both(self, *, draws: int = 200, seed: int = 0) -> dict[Axis, LawSet]:
        """Laws on both axes, side by side, with seeds one after the other."""
        with ThreadPoolExecutor(len(AXES)) as pool:  # the arrays are long: they are worked on outside of the interpreter's lock
            fits = [pool.submit(self.laws, axis, draws=draws, seed=seed + n) for n, axis in enumerate(AXES)]
            return {axis: one.result() for axis, one in zip(AXES, fits, strict=True)}

    def _scale(self, axis: Axis) -> Scale:
        row = axis_row(axis)
        return Scale.of(min(front.lowest for front in self.fronts.values()), float(self.fronts[DENSE].x[row].mean()))

    def prepare(self, axis: Axis) -> None:
        """Make the sums that are not known yet in the present units."""
        tables, scale = self.tables[axis], self.scales[axis]
        missing = [key for key in self.fronts if key not in tables or tables[key][0] != scale]
        for start in range(0, len(missing), CHUNK):
            some = missing[start : start + CHUNK]
            fresh = sums([self.fronts[key] for key in some], axis_row(axis), scale)
            tables.update({key: (scale, fresh[..., number].copy()) for number, key in enumerate(some)})

    def _sums(self, axis: Axis) -> Sums:
        """Sums of all structures."""
        self.prepare(axis)
        entries, tables, row = self.fronts.values(), self.tables[axis], axis_row(axis)
        levels = np.array([front.log_loss.size for front in entries])
        known = np.isfinite(np.concatenate([front.slope[row] for front in entries]))
        slopes = np.add.reduceat(known, np.cumsum(levels) - levels, dtype=np.intp)
        return Sums(np.stack([tables[key][1] for key in self.fronts], axis=2), levels, slopes)


def laws(runs: Sequence[Run], *, axis: Axis = "compute", draws: int = 200, seed: int = 0) -> LawSet:
    """Fit the laws of a study.

    Args:
        runs: every run with points, the dense baseline (structure "dense") among them; a run without a finite
            loss is skipped.
        axis: fit loss against compute (FLOPs) or against seconds.
        draws: joint draws of all laws.
        seed: of the draws.

    Raises:
        ValueError: without a usable dense run, since there is then nothing to compare with.
    """
    return Book.of(runs).laws(axis, draws=draws, seed=seed)
