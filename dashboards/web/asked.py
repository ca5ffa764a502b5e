"""What a plot is asked for, and which structures it shows in colour."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from dashboards.web.fitting import Fit, Fitting
from dashboards.web.snapshot import Array, Index, Snapshot
from dashboards.web.watch import Watch
from storage.studies import StudyRecord

HIGHLIGHTED = 4


@dataclass(frozen=True)
class Asked:
    """What a plot is asked for: a study, where it applies a structure, trials to leave out, a trial, others, all points."""

    watch: Watch
    fitting: Fitting
    foresight: Fitting | None
    record: StudyRecord
    structure: str = ""
    exclude: tuple[int, ...] = ()
    trial: int = 0
    beside: tuple[StudyRecord, ...] = ()
    everything: bool = False
    wait: float = 0.0

    @property
    def snapshot(self) -> Snapshot:
        """The study as it is now."""
        return self.watch.snapshot(self.record.id)

    def fit(self, want: str, **more: Any) -> Fit:
        """A fit of the present results; see `Fitting.get`."""
        return self.fitting.get(self.record.id, self.snapshot.fit_version, want, self.wait, **more)

    def foreseen(self) -> Fit:
        """What the search foresaw of the trials."""
        if self.foresight is None:
            return Fit({"error": "No model of the search can be asked here."}, True)
        return self.foresight.get(self.record.id, self.snapshot.fit_version, "foresight", self.wait)

    def rows(self) -> list[dict[str, Any]]:
        """The leaderboard as far as it is known."""
        found = self.fit("board").found
        return [] if found is None else list(found["rows"])


def leaders(snapshot: Snapshot, rows: list[dict[str, Any]], count: int = HIGHLIGHTED) -> list[str]:
    """Keys of dense and the best structures: by the leaderboard, or, before there is one, by the mean of their values."""
    if rows:
        return ["dense", *[row["key"] for row in rows if row["key"] != "dense"][:count]]
    means, counts = mean_values(snapshot)
    order = np.argsort(np.where(counts > 0, -means, np.inf))
    known = [snapshot.structures.keys[row] for row in order if counts[row]]
    return ["dense", *[key for key in known if key != "dense"][:count]]


def mean_values(snapshot: Snapshot) -> tuple[Array, Index]:
    """(S,) mean log multiplier of each structure's measured trials, and how many there are."""
    kept = snapshot.measured & np.isfinite(snapshot.numbers["value"])
    size = len(snapshot.structures.keys)
    counts = np.bincount(snapshot.structure[kept], minlength=size)
    sums = np.bincount(snapshot.structure[kept], weights=snapshot.numbers["value"][kept], minlength=size)
    return sums / np.maximum(counts, 1), counts


def number(value: float | None) -> float:
    """A number of a JSON answer, NaN where it is null."""
    return math.nan if value is None else value
