"""One structure's law from close by: its points, what became of them, and how far they are from the law."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from dashboards.frontier import LawCurve, target_mark
from dashboards.style import (
    AMBER,
    BLUE,
    MUTED,
    PURPLE,
    VERMILLION,
    Trace,
    axis,
    empty_figure,
    figure,
    layout,
    log_axis,
    translucent,
)

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

USED = "used"
LOOKS = {
    USED: (BLUE, "circle"),
    "above the frontier": (VERMILLION, "triangle-up-open"),
    "before the end of its run": (AMBER, "diamond-open"),
    "loss rose again": (PURPLE, "x-thin-open"),
}
CAPTION = (
    "Blue points carry the law; the others were left out of it for the reason that the legend gives. The line is the fitted "
    "law with its 90 % band, dotted beyond what was run. Choose a point to see the law without its trial."
)
RESIDUAL_CAPTION = (
    "How far each point lies from the law, in per cent of the loss: points that were used should scatter around 0 without a "
    "trend. A trend says that the law has the wrong shape."
)


class LawPoint(NamedTuple):
    """An evaluation of a trial: FLOPs, loss in nats, `used` or why it was left out, distance from the law in log loss."""

    number: int
    flops: float
    loss: float
    reason: str
    residual: float


class LawViewData(NamedTuple):
    """A structure's points and its law, and the study's target compute (FLOPs)."""

    name: str
    points: tuple[LawPoint, ...]
    law: LawCurve
    target: float


def law_view_data(name: str, found: Mapping[str, Any], target: float) -> LawViewData:
    """From what `dashboards.web.fit_worker` says of a structure's law."""
    return LawViewData(name, tuple(LawPoint(*point) for point in found["points"]), LawCurve(**found["curve"]), target)


def law_view_figure(data: LawViewData) -> Figure:
    """Loss over compute, both logarithmic; each point knows its trial."""
    if not data.points:
        return empty_figure("This structure has no point that counts yet.")
    edge = [*zip(data.law.compute, data.law.high, strict=True)]
    edge += [*zip(reversed(data.law.compute), reversed(data.law.low), strict=True)]
    quiet: dict[str, Any] = {"type": "scatter", "mode": "lines", "hoverinfo": "skip"}
    band = quiet | _pairs(edge) | {"name": "90 % band", "fill": "toself", "fillcolor": translucent(BLUE), "line": {"width": 0}}
    line = [*zip(data.law.compute, data.law.loss, strict=True)]
    split = max(data.law.measured - 1, 0)
    law = quiet | _pairs(line[: data.law.measured]) | {"name": "law", "line": {"color": BLUE, "width": 2}}
    beyond = (
        quiet | _pairs(line[split:]) | {"name": "law, beyond what was run", "line": {"color": BLUE, "width": 2, "dash": "dot"}}
    )
    marks = [_marks(reason, points, "loss") for reason, points in _groups(data).items()]
    axes = {
        "xaxis": log_axis("training compute (FLOPs)"),
        "yaxis": axis("validation loss (nats per token)", type="log", **_ticks(data)),
    }
    traces = [band, law, *([beyond] if len(line) > split + 1 else []), *marks]
    return figure(traces, layout(460, **axes, **target_mark(data.target), showlegend=True))


def residual_figure(data: LawViewData) -> Figure:
    """Distance from the law over compute, in per cent."""
    if not data.points:
        return empty_figure("This structure has no point that counts yet.")
    zero = {"type": "line", "xref": "paper", "x0": 0, "x1": 1, "y0": 0, "y1": 0, "line": {"color": MUTED}}
    marks = [_marks(reason, points, "residual") for reason, points in _groups(data).items()]
    axes = {"xaxis": log_axis("training compute (FLOPs)"), "yaxis": axis("distance from the law (%)")}
    return figure(marks, layout(300, **axes, shapes=[zero], showlegend=False))


def left_out(data: LawViewData) -> dict[str, int]:
    """Points by what became of them, `used` first."""
    return {reason: len(points) for reason, points in _groups(data).items()}


def _groups(data: LawViewData) -> dict[str, list[LawPoint]]:
    found: dict[str, list[LawPoint]] = {}
    for point in sorted(data.points, key=lambda p: (p.reason != USED, p.reason)):
        found.setdefault(point.reason, []).append(point)
    return found


def _marks(reason: str, points: Sequence[LawPoint], what: str) -> Trace:
    colour, symbol = LOOKS.get(reason, (MUTED, "circle-open"))
    values = [point.loss if what == "loss" else 100 * point.residual for point in points]
    text = [f"trial {p.number}: {p.flops:.3g} FLOPs, loss {p.loss:.4f}, {p.reason}" for p in points]
    return {
        "type": "scatter",
        "mode": "markers",
        "name": reason,
        "x": [point.flops for point in points],
        "y": values,
        "customdata": [point.number for point in points],
        "text": text,
        "hoverinfo": "text",
        "marker": {"color": colour, "symbol": symbol, "size": 8, "line": {"color": colour, "width": 1.5}},
    }


def _ticks(data: LawViewData) -> dict[str, Any]:
    """About six round losses on a logarithmic axis that covers less than a decade."""
    losses = [point.loss for point in data.points] + list(data.law.loss)
    low, high = min(losses), max(losses)
    step = next(size for size in (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 50, 100, 1e9) if (high - low) / size <= 7)
    first = int(low / step)
    ticks = [round(step * (first + i), 6) for i in range(10) if step * (first + i) <= high + step]
    return {"tickvals": [tick for tick in ticks if tick > 0], "ticktext": [f"{tick:g}" for tick in ticks if tick > 0]}


def _pairs(pairs: Sequence[tuple[float, float]]) -> dict[str, list[float]]:
    return {"x": [pair[0] for pair in pairs], "y": [pair[1] for pair in pairs]}
