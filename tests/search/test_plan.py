"""From settings to trials: equal compute by construction, identities, and the plan."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

from search import plan
from search.settings import Rung, StudySettings, with_trial
from space.catalogue import STANDARD
from space.sampling import sample_structure
from space.structure import Structure
from trainers import flops
from trainers.gpt_config import model_config

VOCAB = 96
SETTINGS = StudySettings()
SOME = [Structure.parse(name) for name in STANDARD] + [sample_structure(np.random.default_rng(n)) for n in range(12)]


def per_token(structure: Structure, rung: int, width: int) -> float:
    return flops.count(model_config(plan.trial_config(SETTINGS, structure, rung, width, 0), VOCAB)).total


@pytest.mark.parametrize("rung", range(len(SETTINGS.rungs)))
@pytest.mark.parametrize("structure", SOME, ids=str)
def test_a_structure_costs_what_the_dense_model_of_its_rung_costs(structure: Structure, rung: int) -> None:
    dense = per_token(Structure.parse("dense"), rung, SETTINGS.rungs[rung].width)

    def error(width: int) -> float:
        return abs(math.log(per_token(structure, rung, width) / dense))

    step = SETTINGS.trial.d_head
    closest = min(range(step, 20 * step, step), key=error)
    assert plan.width_at(SETTINGS, structure, rung, VOCAB) == closest


def test_cost_matches_within_a_few_per_cent_where_widths_are_fine() -> None:
    fine = with_trial(StudySettings(rungs=(Rung(flops=1e12, width=128),), baseline=((0, 128),), known_rung=0), {"d_head": 4})

    def cost(structure: Structure, width: int) -> float:
        return flops.count(model_config(plan.trial_config(fine, structure, 0, width, 0), VOCAB)).total

    dense = cost(Structure.parse("dense"), 128)
    costs = [cost(structure, plan.width_at(fine, structure, 0, VOCAB)) for structure in SOME[:6]]
    assert np.median(np.abs(np.log(np.array(costs) / dense))) < 0.03


def test_identity_is_equal_where_all_sizes_are_equal() -> None:
    def sizes(structure: Structure) -> list[list[int]]:
        width = plan.width_at(SETTINGS, structure, 0, VOCAB)
        model = model_config(plan.trial_config(SETTINGS, structure, 0, width, 0), VOCAB)
        return [list(structure.realize(*widths).sizes.values()) for widths in model.layer_widths.values()]

    rng = np.random.default_rng(0)
    structures = list({sample_structure(rng) for _ in range(60)})
    pairs = list(itertools.combinations(structures, 2))
    same = [plan.identity(SETTINGS, a, 0, VOCAB) == plan.identity(SETTINGS, b, 0, VOCAB) for a, b in pairs]
    assert same == [sizes(a) == sizes(b) for a, b in pairs]
    assert any(same) and not all(same)


def test_the_plan_is_the_baseline_and_then_the_known_structures() -> None:
    planned = plan.planned_trials(SETTINGS, VOCAB)
    assert len(planned) == SETTINGS.planned == len(SETTINGS.baseline) + len(SETTINGS.known)
    baseline, known = planned[: len(SETTINGS.baseline)], planned[len(SETTINGS.baseline) :]
    assert [(t.kind, t.structure.is_dense, t.rung, t.width) for t in baseline] == [
        ("baseline", True, rung, width) for rung, width in SETTINGS.baseline
    ]
    assert [t.structure for t in known] == [Structure.parse(name) for name in SETTINGS.known]
    assert {(t.kind, t.rung) for t in known} == {("known", SETTINGS.known_rung)}
    for trial in planned:
        assert trial.config["structure"] == trial.structure.key and trial.config["width"] == trial.width
        assert trial.config["budget_flops"] == SETTINGS.rungs[trial.rung].flops
