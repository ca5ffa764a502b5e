"""Settings: the round trip through JSON, and what is refused before anything is spent."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from search.settings import OURS, Rung, StudySettings, with_trial
from space.catalogue import STANDARD
from space.errors import ConfigError, StructureError


@st.composite
def any_settings(draw: st.DrawFn) -> StudySettings:
    costs = sorted(draw(st.sets(st.floats(1e6, 1e18), min_size=1, max_size=4)))
    rungs = tuple(Rung(flops=cost, width=draw(st.integers(1, 64)) * 8) for cost in costs)
    rung = st.integers(0, len(rungs) - 1)
    return with_trial(
        StudySettings(
            rungs=rungs,
            baseline=tuple(draw(st.lists(st.tuples(rung, st.integers(1, 512)), min_size=1, max_size=5))),
            known=tuple(draw(st.lists(st.sampled_from(STANDARD), unique=True))),
            known_rung=draw(rung),
            target_compute=draw(st.none() | st.floats(1e6, 1e20)),
            explore=draw(st.floats(0, 1)),
            seed=draw(st.integers(0, 2**40)),
        ),
        {"lr": draw(st.floats(1e-6, 1)), "betas": [0.9, 0.99], "corpus": draw(st.text(min_size=1, max_size=8))},
    )


@given(any_settings())
def test_settings_round_trip_through_json(settings: StudySettings) -> None:
    assert StudySettings.from_dict(json.loads(json.dumps(settings.to_dict()))) == settings


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"rungs": ()}, "rungs spend .*at least one rung"),
        ({"rungs": (Rung(flops=2.0, width=8), Rung(flops=1.0, width=8))}, "rungs spend .*above the one before"),
        ({"baseline": ()}, "baseline is empty; give at least one dense trial"),
        ({"baseline": ((3, 8),)}, "baseline: rung 3 is not one of the 3 rungs; they count from 0"),
        ({"baseline": ((0.5, 8),)}, "baseline: rung 0.5 is not"),
        ({"baseline": ((0, 0),)}, "baseline: width is 0; give an integer of at least 1"),
        ({"known_rung": -1}, "known_rung: rung -1 is not"),
        ({"known": ("dense",)}, "known: dense is among"),
        ({"known": ("monarch", "monarch")}, "known: monarch is there twice"),
        ({"known": ("kronecker3",)}, "known: kronecker3 has fixed sizes or over two factors"),
        ({"known": ("monarch:blocks=4",)}, "known: monarch:blocks=4 has fixed sizes"),
        ({"target_compute": 0.0}, "target_compute is 0.0; give a finite number of FLOPs above 0"),
        ({"target_compute": math.inf}, "target_compute is inf"),
        ({"explore": 1.5}, r"explore is 1.5; give a share in \[0, 1\]"),
        ({"explore": "half"}, "explore is 'half'"),
        ({"explore": math.nan}, "explore is nan"),
        ({"seed": -1}, "seed is -1; give an integer of at least 0"),
        ({"seed": True}, "seed is True"),
    ],
)
def test_a_wrong_setting_is_named(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        StudySettings(**changes)


@pytest.mark.parametrize(("flops", "width", "message"), [(0.0, 8, "rungs: flops is 0.0"), (1.0, 1.5, "rungs: width is 1.5")])
def test_a_wrong_rung_is_named(flops: float, width: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Rung(flops=flops, width=width)


def test_an_unknown_structure_is_refused() -> None:
    with pytest.raises(StructureError, match="monarck"):
        StudySettings(known=("monarck",))


@pytest.mark.parametrize(
    ("change", "message"),
    [({"explor": 0.1}, "unknown setting 'explor' of a study; known are baseline, early_stopping"), ({"rungs": [{}]}, "flops")],
)
def test_rows_that_are_not_settings_are_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        StudySettings.from_dict(StudySettings().to_dict() | change)


def test_a_row_that_lacks_a_setting_is_refused() -> None:
    with pytest.raises(ConfigError, match="trial"):
        StudySettings.from_dict({key: value for key, value in StudySettings().to_dict().items() if key != "trial"})


def test_trials_can_be_changed() -> None:
    changed = with_trial(StudySettings(), {"lr": 0.01, "depth": 3})
    assert (changed.trial.lr, changed.trial.depth) == (0.01, 3)
    assert changed.rungs == StudySettings().rungs


@pytest.mark.parametrize("key", OURS)
def test_what_the_study_sets_is_not_changed(key: str) -> None:
    with pytest.raises(ConfigError, match=f"{key} is set for each trial by the study"):
        with_trial(StudySettings(), {key: 1})


def test_an_unknown_or_wrong_field_of_a_trial_is_named() -> None:
    with pytest.raises(ConfigError, match="unknown setting 'learning_rate'"):
        with_trial(StudySettings(), {"learning_rate": 1})
    with pytest.raises(ConfigError, match="lr = -1 is not allowed"):
        with_trial(StudySettings(), {"lr": -1})
