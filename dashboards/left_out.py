"""The law of one structure from close by, with the points that were left out of it and why."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dashboards.frontier import law_curve
from dashboards.law_view import LawPoint, LawViewData, law_view_figure
from space.structure import Structure

if TYPE_CHECKING:
    from pandas import DataFrame
    from plotly.graph_objects import Figure

    from storage.laws import LawSet, Run

CAPTION = (
    "Blue points carry the law, the others were left out of it for the reason that the legend gives; the line is the law "
    "with its 90 % band, dotted beyond what was run."
)


def left_out_data(points: DataFrame, laws: LawSet, key: str, target: float) -> LawViewData:
    """Every legitimate point of a structure (warmup dropped), as the finished law judges it."""
    import numpy as np

    from storage.laws.frontier import frontier

    clean = points[~points["warmup"].astype(bool) & points["loss"].notna()]
    law = laws.law(key)
    front = frontier(_runs(clean[clean["key"] == key], key))
    rows = clean[clean["key"] == key].sort_values(["number", "step"])
    loss = np.exp(front.log_loss)
    residual = np.log(loss / law.predict(np.exp(front.x)))
    numbers = rows["number"].tolist()
    found = zip(numbers, np.exp(front.x).tolist(), loss.tolist(), front.reason, residual.tolist(), strict=True)
    name = Structure.parse(key).name
    return LawViewData(name, tuple(LawPoint(*point) for point in found), law_curve(laws, key, target), target)


def _runs(rows: DataFrame, key: str) -> list[Run]:
    """The runs of a structure, by number."""
    groups = rows.sort_values(["number", "step"]).groupby("number", sort=True)
    return [_run(key, str(number), run) for number, run in groups]


def _run(key: str, number: str, rows: DataFrame) -> Run:
    from storage.laws import Run

    compute, loss, seconds = (rows[name].to_numpy("float64") for name in ("flops", "loss", "seconds"))
    return Run(key, number, compute, loss, seconds)


def left_out_figure(data: LawViewData) -> Figure:
    """Loss over compute, both logarithmic."""
    return law_view_figure(data)
