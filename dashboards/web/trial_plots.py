"""Plots of trials: progress, steering, learning curves, rungs, learning rates, studies side by side."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from dashboards import curves, foresight, progress, steering
from dashboards.style import empty_figure
from dashboards.web import records
from dashboards.web.asked import Asked, leaders
from dashboards.web.sampling import sample
from dashboards.web.snapshot import Index, Snapshot
from dashboards.web.watch import Watch
from storage.schema import FINAL_STATES, TRIAL_KINDS, TRIAL_STATES
from storage.studies import StudyRecord

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

STEPS = 800
"""Trials drawn in the plots over trial numbers unless all are asked for."""


def draw_progress(asked: Asked) -> Figure:
    """Trials that have ended, by how."""
    now = asked.snapshot
    lines = {}
    for state in progress.STATES:
        ends = np.sort(now.numbers["finished"][now.state == TRIAL_STATES.index(state)])
        places = sample(np.zeros(len(ends)), 500) if len(ends) > 500 else np.arange(len(ends))
        lines[state] = tuple((float(ends[i]), int(i) + 1) for i in places if math.isfinite(ends[i]))
    return progress.progress_figure(progress.ProgressData(lines))


def steered(asked: Asked) -> steering.SteeringData:
    """Values in the order of the search: every new best, and a sample of the others."""
    now = asked.snapshot
    value, number = now.numbers["value"], now.numbers["number"]
    known = np.flatnonzero(np.isfinite(value) & (now.structure >= 0))
    limit = len(known) if asked.everything else STEPS
    rises = np.zeros(len(known), dtype=np.bool_)
    if len(known):
        best = np.maximum.accumulate(value[known])
        rises[0], rises[1:] = True, value[known][1:] > best[:-1]
    drawn = np.union1d(known[rises], known[sample(now.kind[known], limit)])
    full = np.append(now.structures.full, False)[now.structure]
    points = tuple(
        steering.SteeringPoint(int(number[i]), TRIAL_KINDS[now.kind[i]], now.name(i), math.exp(value[i]), bool(full[i]))
        for i in drawn
    )
    ended = np.isin(now.state, [TRIAL_STATES.index(state) for state in FINAL_STATES])
    without = np.flatnonzero(ended & ~np.isfinite(value) & (now.structure >= 0))
    lost = tuple(int(number[i]) for i in without[sample(np.zeros(len(without)), max(limit // 10, 100))])
    share = {kind: _share(now, full, kind) for kind in ("proposal", "random")}
    return steering.SteeringData(points, lost, share)


def _share(now: Snapshot, full: Any, kind: str) -> tuple[tuple[int, float], ...]:
    """(trial, share of omega = 0 and psi = 1 among the last trials of this kind), as `steering.SHARE_CAPTION` says."""
    mine = np.flatnonzero((now.kind == TRIAL_KINDS.index(kind)) & (now.structure >= 0))
    sums = np.concatenate([[0.0], np.cumsum(full[mine].astype(float))])
    ends = np.arange(1, len(mine) + 1)
    starts = np.maximum(ends - steering.WINDOW, 0)
    shares = (sums[ends] - sums[starts]) / (ends - starts) if len(mine) else sums[:0]
    places = np.unique(np.linspace(0, len(mine) - 1, min(len(mine), 2000)).astype(np.int64)) if len(mine) else ends
    return tuple((int(now.numbers["number"][mine[i]]), float(shares[i])) for i in places)


def foreseen(asked: Asked) -> foresight.ForesightData:
    """Trials of which the search foresaw something, and what was measured."""
    now, points = asked.snapshot, []
    for number, mean, sd in (asked.foreseen().found or {}).get("predictions", []):
        row = int(np.searchsorted(now.numbers["number"], number))
        value = float(now.numbers["value"][row])
        points.append(foresight.foresight_point(number, TRIAL_KINDS[now.kind[row]], now.name(row), mean, sd, value))
    return foresight.ForesightData(tuple(points))


def draw_foresight(asked: Asked) -> Figure:
    """Measured over foreseen multipliers."""
    fit = asked.foreseen()
    if fit.found is None:
        return empty_figure(fit.error or "The search's model is being fitted; this plot draws itself when it is.")
    return foresight.foresight_figure(foreseen(asked))


def draw_curves(asked: Asked) -> Figure:
    """Learning curves of the leaders and of a sample of the others."""
    now = asked.snapshot
    keys = leaders(now, asked.rows())
    limit = curves.CURVES
    begun = np.flatnonzero((now.structure >= 0) & (now.numbers["steps"] > 0))
    chosen: dict[str, Index] = {}
    for key in keys:
        mine = begun[now.structure[begun] == now.structures.row.get(key, -2)]
        chosen[key] = mine[sample(np.zeros(len(mine)), limit // (2 * len(keys)))]
    bright = np.isin(now.structure[begun], [now.structures.row.get(key, -2) for key in keys])
    others = begun[~bright]
    others = others[sample(now.numbers["rung"][others], limit // 2)]
    numbers = now.numbers["number"].astype(np.int64)
    rows = np.concatenate([others, *chosen.values()])
    lines = records.curves(asked.watch.database, asked.record.id, [int(numbers[row]) for row in rows])

    def curve(row: int) -> curves.Curve | None:
        line = lines.get(int(numbers[row]))
        if line is None:
            return None
        name, key = now.name(row), now.structures.keys[int(now.structure[row])]
        return curves.Curve(int(numbers[row]), key, name, tuple(p[0] for p in line), tuple(p[1] for p in line))

    groups = {key: tuple(filter(None, map(curve, mine))) for key, mine in chosen.items()}
    rest = tuple(filter(None, map(curve, others)))
    shown = {key: group for key, group in groups.items() if group}
    return curves.curves_figure(curves.CurvesData(shown, rest, max(len(begun) - len(rows), 0)))


def draw_trial(asked: Asked) -> Figure:
    """The learning curve of one trial."""
    now = asked.snapshot
    lines = records.curves(asked.watch.database, asked.record.id, [asked.trial]).get(asked.trial, [])
    row = int(np.searchsorted(now.numbers["number"], asked.trial))
    if not lines or row >= len(now):
        return empty_figure("This trial has not been evaluated yet.")
    line = curves.Curve(asked.trial, "this", now.name(row), tuple(p[0] for p in lines), tuple(p[1] for p in lines))
    drawn = curves.curves_figure(curves.CurvesData({"this": (line,)}, (), 0))
    drawn.data[-1] |= {"mode": "lines+markers"}
    drawn.layout |= {"showlegend": False, "height": 340}
    return drawn


def draw_rungs(asked: Asked) -> Figure:
    """The mean multiplier of each structure at each rung."""
    now = asked.snapshot
    kept = np.flatnonzero(now.measured & np.isfinite(now.numbers["value"]))
    rungs = int(np.nanmax(now.numbers["rung"][kept])) + 1 if len(kept) else 1
    cell = now.structure[kept] * rungs + now.numbers["rung"][kept].astype(np.int64)
    counts = np.bincount(cell, minlength=len(now.structures.keys) * rungs)
    flops = np.bincount(cell, now.numbers["flops"][kept], len(counts)) / np.maximum(counts, 1)
    value = np.bincount(cell, np.exp(now.numbers["value"][kept]), len(counts)) / np.maximum(counts, 1)
    paths = []
    for row in np.unique(now.structure[kept]).tolist():
        mine = [place for place in range(row * rungs, (row + 1) * rungs) if counts[place]]
        places = tuple((float(flops[place]), float(value[place]), int(counts[place])) for place in mine)
        paths.append(progress.RungPath(now.structures.names[row], places))
    bright = leaders(now, asked.rows())
    names = [now.structures.names[now.structures.row[key]] for key in bright if key in now.structures.row]
    paths.sort(key=lambda path: (path.name not in names, -len(path.places)))
    return progress.rungs_figure(paths if asked.everything else paths[:400], names)


def rates(asked: Asked) -> dict[int, list[tuple[float, float, int]]]:
    """(base learning rate, loss, trial) by rung, of a sample of the trials where there are many."""
    now = asked.snapshot
    kept = np.flatnonzero(now.measured)
    kept = kept[sample(now.numbers["rung"][kept], STEPS)]
    numbers = now.numbers["number"][kept].astype(np.int64).tolist()
    known = records.learning_rates(asked.watch.database, asked.record.id, numbers)
    groups: dict[int, list[tuple[float, float, int]]] = {}
    for row, number in zip(kept.tolist(), numbers, strict=True):
        if number in known:
            place = known[number], float(now.numbers["loss"][row]), number
            groups.setdefault(int(now.numbers["rung"][row]), []).append(place)
    return groups


def draw_rates(asked: Asked) -> Figure:
    """Loss over learning rate by rung."""
    return progress.rates_figure(rates(asked))


def best_so_far(watch: Watch, record: StudyRecord) -> progress.RunningBest:
    """The best multiplier of a study over the compute it had spent."""
    now = watch.snapshot(record.id)
    ended = np.flatnonzero(np.isfinite(now.numbers["finished"]))
    order = ended[np.argsort(now.numbers["finished"][ended], kind="stable")]
    values = np.nan_to_num(np.exp(now.numbers["value"][order]), nan=0.0)
    full = progress.running_best(record.name, now.numbers["flops"][order].tolist(), values.tolist())
    rises = [0, *(i for i in range(1, len(full.places)) if full.places[i][1] > full.places[i - 1][1]), len(full.places) - 1]
    return progress.RunningBest(full.name, tuple(full.places[i] for i in sorted(set(rises)) if 0 <= i < len(full.places)))


def draw_compare(asked: Asked) -> Figure:
    """Studies side by side."""
    return progress.compare_figure([best_so_far(asked.watch, record) for record in (asked.record, *asked.beside)])
