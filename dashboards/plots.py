"""All plots of a study, with titles and captions: what the report shows, and the web page too."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from dashboards import curves, frontier, multipliers, simplices, steering, taxonomy

if TYPE_CHECKING:
    from pandas import DataFrame
    from plotly.graph_objects import Figure

    from storage.laws import LawSet

HIGHLIGHTED = 4
"""How many of the best structures are drawn in colour beside dense."""


class Plot(NamedTuple):
    """A figure with its name (an HTML id), its title and the sentence that says how to read it."""

    name: str
    title: str
    caption: str
    figure: Figure


def highlighted(leaderboard: DataFrame, count: int = HIGHLIGHTED) -> list[str]:
    """Keys of dense and the best structures, in the order of the leaderboard."""
    return ["dense", *leaderboard.loc[leaderboard["key"] != "dense", "key"].head(count)]


def plots(trials: DataFrame, points: DataFrame, leaderboard: DataFrame, laws: LawSet | None, target: float) -> dict[str, Plot]:
    """Every plot of a study by name; `target` is its target compute in FLOPs.  Frames may be empty."""
    best = highlighted(leaderboard)
    law_figure = frontier.frontier_figure(frontier.frontier_data(points, laws, best, target))
    forest = multipliers.multipliers_figure(multipliers.multipliers_data(leaderboard))
    steps = steering.steering_data(trials)
    lines = curves.curves_figure(curves.curves_data(points, best))
    drawn = [
        Plot("frontier", "Loss against compute", frontier.CAPTION, law_figure),
        Plot("multipliers", "Compute multipliers", multipliers.CAPTION, forest),
        *_taxonomy(trials, leaderboard),
        *_simplices(trials, leaderboard),
        Plot("steering", "Value of each trial", steering.CAPTION, steering.steering_figure(steps)),
        Plot("share", "Where the search looks", steering.SHARE_CAPTION, steering.share_figure(steps)),
        Plot("curves", "Learning curves", curves.CAPTION, lines),
    ]
    return {plot.name: plot for plot in drawn}


def _taxonomy(trials: DataFrame, leaderboard: DataFrame) -> list[Plot]:
    data = taxonomy.taxonomy_data(trials, leaderboard)
    flat = [
        Plot(
            f"{across}-{up}",
            f"{taxonomy.TITLES[up][0]} over {taxonomy.TITLES[across][0]}",
            taxonomy.PROJECTION_CAPTION,
            taxonomy.projection_figure(data, across, up),
        )
        for across, up in taxonomy.PROJECTIONS
    ]
    return [Plot("taxonomy", "Taxonomy", taxonomy.CAPTION, taxonomy.taxonomy_figure(data)), *flat]


def _simplices(trials: DataFrame, leaderboard: DataFrame) -> list[Plot]:
    sides: tuple[simplices.Side, ...] = ("input", "output")
    return [
        Plot(
            f"simplex-{side}",
            f"Split of the {side}",
            simplices.CAPTION,
            simplices.simplex_figure(simplices.simplex_data(trials, leaderboard, side)),
        )
        for side in sides
    ]
