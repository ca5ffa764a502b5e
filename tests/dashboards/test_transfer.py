"""The coordinate check as people see it: slopes that are known, panels that compare, and what is said where nothing is."""

from __future__ import annotations

import math

import pytest

from dashboards.coordinates import coordinates_data, coordinates_figure, scale, slopes, transfer_text
from dashboards.paper.checks import coordinates_paper
from dashboards.paper.style import encoded, typeset
from dashboards.style import plainly
from storage.coordinates import Movement
from storage.schema import LAYER_KINDS

POWERS = (0.0, 0.5, -0.25, 0.1, 0.0)
"""Of the width, for each kind of layer of the made-up structure."""


def movements() -> list[Movement]:
    found = []
    for step in (4, 16):
        for width, trials in ((32, 1), (64, 3), (256, 2)):
            changes = tuple(0.1 * step * width**power for power in POWERS)
            found.append(Movement("key-m", "monarch", width, step, trials, changes))
        found.append(Movement("dense", "dense", 64, step, 5, (1.0, 2.0, 3.0, 4.0, 5.0)))
    return found


def test_the_slope_is_the_power_of_the_width_at_the_latest_step() -> None:
    data = coordinates_data(movements(), ["dense", "key-m", "never tried"])
    assert (data.step, data.keys) == (16, ["dense", "key-m"])
    ((key, name, found),) = slopes(data)
    assert (key, name) == ("key-m", "monarch") and found == pytest.approx(POWERS)
    assert "steepest is +0.50, of monarch in attention output" in transfer_text(data)


def test_a_width_counts_with_its_trials() -> None:
    base = [
        Movement("k", "k", width, 4, trials, (change,) * 5)
        for width, change, trials in ((1, 1.0, 1), (2, 2.0, 100), (4, 2.0, 100))
    ]
    (line, *_) = coordinates_data(base, ["k"]).lines
    x, y, w = [0.0, 1.0, 2.0], [0.0, 1.0, 1.0], [1, 100, 100]
    mean = [sum(a * b for a, b in zip(w, v, strict=True)) / 201 for v in (x, y)]
    slope = sum(c * (a - mean[0]) * (b - mean[1]) for a, b, c in zip(x, y, w, strict=True))
    assert line.slope == pytest.approx(slope / sum(c * (a - mean[0]) ** 2 for a, c in zip(x, w, strict=True)))


def test_every_panel_has_the_same_span_and_its_marks_in_sight() -> None:
    lines = coordinates_data(movements(), ["dense", "key-m"]).lines
    ranges = [scale(lines, kind)["range"] for kind in LAYER_KINDS]
    assert [high - low for low, high in ranges] == pytest.approx([ranges[0][1] - ranges[0][0]] * 5)
    for kind, (low, high) in zip(LAYER_KINDS, ranges, strict=True):
        values = [math.log10(change) for line in lines if line.kind == kind for _, change, _ in line.places]
        assert low < min(values) and max(values) < high


def test_figures_hold_every_line_once_in_the_legend() -> None:
    data = coordinates_data(movements(), ["dense", "key-m"])
    drawn = coordinates_figure(data)
    assert len(drawn.data) == 10 and [trace["name"] for trace in drawn.data if trace["showlegend"]] == ["dense", "monarch"]
    assert len({trace["xaxis"] for trace in drawn.data}) == 5
    with typeset():
        assert encoded(coordinates_paper(data), "svg").startswith(b"<?xml")


def test_without_a_check_it_is_said_that_there_is_none() -> None:
    nothing = coordinates_data([], ["dense"])
    assert slopes(nothing) == [] and "far enough apart" in transfer_text(nothing)
    with plainly():
        assert "No trial has recorded" in coordinates_figure(nothing).layout["annotations"][0]["text"]
    one = coordinates_data([m for m in movements() if m.key == "dense"], ["dense"])
    assert slopes(one) == [] and len(one.lines) == 5
