"""What structures save: multipliers, multipliers over compute, and exponents (P1 Figs. 6 and 7, P2 Fig. 4)."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

from dashboards.groups import GROUPS, group, multiplier_axis
from dashboards.multipliers import FAR, MultipliersData
from dashboards.paper.style import BEYOND, COLUMN, decades, legend, log_ticks, mark, nothing, panels, rule
from dashboards.paper.style import target as mark_target
from dashboards.style import DENSE_LOOK, MUTED, looks
from space.structure import Structure

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from storage.laws import LawSet

ROWS = 16
LEVEL = 0.9
_ROW = 0.19
"""Height of a row in inches."""


def multipliers_paper(data: MultipliersData) -> Figure:
    """One row a structure, best first, with its 90 % interval; dense is the line at 1."""
    rows = data.rows[:ROWS]
    if not rows:
        return nothing("No structure has a compute multiplier yet.")
    figure, (axes,) = panels(1, COLUMN, 0.75 + _ROW * len(rows))
    low = max(min([row.low for row in rows if row.low > 0] + [row.multiplier for row in rows] + [0.9]), 1 / FAR)
    high = min(max([row.high for row in rows if row.high > 0] + [row.multiplier for row in rows] + [1.1]), FAR)
    for place, row in enumerate(rows):
        look = GROUPS[row.group]
        ends = [max(row.low, low / 2), min(row.high, high * 2)] if row.low > 0 else [row.multiplier] * 2
        axes.plot(ends, [place] * 2, color=look.colour, linewidth=1.1)
        axes.plot([row.multiplier], [place], **mark(look, row.undecided))
    _rows(axes, [row.name for row in rows])
    rule(axes, x=1)
    scale = multiplier_axis(low, high)
    axes.set(xscale="log", xlabel="compute multiplier against dense", xlim=[10**end for end in scale["range"]])
    log_ticks(axes.xaxis, scale["tickvals"])
    handles = [axes.plot([], [], label=name, **mark(look))[0] for name, look in GROUPS.items() if _has(rows, name)]
    legend(figure, handles)
    return figure


def _has(rows: Sequence[object], name: str) -> bool:
    return any(getattr(row, "group", "") == name for row in rows)


def _rows(axes: Axes, names: Sequence[str]) -> None:
    """Names down the left side, the first on top."""
    axes.set_yticks(range(len(names)), names)
    axes.set_ylim(len(names) - 0.4, -0.6)
    axes.tick_params(axis="y", length=0)
    axes.grid(visible=False, axis="y")
    axes.spines["left"].set_visible(False)


class MultiplierCurve(NamedTuple):
    """A structure's multiplier over its own compute (FLOPs), with the ends of its 90 % interval."""

    key: str
    name: str
    compute: tuple[float, ...]
    multiplier: tuple[float, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]
    measured: int


def multiplier_curves_data(
    laws: LawSet | None, keys: Sequence[str], target: float, size: int = 16
) -> tuple[MultiplierCurve, ...]:
    """P1 Fig. 6: the multiplier of each structure but dense from its cheapest frontier point to the target."""
    known = [] if laws is None else [key for key in keys if key in laws.laws and key != "dense"]
    return tuple(_multiplier_curve(laws, key, target, size) for key in known if laws is not None)


def _multiplier_curve(laws: LawSet, key: str, target: float, size: int) -> MultiplierCurve:
    import numpy as np

    from storage.laws import log_multiplier

    law = laws.law(key)
    inside = np.geomspace(law.low, law.high, size) if law.high > law.low else np.array([law.low])
    beyond = np.geomspace(law.high, target, size)[1:] if target > law.high else np.array([])
    compute = np.concatenate([inside, beyond])
    found = [log_multiplier(laws, key, float(spent)) for spent in compute]
    ends = [np.exp(np.quantile(draws, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])).tolist() for _, draws in found]
    middle = tuple(math.exp(value) for value, _ in found)
    low, high = zip(*ends, strict=True)
    return MultiplierCurve(key, Structure.parse(key).name, tuple(compute.tolist()), middle, low, high, len(inside))


def multiplier_curves_paper(curves: Sequence[MultiplierCurve], target: float) -> Figure:
    """Multipliers over log compute with their bands, dotted where a law goes beyond its runs."""
    if not curves:
        return nothing("No structure can be compared with dense yet.")
    figure, (axes,) = panels(1, COLUMN, 2.8)
    styles = looks([curve.key for curve in curves])
    handles = []
    for curve in curves:
        look = styles[curve.key]
        axes.fill_between(curve.compute, curve.low, curve.high, color=look.colour, alpha=0.1, linewidth=0)
        split = max(curve.measured - 1, 0)
        axes.plot(curve.compute[: curve.measured], curve.multiplier[: curve.measured], color=look.colour)
        axes.plot(curve.compute[split:], curve.multiplier[split:], color=look.colour, linestyle=BEYOND)
        ends = [curve.compute[0], curve.compute[split]], [curve.multiplier[0], curve.multiplier[split]]
        handles += axes.plot(*ends, linestyle="", label=curve.name, **mark(look))
    rule(axes, y=1)
    mark_target(axes, target)
    reach = [value for curve in curves for value in (*curve.multiplier, *curve.low, *curve.high)]
    scale = multiplier_axis(max(min([*reach, 0.9]), 1 / FAR), min(max([*reach, 1.1]), FAR))
    axes.set(xscale="log", yscale="log", xlabel="training compute (FLOPs)", ylabel="compute multiplier against dense")
    axes.set_ylim(*(10**end for end in scale["range"]))
    decades(axes.xaxis)
    log_ticks(axes.yaxis, scale["tickvals"])
    legend(figure, handles, 2)
    return figure


class ExponentRow(NamedTuple):
    """The exponent of a structure's law with the ends of its 90 % interval, and how many runs it rests on."""

    name: str
    exponent: float
    low: float
    high: float
    runs: int
    group: str


def exponents_data(laws: LawSet | None, keys: Sequence[str], limit: int = ROWS) -> tuple[ExponentRow, ...]:
    """P2 Fig. 4: exponents in the order of `keys`, dense first."""
    if laws is None:
        return ()
    order = ["dense", *(key for key in keys if key != "dense" and key in laws.laws)][:limit]
    return tuple(_exponent(laws, key) for key in order)


def _exponent(laws: LawSet, key: str) -> ExponentRow:
    import numpy as np

    draws = laws.draws.exponent[:, list(laws.laws).index(key)]
    low, high = np.quantile(draws, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    structure, entry = Structure.parse(key), laws.laws[key]
    place = group(float(structure.omega), float(structure.psi))
    return ExponentRow(structure.name, entry.law.exponent, float(low), float(high), entry.runs, place)


def exponents_paper(rows: Sequence[ExponentRow], pooled: tuple[float, float] | None) -> Figure:
    """One row a structure; a hollow mark is a single run, which takes its exponent from the others."""
    if not rows or pooled is None:
        return nothing("No law has been fitted yet: that takes dense runs to compare with.")
    figure, (axes,) = panels(1, COLUMN, 0.75 + _ROW * len(rows))
    axes.axvspan(*pooled, color=MUTED, alpha=0.25, linewidth=0)
    for place, row in enumerate(rows):
        look = DENSE_LOOK if row.name == "dense" else GROUPS[row.group]
        axes.plot([row.low, row.high], [place] * 2, color=look.colour, linewidth=1.1)
        axes.plot([row.exponent], [place], **mark(look, row.runs == 1))
    _rows(axes, [row.name for row in rows])
    axes.set(xlabel=r"exponent $a$ of $L = L_\infty + b\,C^{-a}$")
    handles = [axes.plot([], [], label=name, **mark(look))[0] for name, look in GROUPS.items() if _has(rows, name)]
    legend(figure, handles)
    return figure
