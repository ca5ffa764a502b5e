"""Loss: against compute with its laws, against seconds, by the taxonomy, and along the runs (P1 Figs. 1, 3 and 4)."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from dashboards.curves import CurvesData
from dashboards.frontier import FrontierData, LawCurve, pareto
from dashboards.groups import EXACT, multiplier_axis, thin
from dashboards.paper.style import (
    BEYOND,
    COLUMN,
    MARKERS,
    PAGE,
    decades,
    legend,
    line,
    log_ticks,
    mark,
    nothing,
    panels,
    target,
)
from dashboards.style import DENSE_LOOK, INK, MUTED, Look, looks

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from pandas import DataFrame

    from storage.laws import LawSet

Exponent = Literal["omega", "psi", "nu"]
LETTERS: dict[Exponent, str] = {"omega": "ω", "psi": "ψ", "nu": "ν"}
MOST = 60
"""How many structures one panel shows at most."""


def reducible_from(laws: LawSet | None) -> float:
    """What is taken off every loss: L_inf where the data settle it, else nothing."""
    return laws.l_inf if laws is not None and laws.l_inf_identified else 0.0


def loss_label(floor: float) -> str:
    """Label of an axis of losses with `floor` nats taken off."""
    return f"reducible loss, L − {floor:.2f} (nats per token)" if floor else "validation loss (nats per token)"


def frontier_paper(data: FrontierData, floor: float, unit: str = "training compute (FLOPs)") -> Figure:
    """Points on the frontier in full, those left out faint, the laws with their bands, all over log axes."""
    if not data.groups and not data.others:
        return nothing("No loss has been measured yet.")
    figure, (axes,) = panels(1, COLUMN, 2.9)
    styles = looks([group.key for group in data.groups])
    _dots(axes, data.others, MUTED, 3, 0.35, floor)
    handles = []
    for group in reversed(data.groups):
        look = styles.get(group.key, DENSE_LOOK)
        _dots(axes, group.rest, look.colour, 4, 0.25, floor)
        if group.law is not None:
            _law(axes, group.law, look, floor)
        x, y = _pair(group.best, floor)
        handles += axes.plot(x, y, linestyle="", label=group.name, zorder=3, **mark(look))
    target(axes, data.target)
    _scales(axes, [loss - floor for group in data.groups for _, loss in group.best], unit, loss_label(floor))
    legend(figure, handles[::-1], 2)
    return figure


def _pair(pairs: Sequence[tuple[float, float]], floor: float) -> tuple[list[float], list[float]]:
    return [x for x, _ in pairs], [loss - floor for _, loss in pairs]


def _dots(axes: Axes, pairs: Sequence[tuple[float, float]], colour: str, size: float, alpha: float, floor: float) -> None:
    x, y = _pair(pairs, floor)
    axes.scatter(x, y, s=size, color=colour, alpha=alpha, linewidths=0, zorder=1, rasterized=len(pairs) > 1000)


def _law(axes: Axes, law: LawCurve, look: Look, floor: float) -> None:
    """The law, dotted beyond its data, and its band."""
    low = [max(value - floor, 1e-6) for value in law.low]
    axes.fill_between(law.compute, low, [value - floor for value in law.high], color=look.colour, alpha=0.1, linewidth=0)
    loss = [value - floor for value in law.loss]
    axes.plot(law.compute[: law.measured], loss[: law.measured], color=look.colour)
    axes.plot(law.compute[law.measured - 1 :], loss[law.measured - 1 :], color=look.colour, linestyle=BEYOND)


def _scales(axes: Axes, losses: Sequence[float], x: str, y: str) -> None:
    """Two log axes, the losses with plain ticks."""
    from matplotlib.ticker import MaxNLocator

    axes.set(xscale="log", yscale="log", xlabel=x, ylabel=y)
    decades(axes.xaxis)
    if not losses:
        return
    low, high = min(losses), max(losses)
    room = (high / low) ** 0.06 if high > low else 1.05
    axes.set_ylim(low / room, high * room)
    if high / low < 3:
        ticks = MaxNLocator(5).tick_values(low / room, high * room)
        log_ticks(axes.yaxis, [tick for tick in ticks if low / room <= tick <= high * room])
    else:
        log_ticks(axes.yaxis, multiplier_axis(low, high)["tickvals"])


class FamilyLine(NamedTuple):
    """A structure of a panel: the exponent that colours it, its frontier points (FLOPs, nats), its law in two ends."""

    exponent: float
    points: tuple[tuple[float, float], ...]
    law: tuple[tuple[float, float], ...]


class FamilyData(NamedTuple):
    """Structures by one exponent, dense aside; `title` says which structures are meant."""

    exponent: Exponent
    title: str
    lines: tuple[FamilyLine, ...]


def families_data(points: DataFrame, leaderboard: DataFrame, laws: LawSet | None) -> tuple[FamilyData, ...]:
    """P1 Fig. 4: all structures by omega; those with omega = 0 by psi; those with omega = 0 and psi = 1 by nu."""
    if laws is None:
        return ()
    full = leaderboard["omega"] < EXACT
    parts: tuple[tuple[Exponent, str, Any], ...] = (
        ("omega", "all structures", leaderboard["omega"] > -1),
        ("psi", "ω = 0", full),
        ("nu", "ω = 0, ψ = 1", full & (leaderboard["psi"] > 1 - EXACT)),
    )
    legitimate = points[~points["warmup"].astype(bool) & points["loss"].notna()].sort_values("flops")
    clouds = {str(key): rows for key, rows in legitimate.groupby("key")}
    found = []
    for exponent, title, mask in parts:
        rows = leaderboard[mask & leaderboard["key"].isin(list(laws.laws)) & (leaderboard["key"] != "dense")]
        chosen = thin(list(rows.sort_values(exponent)[["key", exponent]].itertuples(index=False, name=None)), MOST)
        found.append(FamilyData(exponent, title, tuple(_family_line(laws, key, value, clouds[key]) for key, value in chosen)))
    return tuple(found)


def dense_line(points: DataFrame, laws: LawSet) -> FamilyLine:
    """The reference of every panel."""
    rows = points[(points["key"] == "dense") & ~points["warmup"].astype(bool) & points["loss"].notna()]
    return _family_line(laws, "dense", math.nan, rows.sort_values("flops"))


def _family_line(laws: LawSet, key: str, value: float, rows: DataFrame) -> FamilyLine:
    import numpy as np

    law = laws.law(key)
    compute = np.geomspace(law.low, law.high, 12)
    curve = tuple(zip(compute.tolist(), law.predict(compute).tolist(), strict=True))
    return FamilyLine(value, pareto(list(zip(rows["flops"], rows["loss"], strict=True))), curve)


def families_paper(families: Sequence[FamilyData], dense: FamilyLine | None, floor: float) -> Figure:
    """Three panels with one scale of loss, each coloured by its exponent; dense is black in all."""
    if not families or dense is None:
        return nothing("No law has been fitted yet: that takes dense runs to compare with.", PAGE)
    figure, axes = panels(len(families), PAGE, 2.35, sharey=True)
    losses = [loss - floor for family in families for one in (*family.lines, dense) for _, loss in one.points]
    for axis, family in zip(axes, families, strict=True):
        _family(figure, axis, family, dense, floor)
        _scales(axis, losses, "training compute (FLOPs)", loss_label(floor) if axis is axes[0] else "")
    return figure


def _family(figure: Figure, axes: Axes, family: FamilyData, dense: FamilyLine, floor: float) -> None:
    import numpy as np
    from matplotlib import colormaps
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import ListedColormap, Normalize

    values = [one.exponent for one in family.lines]
    shades = ListedColormap(colormaps["plasma"](np.linspace(0.08, 0.88, 256)))  # neither black nor pale yellow
    norm = Normalize(min([*values, 0.0]), max([*values, 1.0]))
    for one in family.lines:
        _family_curve(axes, one, shades(norm(one.exponent)), "o", floor)
    _family_curve(axes, dense, INK, "s", floor)
    axes.plot([], [], color=INK, marker="s", markersize=3, label="dense")
    axes.legend(loc="upper right")
    axes.set_title(family.title)
    bar = figure.colorbar(ScalarMappable(norm, shades), ax=axes, pad=0.02, aspect=28)
    bar.ax.set_title(LETTERS[family.exponent], loc="center", pad=4)
    bar.outline.set_visible(False)


def _family_curve(axes: Axes, one: FamilyLine, colour: Any, marker: str, floor: float) -> None:
    x, y = _pair(one.points, floor)
    axes.plot(x, y, linestyle="", marker=marker, markersize=2.4, color=colour, markeredgewidth=0, alpha=0.8)
    axes.plot(*_pair(one.law, floor), color=colour, linewidth=0.9)


def curves_paper(data: CurvesData) -> Figure:
    """Validation loss over tokens, dense and the best structures in colour."""
    if not data.highlighted and not data.others:
        return nothing("No trial has been evaluated yet.")
    figure, (axes,) = panels(1, COLUMN, 2.7)
    for curve in data.others:
        axes.plot(curve.tokens, curve.loss, color=MUTED, linewidth=0.5, alpha=0.5, zorder=1, **_lone(curve.loss))
    styles = looks(list(data.highlighted))
    handles = []
    for key, curves in data.highlighted.items():
        for number, curve in enumerate(curves):
            (drawn,) = axes.plot(curve.tokens, curve.loss, label=curve.name, **line(styles[key]), **_lone(curve.loss))
            handles += [drawn] if number == 0 else []
    axes.set(xscale="log", xlabel="training tokens", ylabel=loss_label(0.0))
    decades(axes.xaxis)
    legend(figure, handles, 2)
    return figure


def _lone(loss: Sequence[float]) -> dict[str, Any]:
    """A curve of one point needs a marker to be seen."""
    return {"marker": MARKERS["circle"]} if len(loss) == 1 else {}
