"""Choice of frontier points, against brute force and by rule."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from storage.laws.frontier import ABOVE_HULL, EARLY, NOT_FINITE, ROSE, TAIL, USED, Front, frontier, fronts, lower_hull
from storage.laws.power_law import PowerLaw
from storage.laws.run import Run

SHAPE = PowerLaw(1.0, np.log(100.0), 0.2, 1e9, 1e12)
COMPUTE = np.geomspace(1e11, 1e12, 13)


def run(name: str, loss: np.ndarray, compute: np.ndarray = COMPUTE, size: float = float("nan")) -> Run:
    return Run("s", name, compute, loss, compute / 1e10, size)


def front(*runs: Run) -> Front:
    return fronts({"s": list(runs)})["s"]


def brute_hull(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Lowest chord between any two points around each x, then the lowest of all to the left."""
    points = list(zip(x, y, strict=True))
    heights = []
    for at in x:
        chords = [py for px, py in points if px <= at]
        for (px, py), (qx, qy) in itertools.product(points, points):
            if px < at < qx:
                chords.append(py + (qy - py) * (at - px) / (qx - px))
        heights.append(min(chords))
    return np.array(heights)


@given(st.lists(st.tuples(st.integers(0, 9), st.floats(0, 5)), min_size=1, max_size=9))
def test_the_hull_is_the_lowest_chord(points: list[tuple[int, float]]) -> None:
    x, y = np.array(points, dtype=float).T
    assert np.allclose(lower_hull(x, y), brute_hull(x, y), atol=1e-9)


def test_the_end_of_a_run_is_used_and_gives_its_loss_and_slope() -> None:
    found = front(run("1", 3.0 * (COMPUTE / 1e12) ** -0.1))
    assert np.exp(found.log_loss) == pytest.approx(3.0)
    assert np.exp(found.x[:, 0]) == pytest.approx([1e12, 1e2])
    assert found.slope[:, 0] == pytest.approx([-0.1, -0.1])
    assert np.exp(found.low) == pytest.approx([COMPUTE[COMPUTE >= TAIL * 1e12][0], COMPUTE[COMPUTE >= TAIL * 1e12][0] / 1e10])
    (report,) = found.points
    assert report.used == np.sum(COMPUTE >= TAIL * 1e12)
    assert report.left_out == {EARLY: 13 - report.used}


def test_each_rule_names_its_points() -> None:
    loss = SHAPE.predict(COMPUTE)
    bad = loss.copy()
    bad[9], bad[11] = np.nan, loss[10] * 1.05
    judged = frontier([run("1", bad), run("2", loss * 1.08)])
    assert [judged.reason[at] for at in (0, 9, 10, 11, 12)] == [EARLY, NOT_FINITE, USED, ROSE, USED]
    assert set(judged.reason[13:]) == {EARLY, ABOVE_HULL}
    assert np.isnan(judged.log_loss[9])
    assert list(judged.run) == [0] * 13 + [1] * 13
    found = front(run("1", bad), run("2", loss * 1.08))
    assert found.log_loss.size == 1
    assert [report.used for report in found.points] == [judged.reason[:13].count(USED), 0]
    assert found.points[1].left_out == {EARLY: judged.reason[13:].count(EARLY), ABOVE_HULL: judged.reason.count(ABOVE_HULL)}


def test_a_run_above_its_rival_is_left_out_though_it_is_the_cheapest() -> None:
    cheap = run("1", SHAPE.predict(COMPUTE) * 1.06, COMPUTE * 0.98)
    assert [report.used > 0 for report in front(cheap, run("2", SHAPE.predict(COMPUTE))).points] == [False, True]


@given(st.lists(st.lists(st.floats(1.2, 4.0), min_size=1, max_size=6), min_size=1, max_size=4))
def test_some_point_is_always_used(curves: list[list[float]]) -> None:
    runs = [run(str(n), np.array(c), 1e9 * 2.0 ** np.arange(n, n + len(c))) for n, c in enumerate(curves)]
    found = front(*runs)
    assert np.all(np.isfinite(found.log_loss))
    assert found.log_loss.size >= 1
    assert [sum(report.left_out.values()) + report.used for report in found.points] == [len(c) for c in curves]


@pytest.mark.parametrize(
    ("losses", "edge"),
    [((2.0, 2.1, 2.2), "smallest size"), ((2.1, 2.0, 2.1), None), ((2.2, 2.1, 2.0), "largest size")],
)
def test_a_best_size_at_the_end_of_the_sizes_is_reported(losses: tuple[float, ...], edge: str | None) -> None:
    runs = [run(str(n), np.array([3.0, loss]), np.array([1e9, 1e10]), n) for n, loss in enumerate(losses)]
    assert front(*runs).edge == edge
    assert front(*(run(item.run_id, item.loss, item.compute) for item in runs)).edge is None
