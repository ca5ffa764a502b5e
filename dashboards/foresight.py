"""Did the model that steers the search know what it was doing: what it foresaw of each trial against what came."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, NamedTuple

from dashboards.groups import KINDS, multiplier_axis, ring
from dashboards.numbers import count_text, decimal_text, interval_text
from dashboards.style import MUTED, Trace, axis, empty_figure, figure, layout

if TYPE_CHECKING:
    from pandas import DataFrame
    from plotly.graph_objects import Figure

NORMAL_90 = 1.6449
"""Half the width of a normal distribution's central 90 %, in standard deviations."""
CAPTION = (
    "Each point is a trial: across, the multiplier that the search's model foresees for it from the trials before it, "
    "with a 90 % interval drawn upright; up, what was measured; on the diagonal it came as foreseen, and nine of ten "
    "intervals should cross it."
)
FEW = 300


class ForesightPoint(NamedTuple):
    """A trial: multiplier foreseen from earlier trials with its 90 % interval, and the multiplier measured."""

    number: int
    kind: str
    name: str
    predicted: float
    low: float
    high: float
    measured: float


class ForesightData(NamedTuple):
    """Foreseen trials, by number."""

    points: tuple[ForesightPoint, ...]

    @property
    def inside(self) -> int:
        """How many were measured inside their interval."""
        return sum(point.low <= point.measured <= point.high for point in self.points)

    @property
    def error(self) -> float:
        """Typical factor between foreseen and measured: exp of the root mean square of log errors; NaN without a point."""
        logs = [math.log(point.measured / point.predicted) for point in self.points]
        return math.exp(math.sqrt(sum(x * x for x in logs) / len(logs))) if logs else math.nan


def foresight_data(trials: DataFrame, predictions: DataFrame | None) -> ForesightData:
    """Trials that have both a value and a prediction.

    Args:
        predictions: `number`, and `mean` and `sd` of the natural log multiplier that was foreseen, noise included.
    """
    if predictions is None:
        return ForesightData(())
    columns = ["number", "kind", "structure", "mean", "sd", "value"]
    rows = trials.loc[trials["value"].notna()].merge(predictions, on="number")[columns].sort_values("number")
    return ForesightData(
        tuple(foresight_point(int(number), *rest) for number, *rest in rows.itertuples(index=False, name=None))
    )


def foresight_point(number: int, kind: str, name: str, mean: float, sd: float, value: float) -> ForesightPoint:
    """From the foreseen natural log multiplier, normal with `mean` and `sd`, and the measured one, `value`."""
    ends = mean - NORMAL_90 * sd, mean + NORMAL_90 * sd
    return ForesightPoint(number, kind, name, math.exp(mean), math.exp(ends[0]), math.exp(ends[1]), math.exp(value))


def foresight_text(data: ForesightData) -> str:
    """How well it foresaw, in one sentence; empty without a point."""
    if not data.points:
        return ""
    count = len(data.points)
    were, came = ("was" if number == 1 else "were" for number in (count, data.inside))
    return (
        f"Of {count_text(count, 'trial')} that {were} foreseen, {data.inside} {came} measured inside the 90 % interval; "
        f"foreseen and measured multipliers typically differ by a factor of {decimal_text(data.error, 2)}."
    )


def scales(data: ForesightData) -> tuple[dict[str, Any], dict[str, Any]]:
    """The axes of what was foreseen and of what was measured: the upright one holds the intervals too, where they are drawn."""
    ends = [end for point in data.points for end in (point.predicted, point.measured)]
    tips = [end for point in data.points for end in (point.low, point.high)] if len(data.points) <= FEW else []
    across, upright = (multiplier_axis(min(*found, 0.9), max(*found, 1.1)) for found in (ends, [*ends, *tips]))
    return across, upright


def foresight_figure(data: ForesightData) -> Figure:
    """Measured over foreseen multiplier on log axes; the intervals that are drawn are in sight."""
    if not data.points:
        return empty_figure("No trial was foreseen: the model needs a few results first.")
    scale, upright = scales(data)
    limits = [10.0**end for end in scale["range"]]
    same: Trace = {"type": "scatter", "mode": "lines", "x": limits, "y": limits, "hoverinfo": "skip", "showlegend": False}
    kinds = [kind for kind in KINDS if any(point.kind == kind for point in data.points)]
    axes = {"xaxis": axis("foreseen multiplier", **scale), "yaxis": axis("measured multiplier", **upright)}
    traces = [same | {"line": {"color": MUTED, "width": 1}}]
    for kind in kinds:
        mine = [point for point in data.points if point.kind == kind]
        traces += [*([_bars(mine, kind)] if len(data.points) <= FEW else []), _marks(mine, kind, len(data.points) <= FEW)]
    return figure(traces, layout(420, **axes, showlegend=True))


def _bars(points: list[ForesightPoint], kind: str) -> Trace:
    """Upright intervals as one broken line."""
    x = [end for p in points for end in (p.predicted, p.predicted, None)]
    y = [end for p in points for end in (p.low, p.high, None)]
    line = {"color": KINDS[kind].colour, "width": 1}
    quiet = {"hoverinfo": "skip", "showlegend": False, "legendgroup": kind}
    return {"type": "scatter", "mode": "lines", "x": x, "y": y, "line": line, "opacity": 0.45, **quiet}


def _marks(points: list[ForesightPoint], kind: str, few: bool) -> Trace:
    def hover(p: ForesightPoint) -> str:
        foreseen = interval_text(p.predicted, p.low, p.high)
        return f"<b>{p.name}</b><br>trial {p.number}, {kind}<br>foreseen {foreseen}, measured {decimal_text(p.measured, 2)}"

    return {
        "type": "scatter",
        "mode": "markers",
        "name": kind,
        "legendgroup": kind,
        "x": [p.predicted for p in points],
        "y": [p.measured for p in points],
        "marker": ring(KINDS[kind], size=8 if few else 4),
        "text": [hover(p) for p in points],
        "hoverinfo": "text",
    }
