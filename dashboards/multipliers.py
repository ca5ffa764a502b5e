"""Forest plot of compute multipliers: one row a structure, best first."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

from dashboards.groups import GROUPS, group, multiplier_axis, multiplier_hover, ring
from dashboards.style import INK, PAPER, SOFT, Trace, axis, empty_figure, figure, layout

if TYPE_CHECKING:
    from pandas import DataFrame
    from plotly.graph_objects import Figure

ROWS = 24
FAR = 8
"""Intervals are drawn up to this factor from 1; a wider one leaves the plot."""
CAPTION = (
    "Each row is a structure: the mark is how many times more compute dense needs for the same loss, the "
    "line its interval; right of 1 is better than dense, and a hollow mark has an interval that holds 1 "
    "(one that leaves the plot goes on)."
)


class MultiplierRow(NamedTuple):
    """A structure's compute multiplier at the study's target compute, with the ends of its interval."""

    name: str
    multiplier: float
    low: float
    high: float
    group: str

    @property
    def undecided(self) -> bool:
        """Whether the interval is unknown or holds 1."""
        return not (self.low > 1 or self.high < 1)


class MultipliersData(NamedTuple):
    """Rows best first, and how many more there are."""

    rows: tuple[MultiplierRow, ...]
    hidden: int


def multipliers_data(leaderboard: DataFrame, limit: int = ROWS) -> MultipliersData:
    """The first `limit` structures of the leaderboard that have a multiplier, dense left out: it is the
    line at 1.
    """
    known = leaderboard[(leaderboard["key"] != "dense") & (leaderboard["multiplier"] > 0)]
    names = ["structure", "multiplier", "multiplier_low", "multiplier_high", "omega", "psi"]
    rows = [
        MultiplierRow(str(name), m, low, high, group(omega, psi))
        for name, m, low, high, omega, psi in known[names].head(limit).itertuples(index=False)
    ]
    return MultipliersData(tuple(rows), max(len(known) - limit, 0))


def multipliers_figure(data: MultipliersData, seconds: bool = False) -> Figure:
    """Marks with intervals on a log axis, the name above each row so that it costs no width.

    Args:
        seconds: the multipliers are of training time.
    """
    if not data.rows:
        return empty_figure("No structure has a compute multiplier yet.")
    more = [f"and {data.hidden} more"] if data.hidden else []
    names = [_label(i, name) for i, name in enumerate([*(row.name for row in data.rows), *more])]
    x = axis(
        f"{'multiplier in seconds' if seconds else 'compute multiplier'} (log scale)", **multiplier_axis(*_reach(data.rows))
    )
    y = {"visible": False, "range": [len(names) - 0.3, -0.9], "fixedrange": True}
    one = {
        "type": "line",
        "x0": 1,
        "x1": 1,
        "y0": 0,
        "y1": 1,
        "yref": "paper",
        "line": {"color": SOFT, "width": 1},
    }
    mark = {"text": "dense", "x": 0, "y": -0.75, "showarrow": False, "font": {"size": 11}, "xshift": 20}
    arrangement = layout(120 + 38 * len(data.rows), xaxis=x, yaxis=y, shapes=[one], annotations=[*names, mark])
    legend = [_legend_entry(name) for name in GROUPS if any(row.group == name for row in data.rows)]
    return figure([*legend, *(_trace(data.rows, name) for name in GROUPS)], arrangement)


def _legend_entry(name: str) -> Trace:
    """A full mark of the group, whichever marks its rows have."""
    look = {"type": "scatter", "mode": "markers", "x": [None], "y": [None], "marker": ring(GROUPS[name])}
    return look | {"name": name, "legendgroup": name, "showlegend": True}


def _label(row: int, name: str) -> dict[str, object]:
    place = {"x": 0, "xref": "paper", "xanchor": "left", "y": row - 0.38, "yanchor": "middle"}
    return {"text": name, "showarrow": False, "font": {"size": 12, "color": INK}, "bgcolor": PAPER, **place}


def _reach(rows: tuple[MultiplierRow, ...]) -> tuple[float, float]:
    """From the lowest to the highest of 1, all marks, and the ends of intervals that are within a factor
    `FAR` of 1.
    """
    marks = [row.multiplier for row in rows] + [0.9, 1.1]
    ends = [end for row in rows for end in (row.low, row.high) if end > 0]
    return (
        min(*marks, max(min([*ends, 1]), 1 / FAR)),
        max(*marks, min(max([*ends, 1]), FAR)),
    )


def _trace(rows: tuple[MultiplierRow, ...], name: str) -> Trace:
    """The rows of one group."""
    mine = [(i, row) for i, row in enumerate(rows) if row.group == name]
    marks = [ring(GROUPS[name], row.undecided) for _, row in mine]
    ups = [max(row.high - row.multiplier, 0) if math.isfinite(row.high) else 0 for _, row in mine]
    downs = [max(row.multiplier - row.low, 0) if math.isfinite(row.low) else 0 for _, row in mine]
    bars = {"type": "data", "symmetric": False, "array": ups, "arrayminus": downs, "thickness": 2, "width": 0}
    return {
        "type": "scatter",
        "mode": "markers",
        "name": name,
        "legendgroup": name,
        "showlegend": False,
        "x": [row.multiplier for _, row in mine],
        "y": [i for i, _ in mine],
        "error_x": bars | {"color": GROUPS[name].colour},
        "marker": ring(GROUPS[name]) | {"symbol": [mark["symbol"] for mark in marks]},
        "text": [multiplier_hover(*row[:4]) for _, row in mine],
        "hoverinfo": "text",
    }
