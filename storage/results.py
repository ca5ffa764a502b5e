"""What a study's records say: its runs, its laws, the value of each trial, the leaderboard.

The bridge from the ledger's rows to `storage.laws`. Only points of finished runs, taken after the warmup, enter a fit.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from sqlalchemy import select

from space.edges import EDGES
from space.errors import StudyError
from space.structure import Structure
from storage import laws
from storage.database import Database
from storage.fits import save_fit
from storage.laws.run import Axis
from storage.schema import FINAL_STATES, PointRow, StructureRow, Trial
from storage.studies import StudyRecord

if TYPE_CHECKING:
    import pandas as pd

MEASURED = ("completed", "truncated")
"""Final states whose curves are legitimate."""

LEVEL = 0.9
"""Level of the intervals that people are shown."""


def runs(database: Database, study: StudyRecord, kind: str | None = None) -> list[laws.Run]:
    """The curves of the finished trials, by number; with `kind`, of one kind of trial. `run_id` is the trial's number."""
    query = (
        select(Trial.number, StructureRow.key, PointRow.flops, PointRow.loss, PointRow.seconds, PointRow.tokens)
        .join(PointRow, PointRow.trial_id == Trial.id)
        .join(StructureRow, StructureRow.id == Trial.structure_id)
        .where(Trial.study_id == study.id, Trial.state.in_(MEASURED), ~PointRow.warmup)
        .order_by(Trial.number, PointRow.step)
    )
    if kind is not None:
        query = query.where(Trial.kind == kind)
    curves: dict[tuple[int, str], list[tuple[float, float, float, float]]] = {}
    with database.reading() as session:
        for number, key, *point in session.execute(query):
            curves.setdefault((number, key), []).append(tuple(point))  # type: ignore[arg-type]
    found = []
    for (number, key), points in curves.items():
        compute, loss, seconds, tokens = (list(column) for column in zip(*points, strict=True))
        found.append(laws.Run(key, str(number), compute, loss, seconds, compute[-1] / tokens[-1]))  # type: ignore[arg-type]
    return found


def values(database: Database, study: StudyRecord) -> dict[int, float] | None:
    """Log compute multiplier of each finished trial at its own compute, by number; None before the baseline is complete.

    Raises:
        StudyError: the baseline is complete, and not one of its trials has a result.
    """
    with database.reading() as session:
        baseline = select(Trial.state).where(Trial.study_id == study.id, Trial.kind == "baseline")
        if not all(state in FINAL_STATES for state in session.scalars(baseline)):
            return None
    dense = runs(database, study, "baseline")
    if not dense:
        raise StudyError(
            f"every dense trial of study {study.name!r} failed or diverged, so nothing can be compared; see why with `einsearch"
            f" query --study {study.name} --kind baseline`, and start another study"
        )
    reference = laws.laws(dense, draws=2).dense
    return {int(run.run_id): laws.run_value(run, reference) for run in runs(database, study)}


def lawset(database: Database, study: StudyRecord, axis: Axis = "compute") -> laws.LawSet:
    """The laws of all structures of the study.

    Raises:
        StudyError: no dense trial has finished, so there is nothing to compare with yet.
    """
    return laws.laws(_comparable(database, study), axis=axis, seed=study.seed)


def leaderboard(database: Database, study: StudyRecord) -> pd.DataFrame:
    """Structures, best first: by the lower end of their multiplier's interval at the study's target compute.

    Columns: structure, key, theta_XA..theta_AB, omega, psi, nu, multiplier (and _low, _high; in FLOPs), seconds_multiplier
    (and _low, _high), loss (and _low, _high; nats per token at the target), flops and seconds spent, trials, probability_best,
    verdict.

    Raises:
        StudyError: as in `lawset`.
    """
    import pandas as pd

    found = _comparable(database, study)
    seconds: dict[str, float] = {}
    for run in found:
        seconds[run.structure] = seconds.get(run.structure, 0.0) + float(run.seconds[-1])
    rows = []
    for standing in laws.leaderboard(found, study.target_compute, seed=study.seed, level=LEVEL):
        row = standing.to_dict()
        trials, key = row.pop("runs"), row.pop("key")
        spent = {"seconds": seconds[key], "trials": trials}
        rows.append(identify(Structure.parse(key)) | row | spent)
    return pd.DataFrame(rows)[COLUMNS]


def forecast(database: Database, study: StudyRecord) -> laws.HoldOut | None:
    """The laws' own test: the largest dense compute, forecast from smaller runs. None where all runs are as large."""
    return laws.hold_out(_comparable(database, study), seed=study.seed)


def record_laws(database: Database, study: StudyRecord) -> None:
    """Keep the laws as they stand, under the settings of the fit and the trials that entered it."""
    found = _comparable(database, study)
    entered = {"seed": study.seed, "target_compute": study.target_compute, "trials": [run.run_id for run in found]}
    save_fit(database, study.id, "laws", entered, laws.laws(found, seed=study.seed).to_dict())


def empty_leaderboard() -> pd.DataFrame:
    """The leaderboard of a study in which nothing can be compared yet."""
    import pandas as pd

    return pd.DataFrame(columns=COLUMNS)


def identify(structure: Structure) -> dict[str, str | float]:
    """A structure's name, key, theta and taxonomy, as columns of a frame."""
    theta = {f"theta_{edge}": float(t) for edge, t in zip(EDGES, structure.theta, strict=True)}
    taxonomy = {name: float(getattr(structure, name)) for name in ("omega", "psi", "nu")}
    return {"structure": structure.name, "key": structure.key} | theta | taxonomy


COLUMNS = [
    *identify(Structure.parse("dense")),
    *(f"{name}{end}" for name in ("multiplier", "seconds_multiplier", "loss") for end in ("", "_low", "_high")),
    *("flops", "seconds", "trials", "probability_best", "verdict"),
]
"""Columns of the leaderboard."""


def _comparable(database: Database, study: StudyRecord) -> list[laws.Run]:
    found = runs(database, study)
    if not any(run.structure == "dense" and math.isfinite(run.loss[-1]) for run in found):
        raise StudyError(
            f"study {study.name!r} has no finished dense trial yet, so nothing can be compared; wait for its baseline, or"
            " resume it"
        )
    return found
