"""The Optuna sampler of the space of structures.

It steers a study of ours, and works in a plain one:

    study = optuna.create_study(sampler=StructureSampler(seed=0), direction="maximize")
    study.optimize(lambda trial: objective(suggest_structure(trial)), n_trials=50)

What it returns for the seven exponents is always feasible, and never a (structure, rung) that was tried.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from optuna.distributions import BaseDistribution, FloatDistribution, IntDistribution
from optuna.samplers import BaseSampler, RandomSampler
from optuna.study import Study, StudyDirection
from optuna.trial import FrozenTrial, Trial, TrialState

from search.steering import Observation, Proposal, Steering
from space.edges import EDGES
from space.errors import ConfigError
from space.structure import Structure

THETA = tuple(f"theta_{edge}" for edge in EDGES)
"""Names of the seven exponents among a trial's parameters."""

RUNG = "rung"
"""Name of the rung among a trial's parameters."""


def search_space(rungs: int = 1) -> dict[str, BaseDistribution]:
    """Optuna's distributions of a trial's parameters: seven exponents, and the rung where there are several."""
    space: dict[str, BaseDistribution] = {name: FloatDistribution(0.0, 1.0) for name in THETA}
    return space | ({RUNG: IntDistribution(0, rungs - 1)} if rungs > 1 else {})


def parameters(structure: Structure, rung: int = 0, rungs: int = 1) -> dict[str, Any]:
    """A structure and a rung as Optuna parameters, the inverse of `structure_of`."""
    theta: dict[str, Any] = dict(zip(THETA, map(float, structure.theta), strict=True))
    return theta | ({RUNG: rung} if rungs > 1 else {})


def structure_of(params: Mapping[str, Any]) -> Structure:
    """The structure that a trial's parameters hold.

    Raises:
        StructureError: where they are not feasible, as another sampler's may be.
    """
    return Structure.from_theta([float(params[name]) for name in THETA])


def suggest_structure(trial: Trial) -> Structure:
    """Suggest the seven exponents in an objective function."""
    return Structure.from_theta([trial.suggest_float(name, 0.0, 1.0) for name in THETA])


class StructureSampler(BaseSampler):
    """Proposes feasible structures, and learns from results which are worth their compute (see `search.steering`).

    Values are log compute multipliers, larger is better, in a study that maximises; a study that minimises is understood with
    the sign turned. Other parameters of an objective are sampled independently at random.

    Args:
        seed: the same seed, number of trial and results give the same proposal; a resumed study repeats its decisions.
        steering: the policy; by default one rung.
    """

    def __init__(self, seed: int | None = None, steering: Steering | None = None) -> None:
        self._seed = int(np.random.default_rng().integers(2**32)) if seed is None else seed
        self._steering = steering or Steering(rungs=(1.0,), target=1.0)
        self._independent = RandomSampler(seed=seed)

    @property
    def steering(self) -> Steering:
        """The policy that this sampler follows."""
        return self._steering

    def propose(self, observed: Sequence[Observation], number: int, left: float = 1.0) -> Proposal:
        """What trial `number` of a study should try, given every trial so far; `left` is the share of proposals to come."""
        return self._steering.propose(observed, np.random.default_rng([self._seed, number]), left)

    def infer_relative_search_space(
        self,
        study: Study,  # noqa: ARG002 - the interface is Optuna's
        trial: FrozenTrial,  # noqa: ARG002
    ) -> dict[str, BaseDistribution]:
        """Optuna's question: what is sampled jointly."""
        return search_space(len(self._steering.rungs))

    def sample_relative(self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]) -> dict[str, Any]:
        """Optuna's question: the joint sample. Only feasible exponents are ever returned."""
        self._raise_error_if_multi_objective(study)
        if not set(THETA) <= search_space.keys():
            return {}
        proposal = self.propose(self.observed(study, trial.number), trial.number)
        return parameters(proposal.structure, proposal.rung, len(self._steering.rungs))

    def sample_independent(
        self, study: Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        """Optuna's question: a parameter on its own. Exponents are never sampled so."""
        self._raise_error_if_multi_objective(study)
        if param_name in THETA:
            raise ConfigError(
                f"{param_name} is suggested with {param_distribution}; the exponents of theta are suggested together, each"
                " with suggest_float(name, 0.0, 1.0): call search.sampler.suggest_structure(trial)"
            )
        return self._independent.sample_independent(study, trial, param_name, param_distribution)

    def reseed_rng(self) -> None:
        """Optuna's call before parallel use: proposals depend on the trial's number, so only independent draws reseed."""
        self._independent.reseed_rng()

    def observed(self, study: Study, number: int | None = None) -> list[Observation]:
        """What a plain study's trials tried and came to, but for trial `number`."""
        sign = -1.0 if study.direction == StudyDirection.MINIMIZE else 1.0
        trials = study.get_trials(deepcopy=False)
        found = (self._observation(trial, sign) for trial in trials if trial.number != number)
        return [observation for observation in found if observation is not None]

    def _observation(self, trial: FrozenTrial, sign: float) -> Observation | None:
        if not set(THETA) <= trial.params.keys():
            return None
        try:
            structure = structure_of(trial.params)
        except ValueError:
            return None  # proposed by another sampler, and not feasible
        values = trial.values or []
        usable = trial.state in (TrialState.COMPLETE, TrialState.PRUNED) and len(values) == 1 and np.isfinite(values[0])
        ended = sign * values[0] if usable else math.nan
        return Observation(structure, int(trial.params.get(RUNG, 0)), ended if trial.state.is_finished() else None)
