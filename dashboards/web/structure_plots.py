"""Plots of structures: multipliers, frontiers and laws, the taxonomy, the simplexes of theta."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from dashboards import coordinates, frontier, law_view, multipliers, simplices, taxonomy
from dashboards.groups import group
from dashboards.style import SOFT, empty_figure
from dashboards.web.asked import Asked, leaders, number
from dashboards.web.sampling import LEFT_OUT, MOST_DRAWN, pareto, sample, strata
from dashboards.web.snapshot import Index
from storage.coordinates import movements
from storage.schema import TRIAL_STATES

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

SPACE = 2000
"""Structures drawn in the taxonomy."""


def draw_multipliers(asked: Asked, seconds: bool = False) -> Figure:
    """Multipliers with intervals, in FLOPs or in seconds."""
    fit = asked.fit("board")
    if fit.found is None:
        return empty_figure(fit.error or "The laws are being fitted; this plot draws itself when they are.")
    name = "seconds_multiplier" if seconds else "multiplier"
    known = [row for row in fit.found["rows"] if row["key"] != "dense" and row[name]]
    rows = [
        multipliers.MultiplierRow(
            r["structure"], r[name], number(r[f"{name}_low"]), number(r[f"{name}_high"]), group(r["omega"], r["psi"])
        )
        for r in known[: multipliers.ROWS]
    ]
    return multipliers.multipliers_figure(
        multipliers.MultipliersData(tuple(rows), max(len(known) - multipliers.ROWS, 0)), seconds
    )


def draw_frontier(asked: Asked) -> Figure:
    """All points that count: every frontier point, laws of the leaders, a sample of the others."""
    now, points = asked.watch.points(asked.record.id)
    keys = leaders(now, asked.rows())
    curves_known = (asked.fit("curves", keys=keys).found or {}).get("curves", {})
    keep = (now.measured | (now.state == TRIAL_STATES.index("running")))[points.trial]
    best = pareto(points.flops, points.loss, keep)
    limit = len(points) if asked.everything else MOST_DRAWN
    groups, others = [], strata(points.flops)
    others[~keep | best] = LEFT_OUT
    for key in keys:
        row = now.structures.row.get(key)
        if row is None:
            continue
        mine = np.flatnonzero(keep & (now.structure == row)[points.trial])
        if not len(mine):
            continue
        others[mine] = LEFT_OUT
        front = pareto(points.flops[mine], points.loss[mine], np.ones(len(mine), dtype=np.bool_))
        rest = mine[~front]
        rest = rest[sample(strata(points.flops[rest]), limit // 10)]
        law = curves_known.get(key)
        curve = None if law is None else frontier.LawCurve(**law)
        name = now.structures.names[row]
        groups.append(frontier.FrontierGroup(key, name, _pairs(points, mine[front]), _pairs(points, rest), curve))
    data = frontier.FrontierData(tuple(groups), _pairs(points, sample(others, limit // 2)), asked.record.target_compute)
    drawn = frontier.frontier_figure(data)
    if best.any():
        drawn.data.append(_envelope(_pairs(points, np.flatnonzero(best))))
    return drawn


def _envelope(pairs: tuple[tuple[float, float], ...]) -> dict[str, Any]:
    """The frontier of all structures together, as a step line with its points."""
    x, y = [pair[0] for pair in pairs], [pair[1] for pair in pairs]
    line = {"color": SOFT, "width": 1, "shape": "hv", "dash": "dot"}
    marker = {"size": 4, "color": SOFT}
    return {"type": "scatter", "mode": "lines+markers", "name": "best of all", "x": x, "y": y, "line": line, "marker": marker}


def _pairs(points: Any, places: Index) -> tuple[tuple[float, float], ...]:
    order = places[np.argsort(points.flops[places])]
    return tuple(zip(points.flops[order].tolist(), points.loss[order].tolist(), strict=True))


def draw_law(asked: Asked, residuals: bool = False) -> Figure:
    """One structure, its points and its law; or how far they are apart."""
    key = asked.structure or "dense"
    fit = asked.fit("law", key=key, exclude=list(asked.exclude))
    if fit.found is None:
        return empty_figure(fit.error or "The law is being fitted; this plot draws itself when it is.")
    now = asked.snapshot
    name = now.structures.names[now.structures.row[key]] if key in now.structures.row else key
    data = law_view.law_view_data(name, fit.found, asked.record.target_compute)
    return law_view.residual_figure(data) if residuals else law_view.law_view_figure(data)


def space(asked: Asked) -> taxonomy.TaxonomyData:
    """Every structure tried, or the measured ones and a sample of the others where there are too many."""
    structures = asked.snapshot.structures
    known = {row["key"]: row for row in asked.rows()}
    measured = np.array([key in known for key in structures.keys], dtype=np.bool_)
    limit = len(measured) if asked.everything else SPACE
    places = sample(np.where(measured, np.arange(len(measured)) % 97, 98), limit)
    nothing = {"multiplier": math.nan, "multiplier_low": math.nan, "multiplier_high": math.nan}
    found = []
    for row in places:
        standing = known.get(structures.keys[row], nothing)
        numbers = (number(standing[name]) for name in nothing)
        found.append(taxonomy.TaxonomyPoint(structures.names[row], *map(float, structures.place[row]), *numbers))
    return taxonomy.TaxonomyData(tuple(found))


def draw_taxonomy(asked: Asked) -> Figure:
    """Seen from a little nearer than in the report, for the page is wider than it is high; the axes' names stay in sight."""
    drawn = taxonomy.taxonomy_figure(space(asked))
    if drawn.data:
        drawn.layout["scene"]["camera"] = {"eye": {"x": 1.4, "y": -1.45, "z": 0.6}, "center": {"x": 0, "y": 0, "z": -0.14}}
    return drawn


def moved(asked: Asked) -> coordinates.CoordinatesData:
    """The coordinate checks of dense and the best structures that have been checked."""
    now = asked.snapshot
    known = now.remembered("movements", lambda: movements(asked.watch.database, asked.record.id))
    return coordinates.coordinates_data(known, leaders(now, asked.rows()))


def draw_coordinates(asked: Asked) -> Figure:
    """Change of activations over width, by kind of layer."""
    return coordinates.coordinates_figure(moved(asked))


def draw_simplex(asked: Asked, side: simplices.Side) -> Figure:
    """How the structures tried split one side."""
    structures = asked.snapshot.structures
    multiplier = {row["key"]: number(row["multiplier"]) for row in asked.rows()}
    first = 0 if side == "input" else 3
    splits: dict[tuple[float, ...], list[tuple[float, str]]] = {}
    for key, name, theta in zip(structures.keys, structures.names, structures.theta.tolist(), strict=True):
        if key != "dense":
            split = tuple(round(value, 6) for value in theta[first : first + 3])
            splits.setdefault(split, []).append((multiplier.get(key, math.nan), name))
    points = []
    for split, members in splits.items():
        best, name = max(members, key=lambda member: -math.inf if math.isnan(member[0]) else member[0])
        points.append(simplices.SimplexPoint((split[0], split[1], split[2]), len(members), name, best))
    return simplices.simplex_figure(simplices.SimplexData(side, tuple(points)))
