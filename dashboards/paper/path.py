"""How the search went: the value of each trial, where proposals lie, and what was foreseen."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from dashboards.foresight import ForesightData, scales
from dashboards.groups import KINDS, multiplier_axis
from dashboards.paper.style import COLUMN, legend, line, log_ticks, mark, nothing, panels, rule
from dashboards.steering import FEW, SteeringData
from dashboards.style import MUTED, SOFT, Look

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def steering_paper(data: SteeringData) -> Figure:
    """Multiplier of each trial in the order of the search, the best so far as a line."""
    if not data.points:
        return nothing("No trial has given a value yet.")
    figure, (axes,) = panels(1, COLUMN, 2.6)
    axes.step([p.number for p in data.points], data.best, where="post", color=SOFT, linewidth=0.9, zorder=2)
    handles = []
    for kind, look in KINDS.items():
        mine = [point for point in data.points if point.kind == kind]
        if mine:
            style = _mark(look, len(data.points))
            where = [p.number for p in mine], [p.multiplier for p in mine]
            axes.plot(*where, linestyle="", zorder=3, rasterized=len(mine) > 3000, **style)
            handles += axes.plot([], [], linestyle="", label=kind, **mark(look))
    values = [point.multiplier for point in data.points]
    scale = multiplier_axis(min([*values, 0.8]), max([*values, 1.25]))
    floor = 10 ** scale["range"][0]
    if data.lost:
        axes.plot(data.lost, [floor] * len(data.lost), linestyle="", marker="x", color=MUTED, markersize=3, clip_on=False)
        handles += axes.plot([], [], linestyle="", marker="x", color=MUTED, label="no value")
    handles += axes.plot([], [], color=SOFT, linewidth=0.9, label="best so far")
    rule(axes, y=1)
    axes.set(yscale="log", xlabel="trial", ylabel="compute multiplier against dense", ylim=[10**end for end in scale["range"]])
    log_ticks(axes.yaxis, scale["tickvals"])
    _whole_numbers(figure)
    legend(figure, handles)
    return figure


def share_paper(data: SteeringData) -> Figure:
    """Share of proposals with omega = 0 and psi = 1 over the search, beside that of random trials."""
    kinds = [kind for kind, places in data.share.items() if places]
    if not kinds:
        return nothing("The search has proposed nothing yet.")
    figure, (axes,) = panels(1, COLUMN, 2.2)
    handles = []
    for kind in kinds:
        places = data.share[kind]
        marker: dict[str, Any] = {"marker": "o"} if len(places) == 1 else {}
        handles += axes.plot(*zip(*places, strict=True), label=kind, **line(KINDS[kind]), **marker)
    axes.set(xlabel="trial", ylabel="share with ω = 0, ψ = 1", ylim=(-0.03, 1.03))
    axes.yaxis.set_major_formatter(lambda value, _: f"{100 * value:.0f} %")
    _whole_numbers(figure)
    legend(figure, handles)
    return figure


def foresight_paper(data: ForesightData) -> Figure:
    """Multiplier foreseen before each trial, with its 90 % interval, against the one measured."""
    if not data.points:
        return nothing("No trial was foreseen: the model needs a few results first.")
    figure, (axes,) = panels(1, COLUMN, 2.9)
    handles = []
    across, upright = scales(data)
    limits, heights = ([10**end for end in scale["range"]] for scale in (across, upright))
    axes.plot(heights, heights, color=MUTED, linewidth=0.8, zorder=1)
    for kind, look in KINDS.items():
        mine = [point for point in data.points if point.kind == kind]
        for point in mine if len(data.points) <= FEW else []:
            axes.plot([point.predicted] * 2, [point.low, point.high], color=look.colour, linewidth=0.7, alpha=0.45, zorder=2)
        if mine:
            where = [p.predicted for p in mine], [p.measured for p in mine]
            axes.plot(*where, linestyle="", zorder=3, **_mark(look, len(data.points)))
            handles += axes.plot([], [], linestyle="", label=kind, **mark(look))
    axes.set(xscale="log", yscale="log", xlim=limits, ylim=heights, xlabel="foreseen multiplier", ylabel="measured multiplier")
    log_ticks(axes.xaxis, across["tickvals"])
    log_ticks(axes.yaxis, upright["tickvals"])
    axes.set_box_aspect(1)
    legend(figure, handles)
    return figure


def _mark(look: Look, points: int) -> dict[str, Any]:
    """Marker of a look, small and faint where there are many."""
    return mark(look) | ({} if points <= FEW else {"markersize": 1.6, "alpha": 0.5, "mew": 0.2})


def _whole_numbers(figure: Figure) -> None:
    """Trials are counted in whole numbers."""
    from matplotlib.ticker import MaxNLocator

    figure.axes[0].xaxis.set_major_locator(MaxNLocator(6, integer=True))
