"""One look for every figure: colours for light and dark, fonts, axes, and the way from dicts to a figure.

Figures are built in the light colours.  A page that is shown in the dark replaces each colour by its partner
in `DARK_OF` (templates/figures.js), so a figure is complete on its own and the page needs no
second copy of it. The categorical colours keep the Okabe-Ito hues, and every group also has its own marker
and dash.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from textwrap import wrap
from typing import TYPE_CHECKING, Any, NamedTuple

from dashboards.numbers import SUPERSCRIPTS

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

Trace = dict[str, Any]
FEW_DECADES, FEW_STEPS = 1.7, 0.7
_LINE = 44  # letters that a plot has room for on a phone
_PLAIN: ContextVar[bool] = ContextVar("einsearch_plain_figures", default=False)

INK, SOFT, MUTED, GRID, PAPER = "#1d2129", "#5b6270", "#b4bac4", "#e7e9ed", "#ffffff"
BLUE, VERMILLION, GREEN, PURPLE, AMBER = "#0072b2", "#d55e00", "#009e73", "#b04f9e", "#a87900"
FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', 'DejaVu Sans', sans-serif"

_DARK = {
    INK: "#e9ebef",
    SOFT: "#a7aebb",
    MUTED: "#565e6c",
    GRID: "#2a2f38",
    PAPER: "#16191f",
    BLUE: "#52b0ea",
    VERMILLION: "#f2884b",
    GREEN: "#3ecb9f",
    PURPLE: "#da93d0",
    AMBER: "#e5c04d",
}


class Look(NamedTuple):
    """How one group is drawn: `colour` as `#rrggbb`, plotly's names for `symbol` and `dash`."""

    colour: str
    symbol: str
    dash: str


DENSE_LOOK = Look(INK, "circle", "solid")
LOOKS = (
    Look(BLUE, "diamond", "solid"),
    Look(VERMILLION, "square", "dash"),
    Look(GREEN, "triangle-up", "dashdot"),
    Look(PURPLE, "pentagon", "dot"),
    Look(AMBER, "star", "longdash"),
)
MULTIPLIER_SCALE = [[0.0, VERMILLION], [0.5, MUTED], [1.0, BLUE]]
"""Diverging scale for log multipliers: vermillion below dense, grey as dense, blue above."""


def translucent(colour: str, alpha: float = 0.12) -> str:
    """`#rrggbb` as plotly's `rgba(r, g, b, alpha)`."""
    red, green, blue = (int(colour[i : i + 2], 16) for i in (1, 3, 5))
    return f"rgba({red}, {green}, {blue}, {alpha})"


DARK_OF: Mapping[str, str] = _DARK | {translucent(light): translucent(dark) for light, dark in _DARK.items()}
"""Every colour that a figure may use, and its partner on a dark page."""


def looks(keys: Sequence[str]) -> dict[str, Look]:
    """A look for each structure key, in order; dense is always drawn in ink."""
    others = [key for key in keys if key != "dense"]
    chosen = {key: LOOKS[i % len(LOOKS)] for i, key in enumerate(others)}
    return {key: chosen.get(key, DENSE_LOOK) for key in keys}


def axis(title: str, **more: Any) -> dict[str, Any]:
    """A plain axis: a hairline grid, no zero line, ticks outside."""
    base: dict[str, Any] = {
        "title": {"text": title, "standoff": 10},
        "gridcolor": GRID,
        "linecolor": MUTED,
        "zeroline": False,
        "automargin": True,
    }
    return base | more


def log_axis(title: str, **more: Any) -> dict[str, Any]:
    """A logarithmic axis whose decades read 10⁹, 10¹⁰, ..."""
    return axis(title, type="log", exponentformat="power", dtick=1) | more


def layout(height: int, **more: Any) -> dict[str, Any]:
    """The layout shared by all figures: transparent ground, a legend above the plot, hover near the point."""
    base: dict[str, Any] = {
        "height": height,
        "autosize": True,
        "margin": {"l": 8, "r": 12, "t": 12, "b": 8},
        "paper_bgcolor": "rgba(0, 0, 0, 0)",
        "plot_bgcolor": "rgba(0, 0, 0, 0)",
        "font": {"family": FONT, "size": 13, "color": SOFT},
        "hoverlabel": {"bgcolor": PAPER, "bordercolor": MUTED, "font": {"family": FONT, "color": INK}},
        "legend": {"orientation": "h", "x": 0, "y": 1.02, "yanchor": "bottom", "font": {"color": INK}},
        "hovermode": "closest",
        "dragmode": False,
    }
    return base | more


def few_decades(drawn: dict[str, Any]) -> None:
    """Give logarithmic axes of decades that span less than two of them more marks, each written out: 2×10⁹, 5×10⁹, 10¹⁰.

    Args:
        drawn: a figure as JSON values, `data` and `layout`; changed in place.
    """
    for name in ("x", "y"):
        place = drawn["layout"].get(f"{name}axis", {})
        if place.get("type") != "log" or place.get("dtick") != 1:
            continue
        values = [value for trace in drawn["data"] for value in trace.get(name) or [] if value is not None and value > 0]
        if values and math.log10(max(values) / min(values)) < FEW_DECADES:
            place.pop("dtick")
            place |= _marks(math.log10(min(values)), math.log10(max(values)))


def _marks(low: float, high: float) -> dict[str, Any]:
    """Marks at 1, 2 and 5 of each decade between two powers of ten, more where there is less than one decade."""
    steps = (1, 2, 5) if high - low > FEW_STEPS else (1, 1.5, 2, 3, 4, 5, 6, 8)
    marks = [(step, power) for power in range(math.floor(low) - 1, math.ceil(high) + 1) for step in steps]
    near = [(step, power) for step, power in marks if low - 0.1 <= power + math.log10(step) <= high + 0.1]
    words = [(f"{step:g}×" if step != 1 else "") + f"10{str(power).translate(SUPERSCRIPTS)}" for step, power in near]
    return {"tickvals": [step * 10.0**power for step, power in near], "ticktext": words}


class PlainFigure:
    """What a figure is made of, `data` and `layout`, unchecked: all that a server sends to plotly.js."""

    def __init__(self, traces: Sequence[Trace], arrangement: Mapping[str, Any]) -> None:
        self.data = list(traces)
        self.layout = dict(arrangement)


@contextmanager
def plainly() -> Iterator[None]:
    """Within it, `figure` makes plain figures, and plotly is not loaded."""
    token = _PLAIN.set(True)
    try:
        yield
    finally:
        _PLAIN.reset(token)


def figure(traces: Sequence[Trace], arrangement: Mapping[str, Any]) -> Figure:
    """Traces and layout, as plain dicts of lists, to a checked plotly figure without a template; but see `plainly`."""
    if _PLAIN.get():
        return PlainFigure(traces, arrangement)
    from plotly.graph_objects import Figure, layout

    return Figure(data=list(traces), layout={"template": layout.Template(), **arrangement})


def empty_figure(message: str, height: int = 220) -> Figure:
    """A figure that has nothing to draw and says why."""
    note = {"text": "<br>".join(wrap(message, _LINE)), "showarrow": False, "x": 0.5, "y": 0.5, "xref": "paper", "yref": "paper"}
    hidden = {"visible": False}
    return figure([], layout(height, annotations=[note], xaxis=hidden, yaxis=hidden))
