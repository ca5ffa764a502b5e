"""What a study's records say: its laws, the value of each trial, the leaderboard.

The bridge from the ledger's rows to `storage.laws`. Only points of finished runs, taken after the warmup, enter a fit.
What is asked again is answered from what was kept (`storage.books`, `storage.fits`), as long as the trials are the same.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Collection, Sequence
from fractions import Fraction
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
from sqlalchemy import case, func, select

from space.edges import EDGES
from space.errors import DatabaseError, StudyError
from space.structure import Structure
from storage import laws
from storage.books import METHOD, Totals, book
from storage.claims import PointLike
from storage.curves import MEASURED, measured, runs
from storage.database import Database
from storage.fits import DRAWS, LEVEL, load_fit, packed, save_fit, settings_hash, unpacked
from storage.laws.run import AXES, Axis
from storage.refits import fit_payload, fit_settings
from storage.schema import FINAL_STATES, StructureRow, Total, Trial
from storage.studies import StudyRecord

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["COLUMNS", "DRAWS", "LEVEL", "MEASURED", "runs"]

SAMPLE = 100
"""Structures whose runs the laws' own test uses beside dense."""


def reference(database: Database, study: StudyRecord) -> laws.PowerLaw | None:
    """The dense law that trials are measured against; None before the baseline is complete, and the same ever after.

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
    return laws.laws(dense, draws=2).dense


def values(database: Database, study: StudyRecord, dense: laws.PowerLaw, numbers: Collection[int]) -> dict[int, float]:
    """Log compute multiplier of these trials at their own compute, by number; of those that have a result."""
    return {int(run.run_id): laws.run_value(run, dense) for run in runs(database, study, numbers=numbers)}


def value_at(points: Sequence[PointLike], dense: laws.PowerLaw) -> float | None:
    """The same of a trial whose points these are, all of them; None where it has no legitimate one."""
    last = next((one for one in reversed(points) if not one.warmup and math.isfinite(one.loss)), None)
    if last is None:
        return None
    compute, loss, seconds = np.array([[last.flops], [last.loss], [last.seconds]])
    return laws.run_value(laws.Run("", "", compute, loss, seconds), dense)


def lawset(database: Database, study: StudyRecord, axis: Axis = "compute") -> laws.LawSet:
    """The laws of all structures of the study.

    Raises:
        StudyError: no dense trial has finished, so there is nothing to compare with yet.
    """
    return _book(database, study).laws(axis, draws=DRAWS, seed=study.seed + AXES.index(axis))


def leaderboard(database: Database, study: StudyRecord, whole: Callable[[], laws.Book] | None = None) -> pd.DataFrame:
    """Structures, best first: by the lower end of their multiplier's interval at the study's target compute.

    Columns: structure, key, theta_XA..theta_AB, omega, psi, nu, multiplier (and _low, _high; in FLOPs), seconds_multiplier
    (and _low, _high), loss (and _low, _high; nats per token at the target), flops and seconds spent, trials (finished ones of
    any outcome, which is what the spending counts), failed (those of them that failed or diverged), probability_best, rank_low,
    rank_high, verdict. What the data do not settle is NaN, and the verdict says why.

    The answer is kept, and read again while the measured trials are the same. In a database that cannot be written it is
    computed each time. Who gives `whole`, the book of the laws as the ledger stands, only reads: nothing is kept.

    Raises:
        StudyError: as in `lawset`.
    """
    import pandas as pd

    settings, spent = _settings(study, "standings"), _spent(database, study)
    ledger = {key: entry["measured"] for key, entry in spent.items() if entry["measured"][0]}
    now, kept = settings_hash(ledger), load_fit(database, study.id, "standings", settings)
    if kept is None or kept["measured"] != now:
        kept = {"measured": now} | _standings(study, _book(database, study, ledger) if whole is None else whole())
        if whole is None:
            with contextlib.suppress(DatabaseError):
                save_fit(database, study.id, "standings", settings, kept)
    columns: dict[str, Any] = kept["words"] | dict(zip(NUMBERS, unpacked(kept["numbers"], len(NUMBERS), -1), strict=True))
    entries = [spent[key] for key in columns["key"]]
    columns |= {name: [entry[name] for entry in entries] for name in SPENT}
    kinds = dict.fromkeys(WORDS, "str") | dict.fromkeys(("trials", "failed"), "int64")
    return pd.DataFrame({name: pd.Series(columns[name], dtype=kinds.get(name, "float64")) for name in COLUMNS})


def forecast(database: Database, study: StudyRecord) -> laws.HoldOut | None:
    """The laws' own test: the largest dense compute, forecast from smaller runs. None where all runs are as large.

    Beside the dense runs, those of at most SAMPLE other structures take part.
    """
    others = sorted(set(measured(database, study)) - {laws.DENSE})
    step = max(1, -(-len(others) // SAMPLE))
    return laws.hold_out(_comparable(database, study, {laws.DENSE, *others[::step]}), seed=study.seed)


def surface(database: Database, study: StudyRecord) -> laws.SurfaceLaw:
    """The law L(N, D) of the dense runs and its optimum, or the reason why they do not settle it."""
    return laws.surface_law(_comparable(database, study, {laws.DENSE}), study.target_compute)


def record_laws(database: Database, study: StudyRecord) -> str:
    """Keep the laws as they stand, with the points they used and those they left out; return the hash they are kept under.

    `storage.refits.refit` makes them again from the hash.
    """
    numbers = sorted(int(run_id) for front in _book(database, study).fronts.values() for run_id in front.run_ids)
    settings = fit_settings(study, numbers)
    return save_fit(database, study.id, "laws", settings, fit_payload(database, study, settings))


def empty_leaderboard() -> pd.DataFrame:
    """The leaderboard of a study in which nothing can be compared yet."""
    import pandas as pd

    return pd.DataFrame(columns=COLUMNS)


def identify(structure: Structure) -> dict[str, str | float]:
    """A structure's name, key, theta and taxonomy, as columns of a frame; theta is NaN for more than two factors."""
    exponents: Sequence[Fraction | float] = structure.theta if len(structure.theta) == len(EDGES) else [math.nan] * len(EDGES)
    theta = {f"theta_{edge}": float(t) for edge, t in zip(EDGES, exponents, strict=True)}
    taxonomy = {name: float(getattr(structure, name)) for name in ("omega", "psi", "nu")}
    return {"structure": structure.name, "key": structure.key} | theta | taxonomy


COLUMNS = [
    *identify(Structure.parse("dense")),
    *(f"{name}{end}" for name in ("multiplier", "seconds_multiplier", "loss") for end in ("", "_low", "_high")),
    *("flops", "seconds", "trials", "failed", "probability_best", "rank_low", "rank_high", "verdict"),
]
"""Columns of the leaderboard."""

SPENT, WORDS = ("flops", "seconds", "trials", "failed"), ("structure", "key", "verdict")
NUMBERS = [name for name in COLUMNS if name not in (*SPENT, *WORDS)]


def _settings(study: StudyRecord, kind: str) -> dict[str, Any]:
    """What a fit depends on beside the trials."""
    return {
        "kind": kind,
        "method": METHOD,
        "seed": study.seed,
        "draws": DRAWS,
        "level": LEVEL,
        "target_compute": study.target_compute,
        "flop_convention": study.flop_convention,
    }


def _book(database: Database, study: StudyRecord, ledger: Totals | None = None) -> laws.Book:
    """The book of the study; `ledger` as `storage.books.book` takes it. Raises as `lawset`."""
    found = book(database, study, keep=True, ledger=ledger)
    if found is None:
        raise _nothing_yet(study)
    return found


def _standings(study: StudyRecord, whole: laws.Book) -> dict[str, Any]:
    """The leaderboard but for what was spent: its words column by column, its numbers packed."""
    fits = whole.both(draws=DRAWS, seed=study.seed)
    board = laws.rank(fits["compute"], fits["seconds"], study.target_compute, LEVEL)
    rows = [_identified(row.key) | vars(row) for row in board]
    numbers = np.array([[row[name] for row in rows] for name in NUMBERS], dtype=np.float64)
    return {"words": {name: [row[name] for row in rows] for name in WORDS}, "numbers": packed(numbers)}


@lru_cache(maxsize=4096)
def _identified(key: str) -> dict[str, str | float]:
    return identify(Structure.parse(key))


def _spent(database: Database, study: StudyRecord) -> dict[str, dict[str, Any]]:
    """FLOPs, seconds and number of the finished trials of each structure; how many of them failed or diverged.

    `measured` is the number and the FLOPs of the others: it changes when their curves do.
    """
    good = Total.state.in_(MEASURED)
    sums = (Total.flops, Total.seconds, Total.trials, case((good, 0), else_=Total.trials))
    only = (case((good, Total.trials), else_=0), case((good, Total.flops), else_=0.0))
    rows = (
        select(StructureRow.key, *map(func.sum, (*sums, *only)))
        .join(StructureRow, StructureRow.id == Total.structure_id)
        .where(Total.study_id == study.id, Total.state.in_(FINAL_STATES))
        .group_by(StructureRow.id, StructureRow.key)
        .order_by(StructureRow.key)
    )
    found: dict[str, dict[str, Any]] = {}
    with database.reading() as session:
        for key, flops, seconds, trials, failed, count, spent in session.connection().execute(rows).all():
            numbers = {"flops": flops, "seconds": seconds, "trials": trials, "failed": failed}
            found[key] = numbers | {"measured": (count, float(f"{spent:.9e}"))}
    return found


def _comparable(database: Database, study: StudyRecord, structures: Collection[str]) -> list[laws.Run]:
    found = runs(database, study, structures=structures)
    if not any(run.structure == laws.DENSE and run.usable for run in found):
        raise _nothing_yet(study)
    return found


def _nothing_yet(study: StudyRecord) -> StudyError:
    return StudyError(
        f"study {study.name!r} has no finished dense trial yet, so nothing can be compared; wait for its baseline, or resume it"
    )
