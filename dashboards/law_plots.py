"""The laws of many structures together: what they save over compute, their exponents, and families by the taxonomy."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from dashboards.groups import GROUPS, multiplier_axis, ring
from dashboards.multipliers import FAR
from dashboards.numbers import interval_text
from dashboards.paper.loss import FamilyData, FamilyLine
from dashboards.paper.ranking import ExponentRow, MultiplierCurve
from dashboards.style import (
    BLUE,
    DENSE_LOOK,
    INK,
    MUTED,
    SOFT,
    VERMILLION,
    Trace,
    axis,
    empty_figure,
    figure,
    layout,
    log_axis,
    looks,
    translucent,
)

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

NO_LAW = "No law has been fitted yet: that takes dense runs to compare with."
FAMILY_SCALE = [[0.0, BLUE], [0.5, MUTED], [1.0, VERMILLION]]
SAVINGS_CAPTION = (
    "The compute multiplier of the best structures over the compute they are given, with 90 % bands: a line that rises saves "
    "more the more is spent; it is dotted where a law goes beyond what was run."
)
EXPONENTS_CAPTION = (
    "Each row is a structure: the exponent of its law with the 90 % interval, larger is steeper; a hollow mark rests on a "
    "single run, which takes its exponent from the others, and the grey band is what all have in common."
)
FAMILIES_CAPTION = (
    "The laws of the structures, coloured by one exponent of the taxonomy at a time, dense in the colour of the text: where "
    "colours separate, that exponent decides how good a structure is."
)


def savings_figure(curves: Sequence[MultiplierCurve], target: float) -> Figure:
    """Multipliers over log compute."""
    if not curves:
        return empty_figure("No structure can be compared with dense yet.")
    styles = looks([curve.key for curve in curves])
    traces = [trace for curve in curves for trace in _saving(curve, styles[curve.key].colour)]
    reach = [value for curve in curves for value in (*curve.multiplier, *curve.low, *curve.high)]
    scale = multiplier_axis(max(min([*reach, 0.9]), 1 / FAR), min(max([*reach, 1.1]), FAR))
    one = {"type": "line", "xref": "paper", "x0": 0, "x1": 1, "y0": 1, "y1": 1, "line": {"color": MUTED}}
    at = {"type": "line", "yref": "paper", "y0": 0, "y1": 1, "x0": target, "x1": target}
    shapes = [one, at | {"line": {"color": SOFT, "width": 1, "dash": "dot"}}]
    axes = {"xaxis": log_axis("training compute (FLOPs)"), "yaxis": axis("compute multiplier", **scale)}
    return figure(traces, layout(400, **axes, shapes=shapes, showlegend=True))


def _saving(curve: MultiplierCurve, colour: str) -> list[Trace]:
    """The band, the curve and its dotted end."""
    text = [
        f"<b>{curve.name}</b><br>{interval_text(value, low, high)} at {spent:.3g} FLOPs"
        for spent, value, low, high in zip(curve.compute, curve.multiplier, curve.low, curve.high, strict=True)
    ]
    split = max(curve.measured - 1, 0)
    same: Trace = {"type": "scatter", "mode": "lines", "legendgroup": curve.key}
    quiet = same | {"hoverinfo": "skip", "showlegend": False}
    band = {"x": [*curve.compute, *reversed(curve.compute)], "y": [*curve.high, *reversed(curve.low)], "line": {"width": 0}}
    line = {
        "x": list(curve.compute[: split + 1]),
        "y": list(curve.multiplier[: split + 1]),
        "line": {"color": colour, "width": 2},
    }
    beyond = {"x": list(curve.compute[split:]), "y": list(curve.multiplier[split:])}
    hover = {"name": curve.name, "text": text[: split + 1], "hoverinfo": "text"}
    mode = {"mode": "lines" if split else "markers"}
    return [
        quiet | band | {"fill": "toself", "fillcolor": translucent(colour)},
        same | line | hover | mode,
        quiet | beyond | {"line": {"color": colour, "width": 2, "dash": "dot"}},
    ]


def exponents_figure(rows: Sequence[ExponentRow], pooled: tuple[float, float] | None) -> Figure:
    """One row a structure, the first on top."""
    if not rows or pooled is None:
        return empty_figure(NO_LAW)
    shape: dict[str, Any] = {"type": "rect", "yref": "paper", "y0": 0, "y1": 1, "x0": pooled[0], "x1": pooled[1]}
    shape |= {"fillcolor": translucent(MUTED), "line": {"width": 0}, "layer": "below"}
    names = [row.name for row in rows]
    y = axis("", autorange="reversed", tickvals=list(range(len(rows))), ticktext=names, showgrid=False)
    groups = {row.group for row in rows if row.name != "dense"}
    traces = [_exponents(rows, name) for name in (*(name for name in GROUPS if name in groups), "dense")]
    axes = {"xaxis": axis("exponent a"), "yaxis": y}
    return figure(traces, layout(150 + 24 * len(rows), **axes, shapes=[shape], showlegend=True))


def _exponents(rows: Sequence[ExponentRow], group: str) -> Trace:
    places = [n for n, row in enumerate(rows) if (row.name if row.name == "dense" else row.group) == group]
    look = DENSE_LOOK if group == "dense" else GROUPS[group]
    mine = [rows[n] for n in places]
    error: dict[str, Any] = {"type": "data", "symmetric": False, "color": look.colour, "thickness": 1.5, "width": 0}
    error |= {"array": [row.high - row.exponent for row in mine], "arrayminus": [row.exponent - row.low for row in mine]}
    marker = ring(look)
    return {
        "type": "scatter",
        "mode": "markers",
        "name": group,
        "x": [row.exponent for row in mine],
        "y": places,
        "error_x": error,
        "marker": marker | {"symbol": [f"{look.symbol}-open" if row.runs == 1 else look.symbol for row in mine]},
        "text": [f"<b>{row.name}</b><br>{interval_text(row.exponent, row.low, row.high, 3)}, {row.runs} runs" for row in mine],
        "hoverinfo": "text",
    }


def family_figure(family: FamilyData, dense: FamilyLine) -> Figure:
    """Frontier points and laws of some structures, coloured by one exponent."""
    if not family.lines:
        return empty_figure("No structure of this kind has a law yet.", 300)
    values = [one.exponent for one in family.lines]
    low, high = min(values), max(values)
    laws = [_law(one.law, MUTED) for one in family.lines]
    bar = {"thickness": 8, "len": 0.9, "outlinewidth": 0, "tickfont": {"size": 11}}
    scale = {"cmin": low, "cmax": high if high > low else low + 1, "colorscale": FAMILY_SCALE, "colorbar": bar}
    spots = [(point, one.exponent) for one in family.lines for point in one.points]
    marks: Trace = {
        "type": "scatter",
        "mode": "markers",
        "x": [point[0] for point, _ in spots],
        "y": [point[1] for point, _ in spots],
        "marker": {"size": 5, "color": [value for _, value in spots], **scale},
        "text": [f"exponent {value:.2f}: loss {point[1]:.4f} at {point[0]:.3g} FLOPs" for point, value in spots],
        "hoverinfo": "text",
    }
    own = _law(dense.law, INK) | {"line": {"color": INK, "width": 2}}
    ticks = log_axis("training compute (FLOPs)")
    return figure([*laws, marks, own], layout(300, xaxis=ticks, yaxis=axis("loss (nats)"), showlegend=False))


def _law(pairs: Sequence[tuple[float, float]], colour: str) -> Trace:
    x, y = [pair[0] for pair in pairs], [pair[1] for pair in pairs]
    line = {"color": colour, "width": 1}
    return {"type": "scatter", "mode": "lines", "x": x, "y": y, "line": line, "hoverinfo": "skip", "opacity": 0.7}
