"""A run's curve: what it accepts, what it hands on."""

from __future__ import annotations

import json

import numpy as np
import pytest

from storage.laws.run import Run, by_structure, json_value


def test_a_run_holds_its_curve_and_what_it_spent() -> None:
    run = Run("dense", "1", [1e9, 2e9], [3.0, 2.5], [1.0, 2.0])
    assert run.compute.dtype == np.float64
    assert run.flops == 2e9
    assert np.allclose(run.log("seconds"), [0.0, np.log(2)])


@pytest.mark.parametrize(
    ("compute", "loss", "seconds", "words"),
    [
        ([1.0, 2.0], [3.0], [1.0, 2.0], "2, 1 and 2 values"),
        ([2.0, 1.0], [3.0, 2.0], [1.0, 2.0], "compute must increase"),
        ([0.0, 1.0], [3.0, 2.0], [1.0, 2.0], "compute must be finite and above 0"),
        ([1.0, 2.0], [3.0, 2.0], [0.0, 2.0], "seconds must be finite and above 0"),
        ([1.0, np.nan], [3.0, 2.0], [1.0, 2.0], "compute must be finite"),
    ],
)
def test_a_malformed_curve_is_refused_and_the_run_named(
    compute: list[float], loss: list[float], seconds: list[float], words: str
) -> None:
    with pytest.raises(ValueError, match=f"run trial 7: .*{words}"):
        Run("dense", "trial 7", compute, loss, seconds)


def test_only_runs_with_a_finite_loss_are_grouped() -> None:
    good, diverged = (Run("a", name, [1.0], [loss], [1.0]) for name, loss in (("1", 2.0), ("2", np.nan)))
    empty = Run("b", "3", [], [], [])
    assert by_structure([diverged, empty, good]) == {"a": [good]}
    assert empty.flops == 0.0


def test_plain_values_are_json() -> None:
    value = {"a": np.array([1.0, np.inf]), "b": (np.float64(2.0), np.int64(3), np.bool_(True)), "c": None}
    assert json.loads(json.dumps(json_value(value))) == {"a": [1.0, None], "b": [2.0, 3, True], "c": None}
