"""Where the structures that were tried lie in the taxonomy (omega, psi, nu), and how well they did there."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from dashboards.groups import colour_bar, log_limit, multiplier_hover
from dashboards.style import GRID, MULTIPLIER_SCALE, MUTED, PAPER, Trace, axis, empty_figure, figure, layout

if TYPE_CHECKING:
    from pandas import DataFrame
    from plotly.graph_objects import Figure

Quantity = Literal["omega", "psi", "nu"]
TITLES = {"omega": "ω parameter sharing", "psi": "ψ rank", "nu": "ν compute intensity"}
PROJECTIONS: tuple[tuple[Quantity, Quantity], ...] = (("omega", "psi"), ("psi", "nu"), ("omega", "nu"))
CAPTION = (
    "Each point is a structure that was tried, blue where it needs less compute than dense and orange "
    "where it needs more; the papers find the good ones on the edge ω = 0, ψ = 1."
)
PROJECTION_CAPTION = "The same points seen along each axis; hollow points have no multiplier yet."
_RANGE = [-0.06, 1.06]


class TaxonomyPoint(NamedTuple):
    """One structure; `multiplier` and its ends are NaN where none could be measured."""

    name: str
    omega: float
    psi: float
    nu: float
    multiplier: float
    low: float
    high: float


class TaxonomyData(NamedTuple):
    """All structures of a study."""

    points: tuple[TaxonomyPoint, ...]

    @property
    def measured(self) -> tuple[TaxonomyPoint, ...]:
        """Points with a multiplier, worst first, so that the best are drawn on top."""
        known = [point for point in self.points if math.isfinite(point.multiplier)]
        return tuple(sorted(known, key=lambda point: point.multiplier))

    @property
    def unmeasured(self) -> tuple[TaxonomyPoint, ...]:
        """Points without a multiplier."""
        return tuple(point for point in self.points if not math.isfinite(point.multiplier))


def taxonomy_data(trials: DataFrame, leaderboard: DataFrame) -> TaxonomyData:
    """Every structure of the leaderboard, and every other one that has a trial."""
    place = ["structure", "omega", "psi", "nu"]
    ranked = leaderboard[[*place, "multiplier", "multiplier_low", "multiplier_high"]]
    rest = trials[trials["key"].notna() & ~trials["key"].isin(leaderboard["key"])].drop_duplicates("key")[place]
    rest = rest.assign(multiplier=math.nan, multiplier_low=math.nan, multiplier_high=math.nan)
    points = [TaxonomyPoint(*row) for row in ranked.itertuples(index=False, name=None)]
    points += [TaxonomyPoint(*row) for row in rest.itertuples(index=False, name=None)]
    return TaxonomyData(tuple(points))


def taxonomy_figure(data: TaxonomyData) -> Figure:
    """The three quantities in space, coloured by multiplier."""
    if not data.points:
        return empty_figure("No structure has been tried yet.")
    traces = [_trace(data, points, ("omega", "psi", "nu")) for points in (data.unmeasured, data.measured)]
    traces[-1]["marker"]["colorbar"] = colour_bar(_limit(data)) | {"y": -0.02, "yanchor": "top"}
    walls = {
        "gridcolor": GRID,
        "backgroundcolor": "rgba(0, 0, 0, 0)",
        "zerolinecolor": MUTED,
        "range": _RANGE,
    }
    axes = {
        f"{name}axis": walls | {"title": {"text": TITLES[q][0]}, "tickvals": [0, 0.5, 1]}
        for name, q in zip("xyz", ("omega", "psi", "nu"), strict=True)
    }
    eye = {"eye": {"x": 1.55, "y": -1.6, "z": 0.75}}
    scene = {**axes, "camera": eye, "aspectmode": "cube", "dragmode": "turntable"}
    margin = {"l": 0, "r": 0, "t": 0, "b": 70}
    return figure(traces, layout(460, scene=scene, margin=margin, showlegend=False))


def projection_figure(data: TaxonomyData, across: Quantity, up: Quantity) -> Figure:
    """Two of the three quantities."""
    if not data.points:
        return empty_figure("No structure has been tried yet.")
    traces = [_trace(data, points, (across, up)) for points in (data.unmeasured, data.measured)]
    ticks: dict[str, Any] = {"range": _RANGE, "tickvals": [0, 0.25, 0.5, 0.75, 1]}
    axes = {"xaxis": axis(TITLES[across], **ticks), "yaxis": axis(TITLES[up], **ticks)}
    return figure(traces, layout(300, showlegend=False, **axes))


def _limit(data: TaxonomyData) -> float:
    return log_limit(point.multiplier for point in data.points)


def _trace(data: TaxonomyData, points: tuple[TaxonomyPoint, ...], quantities: tuple[Quantity, ...]) -> Trace:
    """Markers over two or three quantities; grey where there is no multiplier."""
    limit, uppermost = _limit(data), _uppermost(points, quantities)
    crowds = [crowd for _, crowd in uppermost]
    points = tuple(point for point, _ in uppermost)
    shades = {"colorscale": MULTIPLIER_SCALE, "cmin": -limit, "cmax": limit}
    logs = [math.log(point.multiplier) for point in points if math.isfinite(point.multiplier)]
    colour = {"color": logs, **shades} if logs else {"color": MUTED}
    flat = len(quantities) == 2
    places = {name: [getattr(p, q) for p in points] for name, q in zip("xyz", quantities, strict=False)}
    return {
        "type": "scatter" if flat else "scatter3d",
        "mode": "markers",
        "marker": colour
        | {
            "symbol": "circle" if logs else "circle-open",
            "size": 10 if flat else 6,
            "opacity": 0.9,
            "line": {"color": PAPER, "width": 1},
        },
        "text": [_hover(point, crowd) for point, crowd in zip(points, crowds, strict=True)],
        "hoverinfo": "text",
        **places,
    }


def _uppermost(points: tuple[TaxonomyPoint, ...], quantities: tuple[Quantity, ...]) -> list[tuple[TaxonomyPoint, int]]:
    """Of the points at one place the last, which is all that is seen of them, and how many they are."""
    found: dict[tuple[float, ...], tuple[TaxonomyPoint, int]] = {}
    for point in points:
        place = tuple(round(getattr(point, quantity), 3) for quantity in quantities)
        found[place] = point, found.pop(place, (point, 0))[1] + 1
    return list(found.values())


def _hover(point: TaxonomyPoint, crowd: int) -> str:
    where = f"ω {point.omega:.2f}, ψ {point.psi:.2f}, ν {point.nu:.2f}"
    others = f"<br>the best of {crowd} here" if crowd > 1 else ""
    return f"{multiplier_hover(point.name, point.multiplier, point.low, point.high)}<br>{where}{others}"
