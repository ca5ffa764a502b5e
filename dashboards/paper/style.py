"""One look for every figure of a paper, and the way from a figure to a file."""

from __future__ import annotations

import io
import math
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dashboards.style import GRID, INK, MUTED, SOFT, Look

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLUMN, PAGE = 3.3, 6.9
"""Widths in inches: one column of a two-column page, and both."""

SUFFIXES = ("svg", "pdf", "png")
"""Files that a figure can be written as: two of lines and letters, one of pixels."""

DOTS = 300
"""Pixels per inch of a PNG."""

MARKERS: Mapping[str, str] = {
    "circle": "o",
    "square": "s",
    "diamond": "D",
    "triangle-up": "^",
    "pentagon": "p",
    "star": "*",
    "x-thin": "x",
}
"""matplotlib's name of each marker of `dashboards.style`."""

DASHES: Mapping[str, Any] = {
    "solid": "-",
    "dash": (0, (5, 2)),
    "dashdot": (0, (5, 1.5, 1, 1.5)),
    "dot": (0, (1, 1.4)),
    "longdash": (0, (9, 3)),
}

BEYOND = (0, (1, 1.4))
"""Dashes of a law where it goes beyond what was run."""

_RULES: Mapping[str, Any] = {
    "font.family": "STIXGeneral",
    "mathtext.fontset": "stix",
    "font.size": 8,
    "axes.titlesize": 8.5,
    "axes.labelsize": 8,
    "xtick.labelsize": 7,
    "ytick.labelsize": 7,
    "legend.fontsize": 7,
    "axes.linewidth": 0.6,
    "axes.edgecolor": SOFT,
    "axes.labelcolor": INK,
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": GRID,
    "grid.linewidth": 0.5,
    "xtick.color": SOFT,
    "ytick.color": SOFT,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "xtick.minor.width": 0.4,
    "ytick.minor.width": 0.4,
    "lines.linewidth": 1.2,
    "lines.markersize": 3.5,
    "legend.frameon": False,
    "legend.handlelength": 1.8,
    "legend.labelspacing": 0.35,
    "axes.unicode_minus": True,
    "svg.fonttype": "path",
    "svg.hashsalt": "einsearch",
    "pdf.fonttype": 42,
    "figure.facecolor": "white",
    "savefig.facecolor": "white",
    "figure.constrained_layout.use": True,
    "figure.constrained_layout.h_pad": 0.03,
    "figure.constrained_layout.w_pad": 0.03,
}


@contextmanager
def typeset() -> Iterator[None]:
    """Draw and save under the rules of this look; they are put back afterwards."""
    from matplotlib import rc_context

    rules: Any = dict(_RULES)
    with rc_context(rules):
        yield


def panels(count: int = 1, width: float = COLUMN, height: float = 2.5, **more: Any) -> tuple[Figure, list[Axes]]:
    """A figure of so many panels beside each other, sizes in inches."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height))
    return figure, list(figure.subplots(1, count, squeeze=False, **more)[0])


def nothing(message: str, width: float = COLUMN) -> Figure:
    """A figure that has nothing to draw and says why."""
    figure, (axes,) = panels(1, width, 1.2)
    axes.set_axis_off()
    axes.text(0.5, 0.5, message, ha="center", va="center", color=SOFT, wrap=True, transform=axes.transAxes)
    return figure


def mark(look: Look, hollow: bool = False) -> dict[str, Any]:
    """Marker of a look as arguments of `Axes.plot`; a line through it is asked for separately."""
    face = "white" if hollow else look.colour
    edge = look.colour if hollow or look.symbol == "x-thin" else "white"
    width = 0.9 if hollow or look.symbol == "x-thin" else 0.3
    return {"marker": MARKERS[look.symbol], "color": look.colour, "mfc": face, "mec": edge, "mew": width}


def line(look: Look) -> dict[str, Any]:
    """Line of a look as arguments of `Axes.plot`."""
    return {"color": look.colour, "linestyle": DASHES[look.dash]}


def legend(figure: Figure, handles: Sequence[Any], columns: int = 3) -> None:
    """One legend above all panels, so that it covers no point."""
    if handles:
        figure.legend(handles=list(handles), loc="outside upper left", ncols=columns, columnspacing=1.2)


def rule(axes: Axes, **at: float) -> None:
    """A hairline across the panel: `x=` or `y=`."""
    draw = {"x": axes.axvline, "y": axes.axhline}
    for side, place in at.items():
        draw[side](place, color=MUTED, linewidth=0.7, zorder=1)


def target(axes: Axes, compute: float) -> None:
    """A dotted line at the compute that the study is about."""
    axes.axvline(compute, color=SOFT, linewidth=0.7, linestyle=(0, (1, 2)))
    place = axes.get_xaxis_transform()
    axes.text(compute, 1.0, "target ", ha="right", va="top", fontsize=6.5, color=SOFT, transform=place)


def log_ticks(axis: Any, ticks: Sequence[float]) -> None:
    """A logarithmic axis with these ticks, written plainly, and no others."""
    from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

    axis.set_major_locator(FixedLocator(list(ticks)))
    axis.set_minor_locator(NullLocator())
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))


def decades(axis: Any) -> None:
    """A logarithmic axis of a quantity: labels at decades, and at 2 and 5 where it spans less than one and a half."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    low, high = axis.get_view_interval()
    short = high / low < 10**1.5
    axis.set_major_locator(LogLocator(subs=(1, 2, 5) if short else (1,)))
    axis.set_minor_formatter(NullFormatter())
    if short:
        axis.set_major_formatter(FuncFormatter(_scientific))


def _scientific(value: float, _: int) -> str:
    """`50`, `2 × 10¹¹`: plain below ten thousand."""
    if value < 1e4:
        return f"{value:g}"
    power = math.floor(math.log10(value) + 1e-9)
    first = round(value / 10**power)
    return f"$10^{{{power}}}$" if first == 1 else f"${first}\\times 10^{{{power}}}$"


def encoded(figure: Figure, suffix: str) -> bytes:
    """The figure as the bytes of a file, the same for the same figure.

    Args:
        suffix: one of `SUFFIXES`.
    """
    dates = {"svg": {"Date": None}, "pdf": {"CreationDate": None}, "png": {}}
    content = io.BytesIO()
    with typeset(), warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)  # a layout that does not fit, a letter that the font lacks
        figure.savefig(content, format=suffix, dpi=DOTS, metadata=dates[suffix])
    return content.getvalue()


def suffix_of(path: Path) -> str:
    """What a path asks for.

    Raises:
        ConfigError: a suffix that no figure can be written as.
    """
    from space.errors import ConfigError

    suffix = path.suffix.removeprefix(".").lower()
    if suffix not in SUFFIXES:
        allowed = ", ".join(f".{name}" for name in SUFFIXES)
        raise ConfigError(f"{path} does not say what kind of figure it is to be; end its name in one of {allowed}")
    return suffix
