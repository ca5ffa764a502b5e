"""What the tables of the pages say of a study, from its snapshot."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from dashboards.layer_rates import LayerRates, layer_rates
from dashboards.web.asked import mean_values
from dashboards.web.fitting import Fit
from dashboards.web.snapshot import Snapshot
from dashboards.web.views import flat
from space.structure import Structure
from storage.schema import TRIAL_KINDS, TRIAL_STATES
from storage.studies import StudyRecord

ROWS = 100
CHOICES = 60


def reasons(law: Fit | None) -> dict[str, int]:
    """Points of a law by what became of them."""
    points = (law.found or {}).get("points", []) if law is not None else []
    found: dict[str, int] = {}
    for point in points:
        found[point[3]] = found.get(point[3], 0) + 1
    return found


def best_trial(snapshot: Snapshot) -> dict[str, Any] | None:
    """The structured trial with the highest value."""
    value = np.where(snapshot.measured, snapshot.numbers["value"], np.nan)
    dense = snapshot.structures.row.get("dense", -2)
    value = np.where(snapshot.structure == dense, np.nan, value)
    if not np.isfinite(value).any():
        return None
    row = int(np.nanargmax(value))
    key = snapshot.structures.keys[int(snapshot.structure[row])]
    return {
        "number": int(snapshot.numbers["number"][row]),
        "name": snapshot.name(row),
        "key": key,
        "multiplier": math.exp(value[row]),
    }


def measured(snapshot: Snapshot) -> list[dict[str, Any]]:
    """Structures by the mean value of their trials: a leaderboard without laws."""
    means, counts = mean_values(snapshot)
    order = [int(row) for row in np.argsort(np.where(counts > 0, -means, np.inf)) if counts[row]][:ROWS]
    names = snapshot.structures
    return [
        {
            "structure": names.names[row],
            "key": names.keys[row],
            "multiplier": math.exp(means[row]),
            "trials": int(counts[row]),
            "place": names.place[row].tolist(),
        }
        for row in order
    ]


def present(snapshot: Snapshot, column: str) -> list[int]:
    """The values of a column, at most CHOICES of them."""
    values = snapshot.numbers[column]
    return snapshot.remembered(
        ("present", column), lambda: np.unique(values[np.isfinite(values)])[:CHOICES].astype(np.int64).tolist()
    )


def rungs(snapshot: Snapshot) -> list[dict[str, Any]]:
    """One line a rung."""
    found = []
    on_rung = {rung: np.flatnonzero(snapshot.numbers["rung"] == rung) for rung in present(snapshot, "rung")}
    seen: dict[int, set[int]] = {rung: set(snapshot.structure[rows].tolist()) for rung, rows in on_rung.items()}
    for rung, rows in on_rung.items():
        measured = rows[snapshot.measured[rows]]
        value = snapshot.numbers["value"][measured]
        below = set().union(*(seen[lower] for lower in seen if lower < rung))
        found.append(
            {
                "rung": rung,
                "flops": float(np.median(snapshot.numbers["flops"][measured])) if len(measured) else None,
                "widths": ", ".join(str(int(w)) for w in np.unique(snapshot.numbers["width"][rows])[:8]),
                "states": {state: int((snapshot.state[rows] == code).sum()) for code, state in enumerate(TRIAL_STATES)},
                "structures": len(seen[rung]),
                "promoted": len(seen[rung] & below),
                "loss": float(np.nanmin(snapshot.numbers["loss"][measured])) if len(measured) else None,
                "multiplier": math.exp(np.nanmedian(value)) if np.isfinite(value).any() else None,
            }
        )
    return found


def kinds(snapshot: Snapshot) -> list[dict[str, Any]]:
    """Search against random: one line a kind of trial."""
    found = []
    for code, kind in enumerate(TRIAL_KINDS):
        rows = np.flatnonzero((snapshot.kind == code) & (snapshot.structure >= 0))
        value = snapshot.numbers["value"][rows]
        known = np.isfinite(value)
        full = np.append(snapshot.structures.full, False)[snapshot.structure[rows]]
        found.append(
            {
                "kind": kind,
                "trials": len(rows),
                "full": float(full.mean()) if len(rows) else None,
                "median": math.exp(np.median(value[known])) if known.any() else None,
                "best": math.exp(value[known].max()) if known.any() else None,
                "better": float((value[known] > 0).mean()) if known.any() else None,
            }
        )
    return found


def layers(record: StudyRecord, snapshot: Snapshot, keys: list[str]) -> list[LayerRates]:
    """Learning rates of these structures at the study's least and largest width, where its settings say what they are."""
    trial = record.settings.get("trial", {})
    if not {"lr", "base_width"} <= set(trial):
        return []
    tried = [key for key in keys if key in snapshot.structures.row]
    known = present(snapshot, "width")
    widths = sorted({*known[:1], *known[-1:]})
    return [layer_rates(Structure.parse(key), width, trial["lr"], trial["base_width"]) for key in tried for width in widths]


def differences(studies: list[StudyRecord]) -> list[tuple[str, list[str]]]:
    """Settings in which studies differ, each with its value in every study."""
    tables_ = [flat(study.settings) | {"data": study.corpus_fingerprint[:12], "seed": str(study.seed)} for study in studies]
    names = sorted(set().union(*tables_)) if tables_ else []
    rows = [(name, [table.get(name, "–") for table in tables_]) for name in names]
    return [(name, values) for name, values in rows if len(set(values)) > 1]
