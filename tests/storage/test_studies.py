"""Studies: created once, opened by name, never with other settings."""

from __future__ import annotations

import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from space.errors import StudyError
from storage.database import Database
from storage.fits import load_fit, save_fit
from storage.ledger import Ledger
from storage.studies import StudyRecord, open_study, trial_seed

New = Callable[..., StudyRecord]
SETTINGS: dict[str, Any] = {"lr": 0.003, "rungs": [1e12, 4e12], "model": {"depth": 3, "heads": (1, 2)}}


def test_a_study_comes_back_as_it_was_created(database: Database, new_study: New) -> None:
    study = new_study(database, "mine", 12, settings=SETTINGS, seed=2**63 - 1)
    assert study == open_study(database, "mine")
    assert (study.name, study.budget, study.seed, study.target_compute) == ("mine", 12, 2**63 - 1, 1e18)
    assert study.settings == {"lr": 0.003, "rungs": [1e12, 4e12], "model": {"depth": 3, "heads": [1, 2]}}
    assert (study.flop_convention, study.corpus_fingerprint) == ("train_flops", "ab12")
    assert study.versions == {"einsearch": "0.1.0"}


def test_the_same_study_is_returned_and_its_budget_can_grow(database: Database, new_study: New) -> None:
    first = new_study(database, settings=SETTINGS)
    again = new_study(database, trials=15, settings=json.loads(json.dumps(SETTINGS)), versions={"einsearch": "9"})
    assert (again.id, again.budget, again.created, again.versions) == (
        first.id,
        15,
        first.created,
        first.versions,
    )
    driver = Ledger(database, first.id).join()
    numbers = [getattr(Ledger(database, first.id).claim(driver), "number", None) for _ in range(16)]
    assert numbers == [*range(15), None]
    with pytest.raises(StudyError, match="has a budget of 15 trials, 14 given; it can only grow"):
        new_study(database, trials=14, settings=SETTINGS)


def test_other_settings_are_refused_naming_each_difference(database: Database, new_study: New) -> None:
    new_study(database, settings=SETTINGS)
    other = {"lr": 0.01, "rungs": [1e12, 4e12], "model": {"depth": 6, "heads": (1, 2), "width": 64}}
    with pytest.raises(StudyError) as caught:
        new_study(database, settings=other, seed=8)
    assert str(caught.value) == (
        "study 'first' exists with other settings: lr: given 0.01, recorded 0.003;"
        " model.depth: given 6, recorded 3; model.width: given 64, recorded nothing;"
        " seed: given 8, recorded 7;"
        " give the recorded ones, or another name"
    )
    assert open_study(database, "first").seed == 7


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"name": " "}, "cannot name a study"),
        ({"name": "a\nb"}, "cannot name a study"),
        ({"name": "x" * 129}, "cannot name a study; give 1 to 128"),
        ({"trials": 0}, "a budget of 0 trials was given; give 1 to"),
        ({"trials": 1}, "its plan alone has 2; give at least 2"),
        ({"seed": -1}, "the seed is -1; give a whole number from 0"),
        ({"target_compute": float("nan")}, "the target compute is nan FLOPs; give a number above 0"),
        ({"settings": {"lr": float("nan")}}, "setting 'lr' is nan, which is not JSON"),
        ({"settings": {"task": object}}, "setting 'task' is .*, which is not JSON"),
    ],
)
def test_a_study_that_cannot_be_is_refused(database: Database, new_study: New, changes: dict[str, Any], reason: str) -> None:
    with pytest.raises(StudyError, match=reason):
        new_study(database, **changes)
    with pytest.raises(StudyError, match="it has none yet"):
        open_study(database, "first")


def test_an_unknown_study_lists_the_known_ones(database: Database, new_study: New) -> None:
    for name in ("winter", "autumn"):
        new_study(database, name)
    with pytest.raises(StudyError, match=r"no study 'autum' in .*; it has 'autumn', 'winter'"):
        open_study(database, "autum")


def test_of_many_creators_one_creates(url: str, database: Database, new_study: New) -> None:
    def create(_: int) -> StudyRecord:
        with Database.open(url) as mine:
            return new_study(mine, "race")

    with ThreadPoolExecutor(8) as threads:
        studies = list(threads.map(create, range(16)))
    assert studies == [open_study(database, "race")] * 16


@given(seed=st.integers(0, 2**63 - 1), number=st.integers(0, 10_000))
def test_the_seed_of_a_trial_is_its_own(seed: int, number: int) -> None:
    assert trial_seed(seed, number) == trial_seed(seed, number) < 2**32
    assert trial_seed(seed, number) != trial_seed(seed, number + 1)


def test_a_fit_is_kept_under_its_settings(database: Database, study: StudyRecord) -> None:
    assert load_fit(database, study.id, "laws", {"level": 0.9}) is None
    save_fit(database, study.id, "laws", {"level": 0.9}, {"a": [0.1, 0.2]})
    save_fit(database, study.id, "laws", {"level": 0.5}, "other")
    save_fit(database, study.id, "laws", {"level": 0.9}, {"a": [0.3, None]})
    assert load_fit(database, study.id, "laws", {"level": 0.9}) == {"a": [0.3, None]}
    assert load_fit(database, study.id, "laws", {"level": 0.5}) == "other"
    assert load_fit(database, study.id, "steering", {"level": 0.9}) is None
