"""Data of every plot against what the frames say, and figures for every size of study."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dashboards import curves, frontier, law_plots, multipliers, progress, simplices, steering, taxonomy
from dashboards.groups import broken_line, group, multiplier_axis, thin
from dashboards.paper import ranking
from dashboards.plots import highlighted, plots
from dashboards.report import report_plots
from dashboards.style import DARK_OF, empty_figure, looks
from storage import results

TARGET = 1e13


def test_a_study_with_one_trial_has_an_axis_of_minutes() -> None:
    """Not of milliseconds, and no mark for half a trial."""
    found = progress.progress_figure(progress.ProgressData({"completed": ((1.8e9, 1),), "failed": ()})).layout
    assert found.xaxis.range == ("2027-01-15 07:59:00", "2027-01-15 08:01:00") and found.yaxis.dtick == 1
    many = tuple((1.8e9 + 60 * i, i + 1) for i in range(9))
    found = progress.progress_figure(progress.ProgressData({"completed": many})).layout
    assert found.xaxis.range is None and found.yaxis.dtick is None


def test_a_law_that_was_run_to_the_target_goes_no_further(small: Any) -> None:
    law = small.laws.law("dense")
    near, far = (frontier.law_curve(small.laws, "dense", factor * law.high) for factor in (1.005, 2.0))
    assert near.measured == len(near.compute) and far.measured < len(far.compute)
    assert far.compute[-1] == pytest.approx(2 * law.high)


def test_multipliers_in_seconds_say_so() -> None:
    row = multipliers.MultiplierRow("monarch", 0.4, 0.2, 0.7, "ω = 0, ψ = 1")
    titles = [
        multipliers.multipliers_figure(multipliers.MultipliersData((row,), 0), seconds).layout.xaxis.title.text
        for seconds in (False, True)
    ]
    assert titles == ["compute multiplier (log scale)", "multiplier in seconds (log scale)"]


@pytest.fixture(params=["empty", "single", "small", "large"])
def world(request: pytest.FixtureRequest) -> Any:
    return request.getfixturevalue(request.param)


def drawn(world: Any) -> dict[str, Any]:
    found = report_plots(world.bundle())
    return {name: json.loads(plot.figure.to_json()) for name, plot in found.items()}


def colours(value: Any) -> set[str]:
    """Every colour written anywhere in a figure."""
    if isinstance(value, str):
        return {value} if value.startswith(("#", "rgba")) else set()
    parts = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return set().union(*(colours(part) for part in parts))


def test_every_plot_is_drawn_at_every_size_in_svg_and_plain_lists(world: Any) -> None:
    figures = drawn(world)
    assert len(figures) == (15 if world.laws is None else 20 if len(world.leaderboard) > 1 else 19)
    for figure in figures.values():
        assert {trace["type"] for trace in figure["data"]} <= {"scatter", "scatter3d", "scatterternary"}
        assert "bdata" not in json.dumps(figure)
        assert sum(len(trace.get("x", [])) for trace in figure["data"]) <= 20_000


def test_every_colour_has_a_partner_in_the_dark(world: Any) -> None:
    known = set(DARK_OF) | {"rgba(0, 0, 0, 0)"}
    for name, figure in drawn(world).items():
        assert colours(figure) <= known, name


def test_captions_are_one_sentence(small: Any) -> None:
    for plot in report_plots(small.bundle()).values():
        assert plot.caption.endswith(".")
        assert ". " not in plot.caption


def test_an_unnamed_reservation_is_left_out(small: Any) -> None:
    queued = small.trials.iloc[[0]].assign(
        number=99, structure=None, key=None, omega=np.nan, psi=np.nan, nu=np.nan, state="queued", value=np.nan
    )
    trials = pd.concat([small.trials, queued.astype(small.trials.dtypes)], ignore_index=True)
    with_it, without = (taxonomy.taxonomy_data(frame, small.leaderboard) for frame in (trials, small.trials))
    assert repr(with_it) == repr(without)  # a multiplier that is not known is NaN, which equals nothing
    assert steering.steering_data(trials).share == steering.steering_data(small.trials).share
    assert len(plots(trials, small.points, small.leaderboard, small.laws, TARGET)) == 11


def test_frontier_drops_warmup_and_keeps_every_undominated_point(small: Any) -> None:
    data = frontier.frontier_data(small.points, small.laws, highlighted(small.leaderboard), TARGET, limit=20)
    warm = set(small.points.loc[small.points["warmup"], "loss"])
    for entry in data.groups:
        assert not warm & {loss for _, loss in (*entry.best, *entry.rest)}
        rows = small.points[(small.points["key"] == entry.key) & ~small.points["warmup"]]
        pairs = list(zip(rows["flops"], rows["loss"], strict=True))
        slow = [(c, v) for c, v in pairs if not any(c2 <= c and v2 <= v and (c2, v2) != (c, v) for c2, v2 in pairs)]
        assert sorted(entry.best) == sorted(slow)
    assert data.groups[0].key == "dense"
    assert len(data.others) <= 20


def test_law_curve_is_the_law_with_its_band(small: Any) -> None:
    curve = frontier.law_curve(small.laws, "dense", TARGET)
    law = small.laws.law("dense")
    assert curve.compute[0] == pytest.approx(law.low)
    assert curve.compute[-1] == pytest.approx(TARGET)
    assert curve.compute[curve.measured - 1] == pytest.approx(law.high)
    assert curve.loss == pytest.approx(law.l_inf + np.exp(law.log_b) * np.array(curve.compute) ** -law.exponent)
    assert all(low <= high for low, high in zip(curve.low, curve.high, strict=True))


def board(*rows: tuple[str, float, float, float]) -> pd.DataFrame:
    places = {"omega": 0.0, "psi": 1.0, "nu": 0.5}
    named = [
        {"structure": k, "key": k, **places, "multiplier": m, "multiplier_low": a, "multiplier_high": b} for k, m, a, b in rows
    ]
    return pd.DataFrame(named)


def test_multipliers_leave_out_dense_and_the_unknown() -> None:
    frame = board(
        ("x", 1.5, 1.2, 2.0),
        ("dense", 1.0, 0.9, 1.1),
        ("y", 1.1, 0.8, 1.3),
        ("z", math.nan, math.nan, math.nan),
    )
    data = multipliers.multipliers_data(frame, limit=1)
    assert [row.name for row in data.rows] == ["x"]
    assert data.hidden == 1
    assert [row.undecided for row in multipliers.multipliers_data(frame).rows] == [False, True]


def test_multiplier_intervals_reach_the_ends() -> None:
    figure = multipliers.multipliers_figure(multipliers.multipliers_data(board(("x", 1.5, 1.2, 2.0))))
    trace = next(trace for trace in figure.data if trace.x and trace.x[0] is not None)
    assert trace.x[0] + trace.error_x.array[0] == pytest.approx(2.0)
    assert trace.x[0] - trace.error_x.arrayminus[0] == pytest.approx(1.2)


def test_savings_and_exponents_are_drawn_as_they_are_known(small: Any) -> None:
    keys = highlighted(small.leaderboard)
    curves = ranking.multiplier_curves_data(small.laws, keys, TARGET)
    lines = [trace for trace in law_plots.savings_figure(curves, TARGET).data if trace.text]
    assert [trace.name for trace in lines] == [curve.name for curve in curves]
    for trace, curve in zip(lines, curves, strict=True):
        assert list(trace.y) == pytest.approx(curve.multiplier[: curve.measured])
    rows = ranking.exponents_data(small.laws, list(small.leaderboard["key"]))
    drawn = law_plots.exponents_figure(rows, small.laws.exponent_interval).data
    places = {place: (x, x + up) for t in drawn for place, x, up in zip(t.y, t.x, t.error_x.array, strict=True)}
    assert [places[n] for n in range(len(rows))] == [pytest.approx((row.exponent, row.high)) for row in rows]


def test_taxonomy_has_each_structure_once_and_the_unranked_without_a_multiplier(small: Any) -> None:
    part = small.leaderboard.iloc[:3]
    data = taxonomy.taxonomy_data(small.trials, part)
    assert len(data.points) == small.trials["key"].nunique()
    assert [point.name for point in data.measured] == list(part.sort_values("multiplier")["structure"])
    assert len(data.unmeasured) == len(data.points) - 3


def test_a_mark_is_the_best_of_its_place_and_says_how_many_there_are(small: Any) -> None:
    data = taxonomy.taxonomy_data(small.trials, small.leaderboard)
    marks = taxonomy.projection_figure(data, "omega", "psi").data[1]
    best: dict[tuple[float, float], list[float]] = {}
    for point in data.measured:
        best.setdefault((round(point.omega, 3), round(point.psi, 3)), []).append(point.multiplier)
    shown = {
        (round(x, 3), round(y, 3)): (m, t) for x, y, m, t in zip(marks.x, marks.y, marks.marker.color, marks.text, strict=True)
    }
    assert shown.keys() == best.keys() and len(shown) < len(data.measured)
    for place, values in best.items():
        colour, text = shown[place]
        assert colour == pytest.approx(math.log(max(values)))
        assert (f"the best of {len(values)} here" in text) == (len(values) > 1)


@pytest.mark.parametrize("side", ["input", "output"])
def test_simplex_counts_structures_and_names_the_best(small: Any, side: simplices.Side) -> None:
    data = simplices.simplex_data(small.trials, small.leaderboard, side)
    assert sum(point.structures for point in data.points) == small.trials["key"].nunique() - 1
    assert all(sum(point.split) == pytest.approx(1, abs=1e-5) for point in data.points)
    best = small.leaderboard[small.leaderboard["key"] != "dense"]["multiplier"].max()
    assert max(p.multiplier for p in data.points if p.multiplier > 0) == pytest.approx(best)


def test_steering_runs_the_best_and_keeps_the_lost(small: Any) -> None:
    data = steering.steering_data(small.trials)
    values = np.exp(small.trials["value"].dropna())
    assert [point.multiplier for point in data.points] == pytest.approx(list(values))
    assert list(data.best) == pytest.approx(list(values.cummax()))
    assert data.lost == tuple(small.trials.loc[small.trials["value"].isna(), "number"])


def test_share_is_over_a_window_of_each_kind() -> None:
    count = steering.WINDOW + 2
    frame = pd.DataFrame(
        {
            "number": range(count), "kind": "proposal", "structure": "x", "key": "x", "value": 0.1,
            "omega": [0.5, 0.5, *[0.0] * steering.WINDOW], "psi": 1.0, "state": "completed",
        }
    )  # fmt: skip
    share = [value for _, value in steering.steering_data(frame).share["proposal"]]
    assert share[:3] == [0.0, 0.0, pytest.approx(1 / 3)]
    assert share[-1] == 1.0


def test_curves_are_few_and_count_the_hidden(large: Any) -> None:
    data = curves.curves_data(large.points, highlighted(large.leaderboard))
    shown = [*data.others, *(curve for group in data.highlighted.values() for curve in group)]
    assert len(shown) <= curves.CURVES
    assert len(shown) + data.hidden == large.points["number"].nunique()


@given(st.lists(st.integers(), max_size=60), st.integers(2, 20))
def test_thin_keeps_ends_and_order(values: list[int], limit: int) -> None:
    kept = thin(values, limit)
    assert len(kept) == min(len(values), limit)
    assert kept[:1] == values[:1] and kept[-1:] == values[-1:]


def test_small_parts() -> None:
    assert broken_line([(1.0, 2.0), (3.0,)]) == [1.0, 2.0, None, 3.0]
    assert broken_line([]) == []
    assert [group(0, 1), group(0, 0.5), group(0.5, 1)] == ["ω = 0, ψ = 1", "ω = 0, ψ < 1", "ω > 0"]
    assert looks(["dense", "a"])["dense"] != looks(["dense", "a"])["a"]
    assert empty_figure("nothing").layout.annotations[0].text == "nothing"
    assert results.empty_leaderboard().empty


def test_importing_is_cheap() -> None:
    heavy = "plotly rich pandas jinja2 torch ray scipy"
    code = "import sys, dashboards.plots, dashboards.report, dashboards.terminal\n"
    code += f"print([name for name in {heavy.split()} if name in sys.modules])"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout == "[]\n"


@given(st.floats(1e-6, 0.9), st.floats(1.1, 1e6))
def test_multiplier_axis_has_few_round_ticks_and_one(low: float, high: float) -> None:
    axis = multiplier_axis(low, high)
    assert 1.0 in axis["tickvals"]
    assert len(axis["tickvals"]) <= 13
    assert axis["range"][0] < math.log10(low) < math.log10(high) < axis["range"][1]


def test_a_boundless_interval_does_not_squeeze_the_others() -> None:
    frame = board(("x", 3.0, 0.7, 150.0), ("y", 0.9, 1e-5, 1.2))
    low, high = multipliers.multipliers_figure(multipliers.multipliers_data(frame)).layout.xaxis.range
    assert (10**low, 10**high) == pytest.approx((1 / multipliers.FAR, multipliers.FAR), rel=0.4)
