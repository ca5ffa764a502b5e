"""What was foreseen, against what came."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pandas as pd
import pytest

from dashboards.foresight import foresight_data, foresight_figure, foresight_text
from dashboards.left_out import left_out_data


def table(*rows: tuple[int, float, float, float]) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Trials and predictions from (number, log value, foreseen mean, sd)."""
    trials = pd.DataFrame([{"number": n, "kind": "proposal", "structure": "s", "value": v} for n, v, _, _ in rows])
    return trials, pd.DataFrame([{"number": n, "mean": m, "sd": sd} for n, _, m, sd in rows])


def test_points_are_multipliers_with_intervals_of_nine_in_ten() -> None:
    rng = np.random.default_rng(0)
    rows = [(n, float(rng.normal(0.1, 0.3)), 0.1, 0.3) for n in range(4000)]
    data = foresight_data(*table(*rows))
    assert data.inside / 4000 == pytest.approx(0.9, abs=0.015)
    assert data.error == pytest.approx(math.exp(0.3), rel=0.02)
    assert data.points[7].measured == pytest.approx(math.exp(rows[7][1]))
    assert data.points[0].low * data.points[0].high == pytest.approx(math.exp(0.1) ** 2)


def test_only_trials_with_both_count() -> None:
    trials, predictions = table((3, 0.0, 0.0, 1.0), (1, 0.2, 0.1, 1.0), (2, math.nan, 0.0, 1.0))
    data = foresight_data(trials, predictions[predictions["number"] != 3])
    assert [point.number for point in data.points] == [1]
    assert foresight_data(trials, None).points == ()
    assert foresight_text(data).startswith("Of 1 trial that was foreseen, 1 was")
    assert foresight_text(foresight_data(trials, None)) == ""


@pytest.mark.parametrize("world", ["empty", "single", "small", "large"])
def test_the_figure_is_plain_lists_at_every_size(world: str, request: pytest.FixtureRequest) -> None:
    made = request.getfixturevalue(world)
    data = foresight_data(made.trials, made.predictions())
    figure = json.loads(foresight_figure(data).to_json())
    assert "bdata" not in json.dumps(figure)
    marks = [trace for trace in figure["data"] if trace["mode"] == "markers"]
    assert sum(len(trace["x"]) for trace in marks) == len(data.points) == made.trials["value"].notna().sum()


def test_left_out_points_are_told_apart_as_the_law_did(small: Any) -> None:
    for key, entry in small.laws.laws.items():
        data = left_out_data(small.points, small.laws, key, 1e13)
        rows = small.points[(small.points["key"] == key) & ~small.points["warmup"]]
        assert len(data.points) == len(rows)
        used = [point for point in data.points if point.reason == "used"]
        fitted = sum(report.used for report in entry.points)
        assert abs(len(used) - fitted) <= 0.1 * len(rows) + 1  # the fit alternates: its last choice is one step behind
        law = small.laws.law(key)
        for point in data.points:
            assert point.residual == pytest.approx(math.log(point.loss / float(law.predict(point.flops))))
