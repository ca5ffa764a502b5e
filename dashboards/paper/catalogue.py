"""Every figure for papers by name, with the sentence that says how to read it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

from dashboards import coordinates, curves, foresight, frontier, multipliers, simplices, steering, taxonomy
from dashboards.paper import checks, loss, path, ranking, shape
from dashboards.paper.style import encoded, typeset
from dashboards.plots import highlighted
from space.errors import ConfigError
from space.structure import Structure

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from dashboards.story import ReportBundle

Highlight = Sequence[str]


class Drawing(NamedTuple):
    """A figure: the sentence for `einsearch plot --list` and for captions, and how it is drawn."""

    sentence: str
    draw: Callable[[ReportBundle, Highlight], Figure]


def _frontier(bundle: ReportBundle, keys: Highlight) -> Figure:
    data = frontier.frontier_data(bundle.points, bundle.laws, keys, bundle.target_compute)
    return loss.frontier_paper(data, loss.reducible_from(bundle.laws))


def _seconds(bundle: ReportBundle, keys: Highlight) -> Figure:
    timed = bundle.points.assign(flops=bundle.points["seconds"])
    target = float(timed["flops"].max()) if len(timed) else 1.0
    data = frontier.frontier_data(timed, bundle.timed, keys, target)
    return loss.frontier_paper(data, loss.reducible_from(bundle.timed), "training seconds on the machine that ran it")


def _families(bundle: ReportBundle, _: Highlight) -> Figure:
    data = loss.families_data(bundle.points, bundle.leaderboard, bundle.laws)
    dense = None if bundle.laws is None else loss.dense_line(bundle.points, bundle.laws)
    return loss.families_paper(data, dense, loss.reducible_from(bundle.laws))


def _curves(bundle: ReportBundle, keys: Highlight) -> Figure:
    return loss.curves_paper(curves.curves_data(bundle.points, keys))


def _multipliers(bundle: ReportBundle, _: Highlight) -> Figure:
    return ranking.multipliers_paper(multipliers.multipliers_data(bundle.leaderboard))


def _savings(bundle: ReportBundle, keys: Highlight) -> Figure:
    target = bundle.target_compute
    return ranking.multiplier_curves_paper(ranking.multiplier_curves_data(bundle.laws, keys, target), target)


def _exponents(bundle: ReportBundle, _: Highlight) -> Figure:
    rows = ranking.exponents_data(bundle.laws, list(bundle.leaderboard["key"]))
    return ranking.exponents_paper(rows, None if bundle.laws is None else bundle.laws.exponent_interval)


def _taxonomy(bundle: ReportBundle, _: Highlight) -> Figure:
    return shape.taxonomy_paper(taxonomy.taxonomy_data(bundle.trials, bundle.leaderboard))


def _simplices(bundle: ReportBundle, _: Highlight) -> Figure:
    sides: tuple[simplices.Side, ...] = ("input", "output")
    return shape.simplices_paper([simplices.simplex_data(bundle.trials, bundle.leaderboard, side) for side in sides])


def _steering(bundle: ReportBundle, _: Highlight) -> Figure:
    return path.steering_paper(steering.steering_data(bundle.trials))


def _share(bundle: ReportBundle, _: Highlight) -> Figure:
    return path.share_paper(steering.steering_data(bundle.trials))


def _foresight(bundle: ReportBundle, _: Highlight) -> Figure:
    return path.foresight_paper(foresight.foresight_data(bundle.trials, bundle.predictions))


def _coordinates(bundle: ReportBundle, keys: Highlight) -> Figure:
    return checks.coordinates_paper(coordinates.coordinates_data(bundle.movements, keys))


DRAWINGS: Mapping[str, Drawing] = {
    "frontier": Drawing(
        "Loss against training compute on log axes: full marks are the lowest loss a structure reached for its compute, "
        "faint ones are left out, lines are fitted laws with 90 % bands, dotted beyond what was run.",
        _frontier,
    ),
    "families": Drawing(
        "The laws of all structures, coloured by sharing (ω), by rank (ψ) where ω = 0, and by compute per dimension (ν) "
        "where also ψ = 1; dense is black.",
        _families,
    ),
    "multipliers": Drawing(
        "Each row is a structure: how many times its compute dense needs for the same loss at the target, with the 90 % "
        "interval; a hollow mark's interval holds 1.",
        _multipliers,
    ),
    "savings": Drawing(
        "The compute multiplier of the best structures over the compute they are given, with 90 % bands: a line that "
        "rises saves more the more is spent.",
        _savings,
    ),
    "exponents": Drawing(
        "Each row is a structure: the exponent of its law with the 90 % interval, larger is steeper; a hollow mark rests "
        "on a single run, which takes its exponent from the others.",
        _exponents,
    ),
    "seconds": Drawing(
        "Loss against training time on the machine that ran the study, drawn as in frontier: FLOPs are not time.",
        _seconds,
    ),
    "taxonomy": Drawing(
        "Every structure tried by sharing (ω), rank (ψ) and compute per dimension (ν), blue where it needs less compute "
        "than dense and orange where more; the black edge is ω = 0, ψ = 1.",
        _taxonomy,
    ),
    "simplices": Drawing(
        "How structures split input and output among the factors: a corner gives all to factor A, to factor B or to both, "
        "and a larger point stands for more structures.",
        _simplices,
    ),
    "steering": Drawing(
        "The compute multiplier each trial measured, in the order of the search; the line is the best so far, and crosses "
        "at the foot are trials that gave no value.",
        _steering,
    ),
    "share": Drawing(
        "Of the last ten proposals and of the last ten random trials, the share with ω = 0 and ψ = 1: a search that "
        "learns rises above chance if that is where good structures are.",
        _share,
    ),
    "foresight": Drawing(
        "The multiplier that the model foresees for a trial from the trials before it, against the one measured: on the "
        "diagonal it came as foreseen, and nine of ten upright 90 % intervals should cross it.",
        _foresight,
    ),
    "curves": Drawing(
        "Validation loss along the runs, warmup included; compare lines of one rung, since others spend other amounts of "
        "compute on a token.",
        _curves,
    ),
    "coordinates": Drawing(
        "How far activations had moved a few steps into training, over the width, by kind of layer: where lines are flat, the "
        "learning rate transfers from width to width.",
        _coordinates,
    ),
}


def paper_figure(name: str, bundle: ReportBundle, structures: Sequence[str] = (), suffix: str = "svg") -> bytes:
    """A figure as the bytes of a file.

    Args:
        structures: the structures to draw in colour beside dense; without any, the best of the leaderboard.
        suffix: svg, pdf or png.

    Raises:
        ConfigError: no such figure; the message lists those there are.
        StructureError: a text that names no structure.
    """
    if name not in DRAWINGS:
        raise ConfigError(f"no figure {name!r}; there are {', '.join(DRAWINGS)}")
    keys = ["dense", *(Structure.parse(text).key for text in structures)]
    return drawn(DRAWINGS[name], bundle, keys if structures else highlighted(bundle.leaderboard), suffix)


def drawn(drawing: Drawing, bundle: ReportBundle, keys: Highlight, suffix: str) -> bytes:
    """A figure with these structures in colour, as the bytes of a file."""
    with typeset():
        return encoded(drawing.draw(bundle, keys), suffix)
