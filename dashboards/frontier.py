"""Loss against compute: what was measured, the laws fitted to it, and how sure they are."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, NamedTuple

from dashboards.groups import thin
from dashboards.style import (
    DENSE_LOOK,
    MUTED,
    SOFT,
    Look,
    Trace,
    axis,
    empty_figure,
    figure,
    layout,
    log_axis,
    looks,
    translucent,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pandas import DataFrame
    from plotly.graph_objects import Figure

    from storage.laws import LawSet

DENSE = "dense"
POINTS = 2500
LEVEL = 0.9
REACHED = 1.01
"""A law whose runs come this near to the target is not drawn beyond them."""
CAPTION = (
    "Lower and further left is better: bold points are the lowest loss each structure reached for its "
    "compute, lines the fitted laws with their 90 % bands, dotted where they go beyond what was run; grey "
    "points are all others."
)


class LawCurve(NamedTuple):
    """A fitted law on a grid of compute (FLOPs), in nats per token; `measured` counts the grid points
    within its data.
    """

    compute: tuple[float, ...]
    loss: tuple[float, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]
    measured: int


class FrontierGroup(NamedTuple):
    """A highlighted structure: points as (FLOPs, loss), those no cheaper point beats, and its law if it
    has one.
    """

    key: str
    name: str
    best: tuple[tuple[float, float], ...]
    rest: tuple[tuple[float, float], ...]
    law: LawCurve | None


class FrontierData(NamedTuple):
    """Highlighted structures, dense first, all other points, and the study's target compute (FLOPs)."""

    groups: tuple[FrontierGroup, ...]
    others: tuple[tuple[float, float], ...]
    target: float


def frontier_data(
    points: DataFrame, laws: LawSet | None, highlight: Sequence[str], target: float, limit: int = POINTS
) -> FrontierData:
    """Legitimate points (warmup and losses that are not finite dropped), thinned evenly over compute to
    `limit`.

    `highlight` holds structure keys; dense comes first in any case.  No frontier point is ever thinned out.
    """
    legitimate = points[~points["warmup"].astype(bool) & points["loss"].notna()].sort_values(["flops", "loss"])
    keys = [DENSE, *(key for key in highlight if key != DENSE)]
    groups = [_group(legitimate[legitimate["key"] == key], key, laws, target, limit) for key in keys]
    rest = legitimate[~legitimate["key"].isin(keys)]
    others = thin(list(zip(rest["flops"].tolist(), rest["loss"].tolist(), strict=True)), limit)
    return FrontierData(tuple(g for g in groups if g.best), tuple(others), target)


def _group(rows: DataFrame, key: str, laws: LawSet | None, target: float, limit: int) -> FrontierGroup:
    pairs = list(zip(rows["flops"].tolist(), rows["loss"].tolist(), strict=True))
    best = pareto(pairs)
    rest = thin([pair for pair in pairs if pair not in set(best)], limit // 4)
    law = law_curve(laws, key, target) if laws is not None and key in laws.laws else None
    return FrontierGroup(key, str(rows["structure"].iloc[0]) if len(rows) else key, best, tuple(rest), law)


def pareto(pairs: Sequence[tuple[float, float]]) -> tuple[tuple[float, float], ...]:
    """Of points (FLOPs, loss) by rising FLOPs, those with a lower loss than every cheaper one."""
    kept: list[tuple[float, float]] = []
    for flops, loss in pairs:
        if not kept or loss < kept[-1][1]:
            kept.append((flops, loss))
    return tuple(kept)


def law_curve(laws: LawSet, key: str, target: float, size: int = 48) -> LawCurve:
    """The law of a structure with its 90 % band, from its cheapest frontier point to the target or beyond."""
    import numpy as np

    law = laws.law(key)
    inside = np.geomspace(law.low, law.high, size) if law.high > law.low else np.array([law.low])
    beyond = np.geomspace(law.high, target, size // 2 + 1)[1:] if target > REACHED * law.high else np.array([])
    compute = np.concatenate([inside, beyond])
    low, high = laws.band(key, compute, LEVEL)
    loss = law.predict(compute)
    compute_at, loss_at, low_at, high_at = (tuple(values.tolist()) for values in (compute, loss, low, high))
    return LawCurve(compute_at, loss_at, low_at, high_at, len(inside))


def frontier_figure(data: FrontierData) -> Figure:
    """Points and laws over a log axis of compute."""
    if not data.groups and not data.others:
        return empty_figure("No loss has been measured yet.")
    styles = looks([group.key for group in data.groups])
    traces = [_others(data.others)] if data.others else []
    for group in reversed(data.groups):
        traces += _group_traces(group, styles.get(group.key, DENSE_LOOK))
    y = axis("validation loss (nats per token)", **_range(data))
    arrangement = layout(500, xaxis=log_axis("training compute (FLOPs)"), yaxis=y, showlegend=True)
    legend = arrangement["legend"] | {"traceorder": "reversed"}
    return figure(traces, arrangement | target_mark(data.target) | {"legend": legend})


def target_mark(target: float) -> dict[str, Any]:
    """Parts of a layout: a line at the study's target compute (FLOPs), and its name."""
    line = {"type": "line", "x0": target, "x1": target, "y0": 0, "y1": 1, "yref": "paper"}
    note = {"text": "target", "x": math.log10(target), "y": 1, "yref": "paper", "showarrow": False}
    place = {"xanchor": "right", "yanchor": "top", "xshift": -3, "font": {"size": 11}}
    return {"shapes": [line | {"line": {"color": SOFT, "width": 1, "dash": "dot"}}], "annotations": [note | place]}


def _range(data: FrontierData) -> dict[str, Any]:
    """Losses from the lowest to the highest frontier point or law, a little room around them."""
    losses = [loss for group in data.groups for _, loss in group.best]
    losses += [end for group in data.groups if group.law for end in (*group.law.low, *group.law.loss)]
    if len(set(losses)) < 2:
        return {}
    low, high = min(losses), max(losses)
    return {"range": [low - 0.05 * (high - low), high + 0.05 * (high - low)]}


def _others(pairs: Sequence[tuple[float, float]]) -> Trace:
    marker = {"size": 4, "color": MUTED, "opacity": 0.7}
    return _scatter(pairs, mode="markers", name="other structures", marker=marker, hoverinfo="skip")


def _group_traces(group: FrontierGroup, look: Look) -> list[Trace]:
    """Faint points, the band, the law in two strokes, then the frontier points, which carry the legend."""
    faint = {"size": 4, "color": look.colour, "symbol": look.symbol, "opacity": 0.28}
    bold = {"size": 8, "color": look.colour, "symbol": look.symbol}
    same: dict[str, Any] = {"legendgroup": group.key, "name": group.name}
    hover = f"<b>{group.name}</b><br>%{{x:.3g}} FLOPs, loss %{{y:.4f}}<extra></extra>"
    quiet = same | {"showlegend": False, "hoverinfo": "skip"}
    traces = [_scatter(group.rest, mode="markers", marker=faint, **quiet)] if group.rest else []
    if group.law is not None:
        traces += _law_traces(group.law, look.colour, quiet)
    return [*traces, _scatter(group.best, mode="markers", marker=bold, hovertemplate=hover, **same)]


def _law_traces(law: LawCurve, colour: str, quiet: dict[str, Any]) -> list[Trace]:
    edge = list(zip(law.compute, law.high, strict=True))
    back = list(zip(reversed(law.compute), reversed(law.low), strict=True))
    band = {"fill": "toself", "fillcolor": translucent(colour), "line": {"width": 0}}
    line = list(zip(law.compute, law.loss, strict=True))
    split = max(law.measured - 1, 0)
    return [
        _scatter(edge + back, mode="lines", **band, **quiet),
        _scatter(line[: law.measured], mode="lines", line={"color": colour, "width": 2}, **quiet),
        _scatter(line[split:], mode="lines", line={"color": colour, "width": 2, "dash": "dot"}, **quiet),
    ]


def _scatter(pairs: Sequence[tuple[float, float]], **more: Any) -> Trace:
    x, y = [pair[0] for pair in pairs], [pair[1] for pair in pairs]
    return {"type": "scatter", "x": x, "y": y, **more}
