"""Choice of frontier points, against brute force and by rule."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from storage.laws.frontier import ABOVE_HULL, NOT_FINITE, OFF_BEST, ROSE, USED, frontier, lower_hull
from storage.laws.power_law import PowerLaw
from storage.laws.run import Run

SHAPE = PowerLaw(1.0, np.log(100.0), 0.2, 1e9, 1e12)
COMPUTE = np.geomspace(1e9, 1e12, 13)


def run(name: str, loss: np.ndarray, compute: np.ndarray = COMPUTE, size: float = float("nan")) -> Run:
    return Run("s", name, compute, loss, compute / 1e10, size)


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


def test_every_point_of_an_exact_law_is_used() -> None:
    assert set(frontier([run("1", SHAPE.predict(COMPUTE))], SHAPE, 0.5).reason) == {USED}


def test_each_rule_names_its_points() -> None:
    loss = SHAPE.predict(COMPUTE)
    bad = loss.copy()
    bad[4], bad[7] = np.nan, loss[6] * 1.05
    far = run("2", loss[8:11] * 1.08, COMPUTE[8:11])
    reason = frontier([run("1", bad), far], SHAPE, 0.5).reason
    assert [reason[4], reason[7]] == [NOT_FINITE, ROSE]
    assert reason[13:] == (ABOVE_HULL,) * 3
    assert [reason[at] for at in (0, 3, 6, 8, 12)] == [USED] * 5


def test_a_single_run_keeps_the_part_that_touches_the_law() -> None:
    """A run of one size is convex, its own hull: only the slope of the law tells where it was efficient."""
    compute = np.geomspace(1e9, 1e13, 41)
    best = 1e11
    excess = 0.02 * np.log(compute / best) ** 2
    front = frontier([run("1", SHAPE.predict(compute) * np.exp(excess), compute)], SHAPE, 0.5)
    used = compute[front.used]
    assert used.min() > 3e10
    assert used.max() < 3e11
    assert OFF_BEST in front.reason


@given(
    st.lists(st.lists(st.floats(1.2, 4.0), min_size=1, max_size=6), min_size=1, max_size=4),
    st.floats(0.0, 1.19),
    st.floats(0.01, 1.0),
)
def test_some_point_is_always_used(curves: list[list[float]], l_inf: float, exponent: float) -> None:
    shape = PowerLaw(l_inf, 20 * exponent, exponent, 1.0, 1.0)
    runs = [run(str(n), np.array(c), 1e9 * 2.0 ** np.arange(n, n + len(c))) for n, c in enumerate(curves)]
    assert frontier(runs, shape, 0.6).used.any()


@pytest.mark.parametrize(
    ("losses", "edge"),
    [((2.0, 2.1, 2.2), "smallest size"), ((2.1, 2.0, 2.1), None), ((2.2, 2.1, 2.0), "largest size")],
)
def test_a_best_size_at_the_end_of_the_sizes_is_reported(losses: tuple[float, ...], edge: str | None) -> None:
    runs = [run(str(n), np.array([3.0, loss]), np.array([1e9, 1e10]), n) for n, loss in enumerate(losses)]
    assert frontier(runs, SHAPE, 0.5).edge == edge
    unknown = [run(item.run_id, item.loss, item.compute) for item in runs]
    assert frontier(unknown, SHAPE, 0.5).edge is None
