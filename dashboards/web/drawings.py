"""Every plot of the page by name: its title, the sentence that says how it is read, and how it is made."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from dashboards import coordinates, curves, foresight, frontier, law_view, multipliers, progress, simplices, steering, taxonomy
from dashboards.style import few_decades, plainly
from dashboards.web import structure_plots, trial_plots
from dashboards.web.asked import Asked

if TYPE_CHECKING:
    from plotly.graph_objects import Figure


class Plot(NamedTuple):
    """A plot: `height` in pixels, `caption` says how to read it."""

    title: str
    caption: str
    height: int
    draw: Callable[[Asked], Figure]


_PROJECTIONS: dict[str, Plot] = {
    f"{across}-{up}": Plot(
        f"{taxonomy.TITLES[up][0]} over {taxonomy.TITLES[across][0]}",
        taxonomy.PROJECTION_CAPTION,
        300,
        lambda asked, a=across, u=up: taxonomy.projection_figure(structure_plots.space(asked), a, u),  # type: ignore[misc]
    )
    for across, up in taxonomy.PROJECTIONS
}

SECONDS_CAPTION = multipliers.CAPTION.replace(
    "more compute dense needs", "more seconds dense needs, on the machines that ran it,"
)

PLOTS: Mapping[str, Plot] = {
    "progress": Plot("Trials that have ended", progress.CAPTION, 280, trial_plots.draw_progress),
    "multipliers": Plot("Compute multipliers", multipliers.CAPTION, 420, structure_plots.draw_multipliers),
    "seconds": Plot("The same in seconds", SECONDS_CAPTION, 420, lambda asked: structure_plots.draw_multipliers(asked, True)),
    "frontier": Plot("Loss against compute", frontier.CAPTION, 500, structure_plots.draw_frontier),
    "law": Plot("Points and law", law_view.CAPTION, 460, structure_plots.draw_law),
    "residuals": Plot(
        "Distance from the law", law_view.RESIDUAL_CAPTION, 300, lambda asked: structure_plots.draw_law(asked, True)
    ),
    "taxonomy": Plot("Taxonomy", taxonomy.CAPTION, 460, structure_plots.draw_taxonomy),
    **_PROJECTIONS,
    "simplex-input": Plot(
        "Split of the input", simplices.CAPTION, 400, lambda asked: structure_plots.draw_simplex(asked, "input")
    ),
    "simplex-output": Plot(
        "Split of the output", simplices.CAPTION, 400, lambda asked: structure_plots.draw_simplex(asked, "output")
    ),
    "steering": Plot(
        "Value of each trial", steering.CAPTION, 360, lambda asked: steering.steering_figure(trial_plots.steered(asked))
    ),
    "share": Plot(
        "Where the search looks", steering.SHARE_CAPTION, 260, lambda asked: steering.share_figure(trial_plots.steered(asked))
    ),
    "foresight": Plot("Foreseen and measured", foresight.CAPTION, 420, trial_plots.draw_foresight),
    "curves": Plot("Learning curves", curves.CAPTION, 420, trial_plots.draw_curves),
    "trial": Plot(
        "Learning curve", "The validation loss of this trial as it trains, the warmup included.", 340, trial_plots.draw_trial
    ),
    "rungs": Plot("Structures from rung to rung", progress.RUNGS_CAPTION, 420, trial_plots.draw_rungs),
    "rates": Plot("Loss over learning rate", progress.RATES_CAPTION, 340, trial_plots.draw_rates),
    "coordinates": Plot("Coordinates", coordinates.CAPTION, coordinates.HEIGHT, structure_plots.draw_coordinates),
    "best": Plot("Best so far over compute", progress.COMPARE_CAPTION, 380, trial_plots.draw_compare),
}
"""All plots of a study."""


_ONE = threading.Lock()


def json_values(value: Any) -> Any:
    """The value as JSON holds it: what is not finite is null, sequences are lists."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {name: json_values(part) for name, part in value.items()}
    return [json_values(part) for part in value] if isinstance(value, list | tuple) else value


def figure_of(plot: Plot, asked: Asked) -> dict[str, Any]:
    """The figure as JSON values, with enough marks on logarithmic axes that span less than two decades.

    One at a time, for a large study's takes tens of megabytes while it is made.
    """
    with _ONE, plainly():
        drawn = plot.draw(asked)
        found: dict[str, Any] = json_values({"data": drawn.data, "layout": drawn.layout})
    few_decades(found)
    return found


def rows_of(figure: Mapping[str, Any]) -> list[list[Any]]:
    """What a figure draws, as rows under a first row of names: for CSV."""
    names = ("x", "y", "z", "a", "b", "c")
    table: list[list[Any]] = [["trace", *names, "text"]]
    for trace in figure.get("data", []):
        columns = {name: trace[name] for name in names if isinstance(trace.get(name), (list, tuple))}
        text = trace.get("text")
        size = max((len(column) for column in columns.values()), default=0)
        for place in range(size):
            words = text[place] if isinstance(text, (list, tuple)) and place < len(text) else ""
            values = [columns[name][place] if name in columns and place < len(columns[name]) else None for name in names]
            table.append(
                [trace.get("name", ""), *values, str(words).replace("<br>", "; ").replace("<b>", "").replace("</b>", "")]
            )
    return table
