"""Where structures lie: the taxonomy in space with its projections (P1 Fig. 2), and the simplices of theta."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from dashboards.groups import log_limit
from dashboards.paper.style import PAGE, nothing
from dashboards.simplices import CORNERS, SimplexData
from dashboards.style import BLUE, GRID, INK, MUTED, SOFT, VERMILLION
from dashboards.taxonomy import TITLES, Quantity, TaxonomyData

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from matplotlib.axes import Axes
    from matplotlib.cm import ScalarMappable
    from matplotlib.figure import Figure

FLAT: tuple[tuple[Quantity, Quantity], ...] = (("omega", "psi"), ("psi", "nu"))
_TICKS = (0, 0.5, 1)
_HEIGHT = math.sqrt(3) / 2


def taxonomy_paper(data: TaxonomyData) -> Figure:
    """The three quantities in space with the full-rank edge omega = 0, psi = 1, and two projections."""
    if not data.points:
        return nothing("No structure has been tried yet.", PAGE)
    figure = _placed(PAGE)
    shade, limit = _shade(point.multiplier for point in data.measured)
    _space(figure.add_axes((0.0, 0.02, 0.36, 0.96), projection="3d"), data, shade)
    for place, (across, up) in zip((0.43, 0.71), FLAT, strict=True):
        _projection(figure.add_axes((place, 0.17, 0.2, 0.72)), data, across, up, shade)
    _bar(figure, figure.add_axes((0.935, 0.26, 0.012, 0.54)), shade, limit)
    return figure


def _placed(width: float) -> Figure:
    """A figure whose parts are placed by hand."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, 2.55))
    figure.set_layout_engine("none")
    return figure


def _shade(multipliers: Iterable[float]) -> tuple[ScalarMappable, float]:
    """Colours of log multipliers, grey where a structure is as good as dense, and how far they reach."""
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import LinearSegmentedColormap, Normalize

    limit = log_limit(multipliers)
    colours = LinearSegmentedColormap.from_list("multiplier", [VERMILLION, MUTED, BLUE])
    return ScalarMappable(Normalize(-limit, limit), colours), limit


def _bar(figure: Figure, axes: Axes, shade: ScalarMappable, limit: float) -> None:
    ticks = [share * limit for share in (-1.0, -0.5, 0.0, 0.5, 1.0)]
    bar = figure.colorbar(shade, cax=axes, ticks=ticks)
    bar.ax.set_yticklabels([f"{math.exp(tick):.2f}" for tick in ticks])
    bar.ax.set_title("multiplier", fontsize=7, loc="center", pad=5)
    bar.outline.set_visible(False)


def _space(axes: Any, data: TaxonomyData, shade: ScalarMappable) -> None:
    axes.plot([0, 0], [1, 1], [0, 1], color=INK, linewidth=1.2, zorder=1)
    axes.plot_surface(*_wall(), color=BLUE, alpha=0.07, linewidth=0, shade=False)
    for points, style in _layers(data, shade):
        axes.scatter(
            [p.omega for p in points], [p.psi for p in points], [p.nu for p in points], depthshade=False, **style | {"s": 16}
        )
    axes.set(xlim=(0, 1), ylim=(0, 1), zlim=(0, 1), xticks=_TICKS, yticks=_TICKS, zticks=_TICKS)
    for name, title, pad in (("x", "ω", -9), ("y", "ψ", -9), ("z", "ν", -10)):
        getattr(axes, f"set_{name}label")(title, labelpad=pad)
        axes.tick_params(axis=name, pad=-4, labelsize=6.5)
        getattr(axes, f"set_{name}ticklabels")(["0" if name == "x" else "", "0.5", "1"])  # corners are shared
        pane = getattr(axes, f"{name}axis")
        pane.set_pane_color((1, 1, 1, 0))
        pane._axinfo["grid"].update(color=GRID, linewidth=0.5)
    axes.view_init(elev=20, azim=-48)
    axes.set_box_aspect((1, 1, 0.9), zoom=0.92)


def _wall() -> tuple[Any, Any, Any]:
    """The plane omega = 0."""
    import numpy as np

    psi, nu = np.meshgrid([0.0, 1.0], [0.0, 1.0])
    return np.zeros_like(psi), psi, nu


def _layers(data: TaxonomyData, shade: ScalarMappable) -> list[tuple[Sequence[Any], dict[str, Any]]]:
    """Points without a multiplier hollow and below, the others coloured."""
    colours = _colours(shade, [point.multiplier for point in data.measured])
    return [
        (data.unmeasured, {"facecolors": "none", "edgecolors": MUTED, "linewidths": 0.6}),
        (data.measured, {"c": colours, "edgecolors": "white", "linewidths": 0.3}),
    ]


def _colours(shade: ScalarMappable, multipliers: Sequence[float]) -> Any:
    """(n, 4) colours."""
    import numpy as np

    return shade.to_rgba(np.log(np.array(multipliers, dtype=np.float64)))


def _projection(axes: Axes, data: TaxonomyData, across: Quantity, up: Quantity, shade: ScalarMappable) -> None:
    for points, style in _layers(data, shade):
        x, y = [getattr(p, across) for p in points], [getattr(p, up) for p in points]
        axes.scatter(x, y, s=20, clip_on=False, zorder=3, **style)
    axes.set(xlabel=TITLES[across], ylabel=TITLES[up], xlim=(-0.04, 1.04), ylim=(-0.04, 1.04), xticks=_TICKS, yticks=_TICKS)
    axes.set_box_aspect(1)


def simplices_paper(sides: Sequence[SimplexData]) -> Figure:
    """The splits of input and output that were tried, as two triangles."""
    if not any(side.points for side in sides):
        return nothing("No two-factor structure has been tried yet.", PAGE)
    figure = _placed(PAGE * 0.82)
    shade, limit = _shade(point.multiplier for side in sides for point in side.points)
    for left, side in zip((0.02, 0.45), sides, strict=True):
        _triangle(figure.add_axes((left, 0.02, 0.42, 0.96)), side, shade)
    _bar(figure, figure.add_axes((0.915, 0.17, 0.014, 0.66)), shade, limit)
    return figure


def _triangle(axes: Axes, side: SimplexData, shade: ScalarMappable) -> None:
    axes.set_axis_off()
    axes.set_aspect("equal")
    axes.set(xlim=(-0.16, 1.16), ylim=(-0.14, _HEIGHT + 0.16))
    axes.set_title(f"split of the {side.side}", loc="center", pad=0)
    for share in (0.25, 0.5, 0.75):
        for turn in range(3):
            ends = [_turned((share, 1 - share, 0.0), turn), _turned((share, 0.0, 1 - share), turn)]
            axes.plot(*zip(*(_place(end) for end in ends), strict=True), color=GRID, linewidth=0.6, zorder=1)
    corners = [_turned((1.0, 0.0, 0.0), turn) for turn in range(3)]
    axes.plot(*zip(*(_place(corner) for corner in [*corners, corners[0]]), strict=True), color=SOFT, linewidth=0.8, zorder=2)
    for corner, name in zip(corners, CORNERS[side.side], strict=True):
        x, y = _place(corner)
        axes.text(x, y + (0.05 if y > 0 else -0.05), name, ha="center", va="bottom" if y > 0 else "top", color=INK)
    for known in (False, True):
        _points(axes, [p for p in side.points if math.isfinite(p.multiplier) == known], shade if known else None)


def _points(axes: Axes, points: Sequence[Any], shade: ScalarMappable | None) -> None:
    if not points:
        return
    x, y = zip(*(_place(point.split) for point in points), strict=True)
    style: dict[str, Any] = {"facecolors": "none", "edgecolors": MUTED, "linewidths": 0.7}
    if shade is not None:
        style = {"c": _colours(shade, [p.multiplier for p in points]), "edgecolors": "white", "linewidths": 0.4}
    axes.scatter(x, y, s=[16 + 14 * math.log2(point.structures) for point in points], zorder=3, clip_on=False, **style)


def _turned(split: tuple[float, float, float], turn: int) -> tuple[float, float, float]:
    a, b, c = split
    return ((a, b, c), (c, a, b), (b, c, a))[turn]


def _place(split: tuple[float, float, float]) -> tuple[float, float]:
    """Where a split is drawn: the first share on top, the second at the left, the third at the right."""
    first, _, third = split
    return third + first / 2, first * _HEIGHT
