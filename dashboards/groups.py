"""How structures are told apart in every figure: by the taxonomy, by kind of trial, by their multiplier."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

from dashboards.numbers import interval_text
from dashboards.style import BLUE, GREEN, INK, PURPLE, SOFT, VERMILLION, Look

_LADDERS = ((1, 1.2, 1.5, 2, 2.5, 3, 4, 5, 6, 7, 8, 9), (1, 1.5, 2, 3, 5, 7), (1, 2, 5), (1,))
EXACT = 1e-6
"""An exponent this near to 0 or 1 is 0 or 1."""

FULL, LOW, SHARED = "ω = 0, ψ = 1", "ω = 0, ψ < 1", "ω > 0"
GROUPS = {
    FULL: Look(BLUE, "circle", "solid"),
    LOW: Look(VERMILLION, "square", "dash"),
    SHARED: Look(PURPLE, "diamond", "dot"),
}
"""No sharing and full rank; no sharing and low rank; parameters shared."""

KINDS = {
    "baseline": Look(INK, "circle", "solid"),
    "known": Look(GREEN, "square", "dash"),
    "proposal": Look(BLUE, "diamond", "solid"),
    "random": Look(SOFT, "x-thin", "dot"),
}


def group(omega: float, psi: float) -> str:
    """The taxonomy's group of a structure."""
    if omega > EXACT:
        return SHARED
    return FULL if psi > 1 - EXACT else LOW


def log_limit(multipliers: Iterable[float]) -> float:
    """Half the width of a colour scale around multiplier 1, in log units: the largest distance, at least
    log 1.1.
    """
    return max([abs(math.log(m)) for m in multipliers if m > 0 and math.isfinite(m)] + [math.log(1.1)])


def colour_bar(limit: float) -> dict[str, Any]:
    """A horizontal colour bar in multipliers for colours in log multipliers within `limit`."""
    ticks = [share * limit for share in (-1.0, -0.5, 0.0, 0.5, 1.0)]
    return {
        "title": {"text": "compute multiplier", "side": "top", "font": {"size": 12}},
        "orientation": "h",
        "tickvals": ticks,
        "ticktext": [f"{math.exp(tick):.2f}" for tick in ticks],
        "len": 0.7,
        "thickness": 8,
        "outlinewidth": 0,
        "tickfont": {"size": 11},
    }


def multiplier_axis(low: float, high: float) -> dict[str, Any]:
    """A log axis from one multiplier to another with some room, and a few round ticks on it."""
    ends = math.log10(low), math.log10(high)
    room = 0.07 * (ends[1] - ends[0])
    decades = [10.0**power for power in range(-12, 13)]
    for steps in _LADDERS:
        ticks = [step * decade for decade in decades for step in steps if low <= step * decade <= high]
        if len(ticks) <= 8:
            break
    places = {"tickvals": ticks, "ticktext": [f"{tick:g}" for tick in ticks]}
    return {"type": "log", "range": [ends[0] - room, ends[1] + room], **places}


def multiplier_hover(name: str, multiplier: float, low: float, high: float) -> str:
    """Hover text of a structure."""
    known = math.isfinite(multiplier)
    return f"<b>{name}</b><br>multiplier {interval_text(multiplier, low, high) if known else 'not measured'}"


def thin(values: Sequence[Any], limit: int) -> list[Any]:
    """At most `limit` of the values, evenly spaced, the first and the last included."""
    if len(values) <= limit:
        return list(values)
    step = (len(values) - 1) / (limit - 1)
    return [values[round(i * step)] for i in range(limit)]


def broken_line(pieces: Iterable[Sequence[float]]) -> list[float | None]:
    """Several lines as one trace: the pieces joined with gaps."""
    joined: list[float | None] = []
    for piece in pieces:
        joined += [*piece, None]
    return joined[:-1]


def ring(look: Look, hollow: bool = False, size: int = 9) -> dict[str, Any]:
    """Marker of a look; hollow where the interval holds 1."""
    symbol = f"{look.symbol}-open" if hollow else look.symbol
    return {
        "symbol": symbol,
        "size": size,
        "color": look.colour,
        "line": {"color": look.colour, "width": 1.5},
    }
