"""Our sampler inside Optuna: its public conformance suite, and plain studies with a known answer."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import optuna
import pytest
from optuna.samplers import BaseSampler
from optuna.testing.pytest_samplers import BasicSamplerTestCase, SingleOnlySamplerTestCase

from search.sampler import StructureSampler, parameters, search_space, structure_of, suggest_structure
from search.steering import Steering
from space.catalogue import STANDARD
from space.errors import ConfigError
from space.structure import Structure

optuna.logging.set_verbosity(optuna.logging.ERROR)


class TestConformance(BasicSamplerTestCase, SingleOnlySamplerTestCase):
    """Optuna's own suite; an objective without our parameters is sampled at random."""

    @pytest.fixture
    def sampler(self) -> Callable[[], BaseSampler]:
        return lambda: StructureSampler(seed=0)


def truth(structure: Structure) -> float:
    """A landscape in which omega = 0 and psi = 1 are best."""
    return -1.0 * float(structure.omega) - 1.0 * (1 - float(structure.psi)) + 0.1 * (1 - float(structure.nu))


def test_every_proposal_of_a_plain_study_is_feasible_and_new() -> None:
    study = optuna.create_study(sampler=StructureSampler(seed=1), direction="maximize")
    study.optimize(lambda trial: truth(suggest_structure(trial)), n_trials=12)
    keys = [structure_of(trial.params).key for trial in study.trials]
    assert len(set(keys)) == 12


def test_it_finds_what_is_good_from_results_alone() -> None:
    rng = np.random.default_rng(0)
    sampler = StructureSampler(seed=2, steering=Steering((1.0,), 1.0, explore=0.1))
    study = optuna.create_study(sampler=sampler, direction="maximize")
    for name in STANDARD:
        structure = Structure.parse(name)
        study.add_trial(optuna.create_trial(params=parameters(structure), distributions=search_space(), value=truth(structure)))
    study.optimize(lambda trial: truth(suggest_structure(trial)) + 0.02 * rng.standard_normal(), n_trials=14)
    proposed = [structure_of(t.params) for t in study.trials[len(STANDARD) :]]
    good = [s.omega == 0 and s.psi == 1 for s in proposed]
    assert np.mean(good) > 0.4, "uniform draws over faces give 0.13"
    assert truth(max(proposed, key=truth)) >= truth(Structure.parse("monarch")) - 0.02


def test_a_minimising_study_is_understood_with_the_sign_turned() -> None:
    def answer(direction: str, sign: float) -> list[dict[str, float]]:
        study = optuna.create_study(sampler=StructureSampler(seed=3), direction=direction)
        study.optimize(lambda trial: sign * truth(suggest_structure(trial)), n_trials=6)
        return [trial.params for trial in study.trials]

    assert answer("minimize", -1.0) == answer("maximize", 1.0)


def test_a_proposal_depends_on_seed_number_and_results_only() -> None:
    def propose(seed: int) -> list[tuple[str, int]]:
        study = optuna.create_study(sampler=StructureSampler(seed, Steering((1.0, 4.0), 4.0)), direction="maximize")
        for name in STANDARD:
            structure = Structure.parse(name)
            study.add_trial(
                optuna.create_trial(params=parameters(structure, 1, 2), distributions=search_space(2), value=truth(structure))
            )
        sampler = study.sampler
        assert isinstance(sampler, StructureSampler)
        proposals = [sampler.propose(sampler.observed(study), number) for number in (8, 9, 9, 8)]
        return [(p.structure.key, p.rung) for p in proposals]

    first = propose(4)
    assert first[0] == first[3] and first[1] == first[2] and first[0] != first[1]
    assert propose(4) == first


def test_values_that_mean_nothing_are_passed_over() -> None:
    study = optuna.create_study(sampler=StructureSampler(seed=5), direction="maximize")
    for number, name in enumerate(STANDARD):
        structure = Structure.parse(name)
        study.add_trial(
            optuna.create_trial(
                params=parameters(structure),
                distributions=search_space(),
                value=math.inf if number == 0 else truth(structure),
            )
        )
    study.add_trial(optuna.create_trial(params=dict.fromkeys(search_space(), 0.3), distributions=search_space(), value=9.0))
    study.optimize(lambda trial: truth(suggest_structure(trial)), n_trials=1)
    assert study.trials[-1].state == optuna.trial.TrialState.COMPLETE


def test_an_exponent_suggested_on_its_own_is_refused() -> None:
    study = optuna.create_study(sampler=StructureSampler(seed=6))
    with pytest.raises(ConfigError, match="suggest_structure"):
        study.optimize(lambda trial: trial.suggest_float("theta_XA", 0.0, 0.5), n_trials=1)


@pytest.mark.parametrize("name", ["dense", *STANDARD, "btt13"])
def test_parameters_round_trip(name: str) -> None:
    structure = Structure.parse(name)
    assert structure_of(parameters(structure)) == structure
