"""The policy: feasible and new proposals, the share of exploration, and expected improvement against brute force."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from search import plan
from search import steering as policy
from search.settings import Rung, StudySettings
from search.steering import FEWEST, MODELLED, Observation, Steering, features, fit, fitted_at, modelled
from space.catalogue import STANDARD
from space.errors import RunError
from space.sampling import sample_structure
from space.structure import Structure

RUNGS = (1e12, 4e12)
KNOWN = [Structure.parse(name) for name in STANDARD]


def truth(structure: Structure, log_compute: float) -> float:
    return -float(structure.omega) + float(structure.psi) + 0.2 * log_compute * float(structure.nu)


def results(steering: Steering, count: int = 10, rung: int = 0) -> list[Observation]:
    rng = np.random.default_rng(7)
    structures = [*KNOWN, *(sample_structure(rng) for _ in range(count))][:count]
    return [Observation(s, rung, truth(s, steering.log_compute(rung))) for s in structures]


def test_log_compute_is_0_at_the_target_and_minus_1_at_the_smallest_rung() -> None:
    steering = Steering((1e10, 1e11, 1e12), 1e12)
    assert [steering.log_compute(rung) for rung in range(3)] == pytest.approx([-1, -0.5, 0])
    assert Steering((1e10, 1e11), 1e12).log_compute(1) == pytest.approx(-0.5)
    assert Steering((5.0,), 5.0).log_compute(0) == 0


def test_proposals_are_never_what_was_tried_is_running_or_failed() -> None:
    settings = StudySettings(rungs=(Rung(flops=1e10, width=16), Rung(flops=4e10, width=32)), baseline=((0, 16),), known_rung=0)
    steering = Steering(
        tuple(r.flops for r in settings.rungs),
        settings.target,
        candidates=40,
        identity=lambda structure, rung: plan.identity(settings, structure, rung, 96),
    )
    observed = results(steering, 6)
    seen = {(o.rung, steering.identity(o.structure, o.rung)) for o in observed}
    for number in range(12):
        proposal = steering.propose(observed, np.random.default_rng(number))
        assert Structure.parse(proposal.structure.key) == proposal.structure and not proposal.structure.is_dense
        who = (proposal.rung, steering.identity(proposal.structure, proposal.rung))
        assert who not in seen
        seen.add(who)
        value = (None, math.nan, truth(proposal.structure, steering.log_compute(proposal.rung)))[number % 3]
        observed.append(Observation(proposal.structure, proposal.rung, value))


def test_few_results_give_random_proposals_on_the_cheapest_rung() -> None:
    steering = Steering(RUNGS, 4e12, explore=0.0)
    observed = results(steering, FEWEST - 1)
    observed += [
        Observation(KNOWN[5], 0, None),
        Observation(KNOWN[6], 0, math.nan),
        Observation(Structure.parse("dense"), 0, 0.0),
    ]
    proposal = steering.propose(observed, np.random.default_rng(0))
    assert (proposal.origin, proposal.rung) == ("random", 0) and math.isnan(proposal.mean)


def test_the_stated_share_is_explored() -> None:
    steering = Steering(RUNGS, 4e12, explore=0.3, candidates=2)
    observed = results(steering, 5)
    draws = [np.random.default_rng(n).random() < 0.3 for n in range(12)]
    origins = [steering.propose(observed, np.random.default_rng(n)).origin for n in range(12)]
    assert [origin == "random" for origin in origins] == draws and any(draws)


def test_a_leader_is_promoted_to_the_target_at_the_end() -> None:
    steering = Steering(RUNGS, 4e12, explore=0.0, candidates=8)
    proposal = steering.propose(results(steering, 16), np.random.default_rng(1), left=0.0)
    assert proposal.rung == 1 and proposal.origin == "proposal" and math.isfinite(proposal.mean) and proposal.sd > 0
    assert steering.propose(results(steering, 16), np.random.default_rng(1), left=4.0).rung == 0, "where compute is dear"


def test_the_last_proposals_measure_the_best_that_were_not_measured_at_the_target() -> None:
    steering = Steering(RUNGS, 4e12, explore=1.0, candidates=8)
    observed = results(steering, 12)
    best = sorted(observed, key=lambda o: -(o.value or 0.0))
    confirmed = []
    for number in range(3):
        proposal = steering.propose(observed, np.random.default_rng(number), left=0.25)
        assert (proposal.origin, proposal.rung) == ("proposal", 1), "no proposal at random so late"
        confirmed.append(proposal.structure)
        observed.append(Observation(proposal.structure, 1, truth(proposal.structure, 0.0)))
    assert len(set(confirmed)) == 3 and set(confirmed) <= {o.structure for o in best[:6]}
    assert steering.propose(observed, np.random.default_rng(0), left=0.31).origin == "random", "explore = 1 until then"


def test_the_model_knows_all_results_until_they_are_many() -> None:
    values = [float(value) for value in np.random.default_rng(0).permutation(MODELLED)]
    few = [Observation(KNOWN[0], 0, value) for value in values]
    assert modelled([*few, Observation(KNOWN[1], 0, None)]) == [*few, Observation(KNOWN[1], 0, None)]


def test_of_many_results_the_model_knows_the_best_the_latest_and_a_spread_of_the_rest() -> None:
    values = [float(value) for value in np.random.default_rng(0).permutation(5 * MODELLED)]
    many = [Observation(KNOWN[0], number % 2, value) for number, value in enumerate(values)]
    many.insert(7, Observation(KNOWN[1], 0, None))
    kept = modelled(many)
    found = [o.value for o in kept if o.value is not None]
    assert len(found) == len(set(found)) <= MODELLED and many[7] in kept
    assert kept == [o for o in many if o in kept]
    assert set(found) >= set(sorted(values)[-MODELLED // 3 :]) | set(values[-MODELLED // 4 :])
    share, thirds = [], np.array_split(np.array(values), 3)
    for part in thirds:
        share.append(np.isin(part, found).sum() / MODELLED)
    assert min(share) > 0.15


def test_hyperparameters_are_fitted_when_results_have_grown_by_a_tenth() -> None:
    assert [fitted_at(count) for count in (1, 3, 4, 5, 10, 20)] == [1, 3, 4, 5, 10, 20]
    fits = [fitted_at(count) for count in range(1, MODELLED + 1)]
    assert all(0 <= count - at <= 0.1 * at for count, at in enumerate(fits, start=1))
    assert fits == sorted(fits) and len({at for at in fits if at > 20}) <= 30  # of 280


@pytest.mark.filterwarnings("ignore::linear_operator.utils.warnings.NumericalWarning")
def test_between_fits_the_model_keeps_its_hyperparameters_and_learns_all_results() -> None:
    observed = results(Steering(RUNGS, 4e12), 35)
    x = np.array([features(o.structure, 0.0) for o in observed])
    y = np.array([o.value for o in observed], dtype=float)
    none = np.empty((0, x.shape[1]))
    early = fitted_at(len(y))
    assert early < len(y)
    first, model = fit(x[:early], y[:early], none), fit(x, y, none)
    for (name, value), same in zip(first.named_parameters(), model.parameters(), strict=True):
        torch.testing.assert_close(same, value, msg=name, rtol=0, atol=0)
    with torch.no_grad():
        before, after = (abs(m.posterior(torch.tensor(x[early:])).mean[:, 0].numpy() - y[early:]) for m in (first, model))
    assert after.mean() < before.mean()
    policy._hyperparameters.cache_clear()  # another process, which was not there for the first fit
    for value, same in zip(model.parameters(), fit(x, y, none).parameters(), strict=True):
        torch.testing.assert_close(same, value, rtol=0, atol=0)


def test_what_the_model_no_longer_knows_is_still_not_proposed_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(policy, "MODELLED", 6)
    steering = Steering(RUNGS, 4e12, explore=0.0, candidates=20)
    observed = results(steering, 40)
    observed += [Observation(o.structure, 1, truth(o.structure, 0.0)) for o in observed]
    seen = {(o.rung, o.structure.key) for o in observed}
    for number in range(6):
        proposal = steering.propose(observed, np.random.default_rng(number), left=0.5 * (number % 2))
        assert (proposal.rung, proposal.structure.key) not in seen


def test_what_cannot_be_told_apart_is_exhausted_with_a_message() -> None:
    two = Steering(RUNGS, 4e12, identity=lambda structure, rung: structure.omega == 0 if rung else 0)
    first = two.propose([], np.random.default_rng(0))
    second = two.propose([Observation(first.structure, 0, 0.1)], np.random.default_rng(1))
    assert (first.rung, second.rung) == (0, 1)
    assert (second.structure.omega == 0) != (first.structure.omega == 0)
    with pytest.raises(RunError, match="no structure is left to propose: 2 were tried"):
        two.propose([Observation(p.structure, p.rung, 0.1) for p in (first, second)], np.random.default_rng(2))


@pytest.mark.filterwarnings("ignore::linear_operator.utils.warnings.NumericalWarning")
@pytest.mark.parametrize("running", [0, 2])
def test_gain_is_the_expected_improvement_of_the_best_mean_at_the_target(running: int) -> None:
    """Brute force: draw the result of each candidate from the posterior, condition on it, and look at the target again."""
    steering = Steering(RUNGS, 4e12)
    observed = [*results(steering, 8), *(Observation(s, 0, None) for s in KNOWN[-running:] if running)]
    rng = np.random.default_rng(3)
    pool = [*dict.fromkeys(o.structure for o in observed), *(sample_structure(rng) for _ in range(4))]
    gain, mean, sd = steering._gain(observed, pool)

    def x(rows: list[Observation]) -> np.ndarray:
        return np.array([features(o.structure, steering.log_compute(o.rung)) for o in rows])

    done, still = [o for o in observed if o.value is not None], [o for o in observed if o.value is None]
    model = fit(x(done), np.array([o.value for o in done], dtype=float), x(still))
    torch.manual_seed(0)
    draws = 4096
    with torch.no_grad():
        at_target = torch.tensor([features(s, 0.0) for s in pool], dtype=torch.float64)
        before = model.posterior(at_target).mean[:, 0]
        assert mean == pytest.approx(before.numpy(), abs=1e-9)
        best = before[: len({o.structure for o in observed})].max()
        for index, rung in [(len(pool) - 1, 0), (len(pool) - 1, 1), (len(pool) - 2, 1), (0, 1)]:
            point = torch.tensor([features(pool[index], steering.log_compute(rung))], dtype=torch.float64)
            posterior = model.posterior(point, observation_noise=True)
            # the mean at the target is linear in the result: two conditioned models give the line, draws give the expectation
            centre, spread = posterior.mean.item(), posterior.variance.sqrt().item()
            ends = [
                model.condition_on_observations(point, torch.tensor([[centre + sign * spread]], dtype=torch.float64))
                .posterior(at_target[index : index + 1])
                .mean.item()
                for sign in (-1.0, 1.0)
            ]
            z = torch.randn(draws, dtype=torch.float64)
            after = sum(ends) / 2 + z * (ends[1] - ends[0]) / 2
            improvement = (after - best).clamp(min=0)
            error = improvement.std().item() / math.sqrt(draws)
            assert gain[index, rung] == pytest.approx(improvement.mean().item(), abs=5 * error + 1e-7)
    assert (sd > 0).all()
