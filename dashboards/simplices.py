"""The two simplices of theta: how a structure splits its input and its output among the factors."""

from __future__ import annotations

import math
from collections import defaultdict
from typing import TYPE_CHECKING, Literal, NamedTuple

from dashboards.groups import colour_bar, log_limit
from dashboards.numbers import count_text, decimal_text
from dashboards.style import GRID, MULTIPLIER_SCALE, MUTED, PAPER, Trace, empty_figure, figure, layout

if TYPE_CHECKING:
    from pandas import DataFrame
    from plotly.graph_objects import Figure

Side = Literal["input", "output"]
EDGES_OF: dict[Side, tuple[str, str, str]] = {"input": ("XA", "XB", "XAB"), "output": ("YA", "YB", "YAB")}
CORNERS: dict[Side, tuple[str, str, str]] = {
    "input": ("α A", "β B", "γ both"),
    "output": ("δ A", "ε B", "φ both"),
}
CAPTION = (
    "A corner sends the whole input (left) or output (right) to factor A, to factor B or to both; the "
    "larger a point the more structures share it, and its colour is the best multiplier among them."
)


class SimplexPoint(NamedTuple):
    """A split in three exponents that sum to 1, the structures that have it, the best multiplier (NaN if
    none).
    """

    split: tuple[float, float, float]
    structures: int
    best: str
    multiplier: float


class SimplexData(NamedTuple):
    """The splits of one side that were tried."""

    side: Side
    points: tuple[SimplexPoint, ...]


def simplex_data(trials: DataFrame, leaderboard: DataFrame, side: Side) -> SimplexData:
    """Distinct splits among all structures tried but dense, which has one factor."""
    multipliers = dict(zip(leaderboard["key"], leaderboard["multiplier"], strict=True))
    columns = ["key", "structure", *(f"theta_{edge}" for edge in EDGES_OF[side])]
    tried = trials[trials["key"].notna() & (trials["key"] != "dense")].drop_duplicates("key")[columns]
    found: dict[tuple[float, float, float], list[tuple[float, str]]] = defaultdict(list)
    for key, name, first, second, both in tried.itertuples(index=False, name=None):
        split = (round(first, 6), round(second, 6), round(both, 6))
        found[split].append((multipliers.get(key, math.nan), name))
    return SimplexData(side, tuple(_point(split, members) for split, members in found.items()))


def _point(split: tuple[float, float, float], members: list[tuple[float, str]]) -> SimplexPoint:
    multiplier, name = max(members, key=lambda member: -math.inf if math.isnan(member[0]) else member[0])
    return SimplexPoint(split, len(members), name, multiplier)


def simplex_figure(data: SimplexData) -> Figure:
    """A ternary plot."""
    if not data.points:
        return empty_figure("No two-factor structure has been tried yet.")
    measured = [point for point in data.points if math.isfinite(point.multiplier)]
    rest = [point for point in data.points if not math.isfinite(point.multiplier)]
    limit = log_limit(point.multiplier for point in measured)
    shades = {"colorscale": MULTIPLIER_SCALE, "cmin": -limit, "cmax": limit}
    bar = {"colorbar": colour_bar(limit) | {"y": -0.12, "yanchor": "top"}}
    logs = [math.log(point.multiplier) for point in measured]
    traces = [
        _trace(rest, {"color": MUTED, "symbol": "circle-open"}),
        _trace(measured, {"color": logs, **shades, **bar}),
    ]
    base = {"gridcolor": GRID, "linecolor": MUTED, "tickvals": [0.25, 0.5, 0.75], "tickfont": {"size": 10}}
    corners = [base | {"title": {"text": corner, "font": {"size": 12}}} for corner in CORNERS[data.side]]
    axes = dict(zip(("aaxis", "baxis", "caxis"), corners, strict=True))
    ternary = {"sum": 1, "bgcolor": "rgba(0, 0, 0, 0)", **axes}
    margin = {"l": 56, "r": 56, "t": 40, "b": 84}
    return figure(traces, layout(400, ternary=ternary, showlegend=False, margin=margin))


def _trace(points: list[SimplexPoint], colour: dict[str, object]) -> Trace:
    return {
        "type": "scatterternary",
        "mode": "markers",
        "a": [point.split[0] for point in points],
        "b": [point.split[1] for point in points],
        "c": [point.split[2] for point in points],
        "marker": colour
        | {
            "size": [9 + 5 * math.log2(point.structures) for point in points],
            "line": {"color": PAPER, "width": 1},
        },
        "text": [_hover(point) for point in points],
        "hoverinfo": "text",
        "cliponaxis": False,
    }


def _hover(point: SimplexPoint) -> str:
    best = f"<br>best {point.best}, multiplier {decimal_text(point.multiplier, 2)}" if point.multiplier > 0 else ""
    split = ", ".join(f"{share:.2f}" for share in point.split)
    return f"({split})<br>{count_text(point.structures, 'structure')}{best}"
