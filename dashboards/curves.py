"""Learning curves: validation loss over tokens, warmup included."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from dashboards.groups import broken_line, thin
from dashboards.style import MUTED, Trace, axis, empty_figure, figure, layout, log_axis, looks

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pandas import DataFrame
    from plotly.graph_objects import Figure

CURVES = 160
CAPTION = (
    "Each line is one trial's validation loss as it trains; only compare lines of the same rung directly, "
    "because others spend other amounts of compute on a token."
)


class Curve(NamedTuple):
    """One trial: tokens seen and validation loss in nats per token at each evaluation."""

    number: int
    key: str
    name: str
    tokens: tuple[float, ...]
    loss: tuple[float, ...]


class CurvesData(NamedTuple):
    """Curves of the highlighted structures and of the others, and how many of all are not drawn."""

    highlighted: dict[str, tuple[Curve, ...]]
    others: tuple[Curve, ...]
    hidden: int


def curves_data(points: DataFrame, highlight: Sequence[str], limit: int = CURVES) -> CurvesData:
    """At most `limit` curves, half of them of the structures whose keys are in `highlight`."""
    finite = points[points["loss"].notna()].sort_values(["number", "step"])
    curves = [
        Curve(int(str(number)), rows["key"].iloc[0], rows["structure"].iloc[0], *_pairs(rows))
        for number, rows in finite.groupby("number", sort=True)
    ]
    share = max(limit // (2 * max(len(highlight), 1)), 1)
    chosen = {key: tuple(thin([c for c in curves if c.key == key], share)) for key in highlight}
    others = tuple(thin([curve for curve in curves if curve.key not in chosen], limit // 2))
    drawn = len(others) + sum(len(group) for group in chosen.values())
    return CurvesData({key: group for key, group in chosen.items() if group}, others, len(curves) - drawn)


def _pairs(rows: DataFrame) -> tuple[tuple[float, ...], tuple[float, ...]]:
    return tuple(float(t) for t in rows["tokens"]), tuple(float(loss) for loss in rows["loss"])


def curves_figure(data: CurvesData) -> Figure:
    """Lines over a log axis of tokens, dense and the best structures in colour."""
    if not data.highlighted and not data.others:
        return empty_figure("No trial has been evaluated yet.")
    styles = looks(list(data.highlighted))
    rest = f"others ({data.hidden} more not drawn)" if data.hidden else "others"
    traces = [_trace(rest, data.others, {"color": MUTED, "width": 1}, 0.6)] if data.others else []
    for key, curves in reversed(data.highlighted.items()):
        line = {"color": styles[key].colour, "dash": styles[key].dash, "width": 1.8}
        traces.append(_trace(curves[0].name, curves, line, 0.9))
    axes = {"xaxis": log_axis("training tokens"), "yaxis": axis("validation loss (nats per token)")}
    arrangement = layout(420, **axes, showlegend=True)
    return figure(traces, arrangement | {"legend": arrangement["legend"] | {"traceorder": "reversed"}})


def _trace(name: str, curves: Sequence[Curve], line: dict[str, object], opacity: float) -> Trace:
    return {
        "type": "scatter",
        "mode": "lines" if any(len(curve.loss) > 1 for curve in curves) else "markers",
        "name": name,
        "x": broken_line(curve.tokens for curve in curves),
        "y": broken_line(curve.loss for curve in curves),
        "line": line,
        "opacity": opacity,
        "hovertemplate": f"{name}<br>%{{x:.3g}} tokens, loss %{{y:.4f}}<extra></extra>",
    }
