"""Checks of a study: whether activations change as fast at every width."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dashboards.coordinates import NOTHING, TITLES, CoordinatesData, scale, widths
from dashboards.paper.style import PAGE, legend, line, log_ticks, mark, nothing, panels
from dashboards.style import looks
from storage.schema import LAYER_KINDS

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def coordinates_paper(data: CoordinatesData) -> Figure:
    """A panel for each kind of layer: the change of activations over the width, a line for each structure."""
    if not data.lines:
        return nothing(NOTHING)
    styles, names = looks(data.keys), {one.key: one.name for one in data.lines}
    figure, places = panels(len(LAYER_KINDS), PAGE, 1.9)
    for kind, axes in zip(LAYER_KINDS, places, strict=True):
        for one in (one for one in data.lines if one.kind == kind):
            look = styles[one.key]
            axes.plot([p[0] for p in one.places], [p[1] for p in one.places], **(mark(look) | line(look)))
        ends = scale(data.lines, kind)
        axes.set(xscale="log", yscale="log", title=TITLES[kind], xlabel="width", ylim=[10**end for end in ends["range"]])
        log_ticks(axes.xaxis, widths(data.lines, 3))
        log_ticks(axes.yaxis, ends["tickvals"])
    places[0].set_ylabel(f"change after {data.step} steps")
    handles = [places[0].plot([], [], label=names[key], **(mark(look) | line(look)))[0] for key, look in styles.items()]
    legend(figure, handles, 5)
    return figure
