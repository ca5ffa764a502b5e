"""Does the search learn: the value of its trials one after another, and where its proposals lie."""

from __future__ import annotations

import math
from itertools import accumulate
from typing import TYPE_CHECKING, Any, NamedTuple

from dashboards.groups import FULL, KINDS, group, multiplier_axis, ring
from dashboards.numbers import decimal_text
from dashboards.style import INK, MUTED, SOFT, Trace, axis, empty_figure, figure, layout

if TYPE_CHECKING:
    from pandas import DataFrame
    from plotly.graph_objects import Figure

WINDOW = 10
FEW = 300
"""Above this many trials the marks are small and faint."""
CAPTION = (
    "Each point is a trial in the order of the search, higher is better and 1 is as good as dense; the "
    "line is the best so far, and crosses at the foot are trials that gave no value."
)
SHARE_CAPTION = (
    f"Of the last {WINDOW} trials of each kind, the share without parameter sharing and of full rank (ω = "
    "0, ψ = 1): a search that learns should rise above random trials if that is where good structures are."
)


class SteeringPoint(NamedTuple):
    """A trial that gave a value; `multiplier` is the compute multiplier it measured."""

    number: int
    kind: str
    name: str
    multiplier: float
    full: bool  # omega = 0 and psi = 1


class SteeringData(NamedTuple):
    """Trials by number: with a value, and the numbers of finished ones without."""

    points: tuple[SteeringPoint, ...]
    lost: tuple[int, ...]
    share: dict[str, tuple[tuple[int, float], ...]]

    @property
    def best(self) -> tuple[float, ...]:
        """Highest multiplier up to each point."""
        return tuple(accumulate((point.multiplier for point in self.points), max))


def steering_data(trials: DataFrame) -> SteeringData:
    """From the trials frame; `value` is a natural log compute multiplier."""
    columns = ["number", "kind", "structure", "value", "omega", "psi", "state"]
    rows = list(trials.loc[trials["key"].notna(), columns].sort_values("number").itertuples(index=False, name=None))
    points = tuple(
        SteeringPoint(int(number), kind, name, math.exp(value), group(omega, psi) == FULL)
        for number, kind, name, value, omega, psi, _ in rows
        if math.isfinite(value)
    )
    ended = {"completed", "truncated", "diverged", "failed"}
    lost = tuple(int(row[0]) for row in rows if not math.isfinite(row[3]) and row[6] in ended)
    places = [(int(row[0]), row[1], group(row[4], row[5]) == FULL) for row in rows]
    share = {kind: _share([(n, full) for n, k, full in places if k == kind]) for kind in ("proposal", "random")}
    return SteeringData(points, lost, share)


def _share(places: list[tuple[int, bool]]) -> tuple[tuple[int, float], ...]:
    """(trial number, share of full among the last WINDOW of this kind)."""
    flags = [full for _, full in places]
    windows = [flags[max(0, i - WINDOW + 1) : i + 1] for i in range(len(flags))]
    return tuple((n, sum(w) / len(w)) for (n, _), w in zip(places, windows, strict=True))


def steering_figure(data: SteeringData) -> Figure:
    """Multiplier over trial number, a marker for each kind, and the best so far."""
    if not data.points:
        return empty_figure("No trial has given a value yet.")
    best: Trace = {"type": "scatter", "mode": "lines", "name": "best so far", "hoverinfo": "skip"}
    best |= {"x": [p.number for p in data.points], "y": list(data.best)}
    best |= {"line": {"color": SOFT, "width": 1.5, "shape": "hv"}}
    kinds = [kind for kind in KINDS if any(point.kind == kind for point in data.points)]
    one = {"type": "line", "xref": "paper", "x0": 0, "x1": 1, "y0": 1, "y1": 1, "line": {"color": MUTED}}
    y = axis("compute multiplier", **multiplier_axis(*_reach(data)))
    traces = [best, *(_kind_trace(data, kind) for kind in kinds), *_lost_trace(data)]
    return figure(traces, layout(360, xaxis=_trial_axis(data), yaxis=y, shapes=[one]))


def _trial_axis(data: SteeringData) -> dict[str, Any]:
    """From the first trial to the last, with room for a mark at either end: the same in both figures."""
    last = max([1, *data.lost, *(point.number for point in data.points), *(p[0] for line in data.share.values() for p in line)])
    return axis("trial", range=[-0.02 * last, 1.02 * last], tickformat="d")


def _reach(data: SteeringData) -> tuple[float, float]:
    values = [point.multiplier for point in data.points]
    return min([*values, 0.8]), max([*values, 1.25])


def _kind_trace(data: SteeringData, kind: str) -> Trace:
    mine = [point for point in data.points if point.kind == kind]
    few = len(data.points) <= FEW
    return {
        "type": "scatter",
        "mode": "markers",
        "name": kind,
        "x": [point.number for point in mine],
        "y": [point.multiplier for point in mine],
        "marker": ring(KINDS[kind], size=8 if few else 4) | {"opacity": 0.85 if few else 0.5},
        "text": [f"<b>{p.name}</b><br>trial {p.number}, {kind}, {decimal_text(p.multiplier, 2)}" for p in mine],
        "hoverinfo": "text",
    }


def _lost_trace(data: SteeringData) -> list[Trace]:
    """Crosses at the foot of the plot, if there are trials without a value."""
    if not data.lost:
        return []
    floor = 10.0 ** multiplier_axis(*_reach(data))["range"][0]
    marks = {"symbol": "x", "size": 6, "color": MUTED}
    trace: Trace = {
        "type": "scatter",
        "mode": "markers",
        "name": "no value",
        "marker": marks,
        "cliponaxis": False,
    }
    return [trace | {"x": list(data.lost), "y": [floor] * len(data.lost), "hovertemplate": "trial %{x}<extra></extra>"}]


def share_figure(data: SteeringData) -> Figure:
    """Share of proposals with omega = 0 and psi = 1 over trial number, beside that of random trials."""
    if not any(data.share.values()):
        return empty_figure("The search has proposed nothing yet.")
    shares = [0, 0.25, 0.5, 0.75, 1]
    y = axis("share", range=[-0.04, 1.04], tickvals=shares, ticktext=[f"{100 * share:.0f} %" for share in shares])
    kinds = [kind for kind, places in data.share.items() if places]
    return figure(
        [_share_trace(data, kind) for kind in kinds],
        layout(260, xaxis=_trial_axis(data), yaxis=y, showlegend=True),
    )


def _share_trace(data: SteeringData, kind: str) -> Trace:
    places = data.share[kind]
    look = KINDS[kind]
    return {
        "type": "scatter",
        "mode": "lines" if len(places) > 1 else "markers",
        "name": kind,
        "x": [number for number, _ in places],
        "y": [share for _, share in places],
        "line": {"color": look.colour, "dash": look.dash, "width": 2.5 if look.colour != INK else 2},
        "hovertemplate": "trial %{x}: %{y:.0%}<extra></extra>",
    }
