"""The coordinate check: do activations change as fast at every width (Tensor Programs V, App. D.1; P1 section 6)?

change   root mean square of how far what a layer writes has moved from its start, after `step` optimizer steps
slope    s of change ~ width**s by least squares in logarithms, each width counting with its trials; 0 is flat
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from statistics import median
from typing import TYPE_CHECKING, Any, NamedTuple

from dashboards.groups import multiplier_axis, ring, thin
from dashboards.numbers import count_text, signed
from dashboards.style import INK, Look, Trace, axis, empty_figure, figure, layout, looks
from storage.coordinates import Movement
from storage.schema import LAYER_KINDS

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

CAPTION = (
    "How far activations had moved a few steps into training, over the width, one panel a kind of layer: a flat line means "
    "that the learning rate transfers from width to width; where it rises, wide models learn too fast, where it falls, too "
    "slowly; each mark is the root mean square over the trials of a structure at a width."
)
TITLES = {
    "qkv": "queries, keys, values",
    "out": "attention output",
    "up": "feed-forward in",
    "down": "feed-forward out",
    "head": "logits",
}
COLUMNS, ROWS, GAP_X, GAP_Y = 2, 3, 0.14, 0.12
HEIGHT = 660
LEAST_RATIO = 1.5
"""Between widths that are nearer to each other, no slope is told from luck."""
LEAST_SPAN = 10.0
"""Every panel shows at least this factor from its foot to its top: what looks flat there is flat."""
NOTHING = "No trial has recorded its coordinates yet: they are kept when a trial ends."


class Line(NamedTuple):
    """A structure in one kind of layer: (width, change, trials), narrowest first."""

    key: str
    name: str
    kind: str
    places: tuple[tuple[int, float, int], ...]

    @property
    def slope(self) -> float:
        """How the change grows with the width; NaN where the widths are too near to each other."""
        if self.places[-1][0] < LEAST_RATIO * self.places[0][0]:
            return math.nan
        weights = [trials for _, _, trials in self.places]
        x, y = ([math.log(place[i]) for place in self.places] for i in (0, 1))
        total = sum(weights)
        middle_x, middle_y = (sum(w * v for w, v in zip(weights, values, strict=True)) / total for values in (x, y))
        spread = sum(w * (v - middle_x) ** 2 for w, v in zip(weights, x, strict=True))
        return sum(w * (a - middle_x) * (b - middle_y) for w, a, b in zip(weights, x, y, strict=True)) / spread


class CoordinatesData(NamedTuple):
    """Lines of the structures shown, after `step` optimizer steps; by kind of layer, then in the order of the structures."""

    step: int
    lines: tuple[Line, ...]

    @property
    def keys(self) -> list[str]:
        """The structures shown."""
        return list(dict.fromkeys(line.key for line in self.lines))


def coordinates_data(movements: Sequence[Movement], keys: Sequence[str]) -> CoordinatesData:
    """What is known of these structures after the latest step that was looked at."""
    step = max((one.step for one in movements), default=0)
    mine: Mapping[str, list[Movement]] = {key: [m for m in movements if (m.key, m.step) == (key, step)] for key in keys}
    lines = []
    for place, kind in enumerate(LAYER_KINDS):
        for key, found in mine.items():
            places = tuple((one.width, one.changes[place], one.trials) for one in found if one.changes[place] > 0)
            if places:
                lines.append(Line(key, found[0].name, kind, places))
    return CoordinatesData(step, tuple(lines))


def slopes(data: CoordinatesData) -> list[tuple[str, str, list[float]]]:
    """(key, name, slope in each kind of layer) of the structures whose widths are far enough apart to tell."""
    known = {(line.key, line.kind): line for line in data.lines}
    rows = []
    for key in data.keys:
        found = [known.get((key, kind)) for kind in LAYER_KINDS]
        numbers = [math.nan if line is None else line.slope for line in found]
        if any(map(math.isfinite, numbers)):
            rows.append((key, next(line.name for line in found if line is not None), numbers))
    return rows


def transfer_text(data: CoordinatesData) -> str:
    """What the check says of the structures shown."""
    known = [line for line in data.lines if math.isfinite(line.slope)]
    if not known:
        return "No structure of those shown has been tried at widths far enough apart to say how the change grows with them."
    steepest = max(known, key=lambda line: abs(line.slope))
    typical = median(abs(line.slope) for line in known)
    return (
        f"After {data.step} steps the change of activations goes as a power of the width; 0 would be perfect transfer. The "
        f"median power is {typical:.2f} in size, the steepest is {signed(steepest.slope)}, of {steepest.name} in "
        f"{TITLES[steepest.kind]}."
    )


def span(lines: Sequence[Line]) -> float:
    """The factor that every panel shows, from its foot to its top."""
    return max([LEAST_SPAN, *(1.3 * high / low for low, high in (_ends(lines, kind) for kind in LAYER_KINDS))])


def scale(lines: Sequence[Line], kind: str) -> dict[str, Any]:
    """The axis of changes of a panel: of the same span in all panels, so that slopes compare, with its marks in the middle."""
    low, high = _ends(lines, kind)
    middle, reach = math.sqrt(low * high), math.sqrt(span(lines))
    return multiplier_axis(middle / reach, middle * reach)


def widths(lines: Sequence[Line], most: int = 4) -> list[int]:
    """Widths to write at the axis."""
    return thin(sorted({width for line in lines for width, _, _ in line.places}), most)


def _ends(lines: Sequence[Line], kind: str) -> tuple[float, float]:
    values = [change for line in lines if line.kind == kind for _, change, _ in line.places]
    return min(values, default=1.0), max(values, default=1.0)


def coordinates_figure(data: CoordinatesData) -> Figure:
    """A panel for each kind of layer: change over width on log axes, a line for each structure."""
    if not data.lines:
        return empty_figure(NOTHING)
    styles = looks(data.keys)
    arrangement = layout(HEIGHT, showlegend=True)
    arrangement["legend"] |= {"y": 1.05}  # above the title of the first panels
    traces: list[Trace] = []
    seen: set[str] = set()
    for place, kind in enumerate(LAYER_KINDS):
        x, y = _panel(arrangement, data, kind, place)
        for line in (line for line in data.lines if line.kind == kind):
            where = {"xaxis": x, "yaxis": y, "showlegend": line.key not in seen}
            traces.append(_trace(line, styles[line.key], data.step) | where)
            seen.add(line.key)
    return figure(traces, arrangement)


def _panel(arrangement: dict[str, Any], data: CoordinatesData, kind: str, place: int) -> tuple[str, str]:
    """Add the axes and the title of a panel to the layout; their names as traces call them."""
    row, column = divmod(place, COLUMNS)
    wide, high = (1 - GAP_X * (COLUMNS - 1)) / COLUMNS, (1 - GAP_Y * (ROWS - 1)) / ROWS
    left, foot = column * (wide + GAP_X), (ROWS - 1 - row) * (high + GAP_Y)
    right, top = round(left + wide, 9), round(foot + high, 9)
    number = "" if place == 0 else str(place + 1)
    ticks = widths(data.lines)
    lowest = place + COLUMNS >= len(LAYER_KINDS)
    x = axis("width" if lowest else "", type="log", tickvals=ticks, ticktext=[str(tick) for tick in ticks])
    y = axis("change" if column == 0 else "", **scale(data.lines, kind))
    room = 0.08 * max(math.log10(ticks[-1] / ticks[0]), 0.5)
    x["range"] = [math.log10(ticks[0]) - room, math.log10(ticks[-1]) + room]
    arrangement[f"xaxis{number}"] = x | {"domain": [left, right], "anchor": f"y{number}"}
    arrangement[f"yaxis{number}"] = y | {"domain": [foot, top], "anchor": f"x{number}"}
    title = {"text": TITLES[kind], "x": left, "y": top, "xanchor": "left", "yanchor": "bottom", "showarrow": False}
    title |= {"xref": "paper", "yref": "paper", "font": {"color": INK, "size": 12}}
    arrangement.setdefault("annotations", []).append(title)
    return f"x{number}", f"y{number}"


def _trace(line: Line, look: Look, step: int) -> Trace:
    def hover(width: int, change: float, trials: int) -> str:
        where = f"{TITLES[line.kind]}, width {width}, after {step} steps"
        return f"<b>{line.name}</b><br>{where}: {change:.3g} ({count_text(trials, 'trial')})"

    return {
        "type": "scatter",
        "mode": "lines+markers",
        "name": line.name,
        "legendgroup": line.key,
        "x": [width for width, _, _ in line.places],
        "y": [change for _, change, _ in line.places],
        "text": [hover(*place) for place in line.places],
        "hoverinfo": "text",
        "line": {"color": look.colour, "dash": look.dash, "width": 1.8},
        "marker": ring(look, size=7),
    }
