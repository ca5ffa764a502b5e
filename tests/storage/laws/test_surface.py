"""The second law of dense, L(N, D): its optimum, and when it is refused."""

from __future__ import annotations

import json

import numpy as np
import pytest

from storage.laws import DENSE, Run, surface_law
from storage.laws.surface import AGREES, AT_EDGE, NOT_ENOUGH

TARGET = 1e17


def grid(sizes: np.ndarray, budgets: np.ndarray) -> list[Run]:
    """Dense runs of every size at every budget on 1.8 + 48 N^-0.35 + 210 D^-0.37, the optimum known."""
    runs = []
    for number, (params, budget) in enumerate((n, c) for n in sizes for c in budgets):
        compute = budget * np.geomspace(0.25, 1.0, 6)
        loss = 1.8 + 48 * params**-0.35 + 210 * (compute / 6 / params) ** -0.37
        runs.append(Run(DENSE, str(number), compute, loss, compute / 1e12, 6 * params))
    return runs


def test_a_grid_of_sizes_and_tokens_gives_the_optimum_and_agrees_with_its_hull() -> None:
    runs = grid(np.geomspace(1e5, 1e8, 9), np.geomspace(1e14, 1e17, 5))
    found = surface_law(runs, TARGET)
    assert found.surface is not None
    assert found.surface.floor == pytest.approx(1.8, rel=1e-3)
    tried = np.geomspace(1e5, 1e8, 20_001)
    loss = 1.8 + 48 * tried**-0.35 + 210 * (TARGET / 6 / tried) ** -0.37
    assert found.best_params == pytest.approx(tried[np.argmin(loss)], rel=0.02)
    assert found.loss == pytest.approx(loss.min(), rel=1e-4)
    assert found.verdict == AGREES
    assert json.loads(json.dumps(found.to_dict(), allow_nan=False))["verdict"] == AGREES


def test_an_optimum_outside_the_sizes_is_said_to_be() -> None:
    runs = grid(np.geomspace(1e5, 1e6, 5), np.geomspace(1e13, 1e15, 4))
    found = surface_law(runs, 1e20)
    assert found.verdict == AT_EDGE
    assert found.best_params > 1e6


def test_two_sizes_and_unknown_sizes_are_not_enough() -> None:
    two = surface_law(grid(np.array([1e5, 1e7]), np.array([1e15, 1e16])), TARGET)
    assert (two.surface, two.verdict) == (None, NOT_ENOUGH)
    assert np.isnan(two.best_params)
    unknown = [
        Run(DENSE, run.run_id, run.compute, run.loss, run.seconds) for run in grid(np.geomspace(1e5, 1e8, 5), np.array([1e16]))
    ]
    assert surface_law(unknown, TARGET).verdict == NOT_ENOUGH
    assert json.loads(json.dumps(two.to_dict(), allow_nan=False))["loss"] is None
