"""How a study goes on: trials that ended over time, the path of structures through the rungs, studies side by side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from itertools import accumulate
from typing import TYPE_CHECKING, NamedTuple

from dashboards.groups import broken_line, multiplier_axis, ring
from dashboards.numbers import count_text, decimal_text
from dashboards.style import (
    BLUE,
    GREEN,
    LOOKS,
    MUTED,
    PURPLE,
    SOFT,
    VERMILLION,
    Trace,
    axis,
    empty_figure,
    figure,
    layout,
    log_axis,
    looks,
)

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

STATES = {"completed": BLUE, "truncated": GREEN, "diverged": VERMILLION, "failed": PURPLE}
CAPTION = "Trials that have ended, summed over time by how they ended: a steeper line is a faster study, a flat one is idle."
RUNGS_CAPTION = (
    "Each mark is a structure at a rung: its mean multiplier there, over the compute of the rung. A line joins the rungs of a "
    "structure that was promoted; one that rises does better the more compute it gets."
)
COMPARE_CAPTION = (
    "The best multiplier that each study had found by the time it had spent so much compute: higher and left is better. "
    "Multipliers of different data or targets are not comparable."
)
RATES_CAPTION = (
    "Each mark is a trial: its loss over its base learning rate, one colour a rung. The lowest place of each rung should be"
    " the same."
)

MINUTE = 60.0
FEW = 5
"""Up to so many trials each has a mark of its own."""


class ProgressData(NamedTuple):
    """(epoch seconds, number so far) of each final state."""

    lines: Mapping[str, tuple[tuple[float, int], ...]]


class RungPath(NamedTuple):
    """A structure's (compute in FLOPs, mean multiplier, trials) at each rung that it was tried on."""

    name: str
    places: tuple[tuple[float, float, int], ...]


class RunningBest(NamedTuple):
    """A study's (FLOPs spent, best multiplier so far)."""

    name: str
    places: tuple[tuple[float, float], ...]


def progress_figure(data: ProgressData) -> Figure:
    """Steps over time."""
    drawn = {state: line for state, line in data.lines.items() if line}
    if not drawn:
        return empty_figure("No trial has ended yet.")
    traces: list[Trace] = [
        {
            "type": "scatter",
            "mode": "lines+markers" if len(line) == 1 else "lines",
            "name": state,
            "x": [_moment(when) for when, _ in line],
            "y": [count for _, count in line],
            "line": {"color": STATES[state], "width": 2, "shape": "hv"},
        }
        for state, line in drawn.items()
    ]
    x, y = axis("time (UTC)", type="date"), axis("trials", rangemode="tozero")
    ends = [place for line in drawn.values() for place in line]
    first, last, most = min(ends)[0], max(ends)[0], max(count for _, count in ends)
    if last - first < MINUTE:
        x["range"] = [_moment((first + last) / 2 + shift) for shift in (-MINUTE, MINUTE)]
    if most <= FEW:
        y["dtick"] = 1
    return figure(traces, layout(280, xaxis=x, yaxis=y, showlegend=True))


def _moment(when: float) -> str:
    return datetime.fromtimestamp(when, UTC).strftime("%Y-%m-%d %H:%M:%S")


def rungs_figure(paths: Sequence[RungPath], highlight: Sequence[str]) -> Figure:
    """Paths over a log axis of compute, those of `highlight` in colour."""
    if not paths:
        return empty_figure("No trial has given a value yet.")
    bright = sorted((path for path in paths if path.name in highlight), key=lambda path: highlight.index(path.name))
    faint = [path for path in paths if path.name not in highlight]
    traces = [_path_trace("others", faint, {"color": MUTED, "width": 1}, 5)] if faint else []
    styles = looks(highlight)
    for path in bright:
        look = styles[path.name]
        traces.append(_path_trace(path.name, [path], {"color": look.colour, "dash": look.dash, "width": 2}, 9))
    values = [value for path in paths for _, value, _ in path.places]
    one = {"type": "line", "xref": "paper", "x0": 0, "x1": 1, "y0": 1, "y1": 1, "line": {"color": SOFT}}
    y = axis("compute multiplier", **multiplier_axis(min([*values, 0.8]), max([*values, 1.25])))
    return figure(traces, layout(420, xaxis=log_axis("compute of the rung (FLOPs)"), yaxis=y, shapes=[one], showlegend=True))


def _path_trace(name: str, paths: Sequence[RungPath], line: dict[str, object], size: int) -> Trace:
    def hover(path: RungPath, place: tuple[float, float, int]) -> str:
        flops, value, count = place
        return f"<b>{path.name}</b><br>{decimal_text(value, 2)} at {flops:.3g} FLOPs, {count_text(count, 'trial')}"

    text = [[hover(path, place) for place in path.places] for path in paths]
    return {
        "type": "scatter",
        "mode": "lines+markers",
        "name": name,
        "x": broken_line([flops for flops, _, _ in path.places] for path in paths),
        "y": broken_line([value for _, value, _ in path.places] for path in paths),
        "text": [word for group in text for word in [*group, ""]][:-1],
        "hoverinfo": "text",
        "line": line,
        "marker": {"size": size, "color": line["color"]},
    }


def running_best(name: str, spent: Sequence[float], multipliers: Sequence[float]) -> RunningBest:
    """From the trials in the order in which they ended: FLOPs of each, and its multiplier (0 where it has none)."""
    return RunningBest(name, tuple(zip(accumulate(spent), accumulate(multipliers, max), strict=True)))


def compare_figure(studies: Sequence[RunningBest]) -> Figure:
    """Steps over a log axis of compute spent."""
    drawn = [RunningBest(name, tuple(place for place in places if place[1] > 0)) for name, places in studies]
    drawn = [study for study in drawn if study.places]
    if not drawn:
        return empty_figure("No study has a value to compare yet.")
    traces: list[Trace] = []
    for study, look in zip(drawn, [*LOOKS] * len(drawn), strict=False):
        x, y = ([place[i] for place in study.places] for i in (0, 1))
        line = {"color": look.colour, "dash": look.dash, "width": 2, "shape": "hv"}
        mode = "lines" if len(x) > 1 else "markers"
        traces.append({"type": "scatter", "mode": mode, "name": study.name, "x": x, "y": y, "line": line})
    values = [place[1] for study in drawn for place in study.places]
    y_axis = axis("best multiplier so far", **multiplier_axis(min([*values, 0.9]), max([*values, 1.1])))
    return figure(traces, layout(380, xaxis=log_axis("training FLOPs spent"), yaxis=y_axis, showlegend=True))


def rates_figure(groups: Mapping[int, Sequence[tuple[float, float, int]]]) -> Figure:
    """(learning rate, loss, trial) of each rung over a log axis of the rate."""
    if not groups:
        return empty_figure("No trial has a loss yet.")
    traces: list[Trace] = [
        {
            "type": "scatter",
            "mode": "markers",
            "name": f"rung {rung}",
            "x": [rate for rate, _, _ in places],
            "y": [loss for _, loss, _ in places],
            "text": [f"trial {number}: loss {loss:.4f} at {rate:g}" for rate, loss, number in places],
            "hoverinfo": "text",
            "marker": ring(look),
        }
        for (rung, places), look in zip(sorted(groups.items()), [*LOOKS] * len(groups), strict=False)
    ]
    axes = {"xaxis": axis("base learning rate", type="log"), "yaxis": axis("final loss (nats per token)")}
    return figure(traces, layout(340, **axes, showlegend=True))
