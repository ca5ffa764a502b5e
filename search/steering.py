"""Which structure to try next, and with how much compute.

    s        a structure, seen as the ten numbers (theta, omega, psi, nu)
    c        log compute of a trial, relative to the study's target: 0 there, -1 at the smallest rung
    m(s, c)  log compute multiplier of s against dense, the value of a trial
    gain     expected improvement of what we know at the target
    t        share of the study's proposals that are still to come, from 1 to 0

m is modelled as a Gaussian process, m(s, c) = f(s) + c g(s) + noise: linear in log compute, as the ratio of two power laws is.
A trial of (s, rung) is worth what it is expected to teach about the target: with best the highest posterior mean there,

    gain(s, r) = E[max(0, mu_t(s) - best)],   mu_t(s) ~ N(mean(s, 0), cov((s, 0), (s, c_r))**2 / (var(s, c_r) + noise))

the knowledge-gradient form of expected improvement. Proposed is the largest gain(s, r) / C_r**t: gain per FLOP while there is
much to explore, gain alone near the end (cost cooling, Lee et al. 2020). The last proposals confirm: each measures, at the rung
nearest the target, the structure whose mean there is highest among those not measured there yet, so that the answer of a study
does not rest on an extrapolation. Nothing here knows that omega = 0 and psi = 1 are good.
"""

from __future__ import annotations

import contextlib
import math
import warnings
from collections.abc import Callable, Hashable, Iterator, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from space.errors import RunError
from space.sampling import neighbours, sample_structure
from space.structure import Structure

if TYPE_CHECKING:
    import torch
    from botorch.models import SingleTaskGP

FEATURES = 10
FEWEST = 4
"""Results of structured layers below which the next structure is drawn at random."""

DRAWS = 300
"""Random structures in a row, none of them new at a rung, after which the rung counts as exhausted."""

CONFIRM = 0.3
"""Share of a study's proposals, its last ones, that measure the most promising structures at the target."""

MODELLED = 300
"""Results that the model knows at most: it costs their number cubed."""

GROWTH = 1.1
"""How much more results there must be than at the last fit of the hyperparameters for them to be fitted again."""

FIT = {"timeout_sec": 3.0, "options": {"maxiter": 30}}
"""Bounds on the fit of the hyperparameters: a driver that thinks dispatches no trials."""

Floats = NDArray[np.float64]

Tried = AbstractSet[tuple[int, Hashable]]
"""Pairs of a rung and what a structure really is there."""


@dataclass(frozen=True, slots=True)
class Observation:
    """One trial: a structure, the rung it was tried at, its log compute multiplier: None while it is running, NaN for none."""

    structure: Structure
    rung: int
    value: float | None


@dataclass(frozen=True, slots=True)
class Proposal:
    """What to try next. `mean` and `sd` are the model's prediction of the log multiplier at the target; NaN when random."""

    structure: Structure
    rung: int
    origin: Literal["proposal", "random"]
    mean: float = math.nan
    sd: float = math.nan


@dataclass(frozen=True, slots=True)
class Steering:
    """The policy of a study.

    Args:
        rungs: training FLOPs of each rung, ascending.
        target: the compute, in FLOPs, at which the study wants to know the best structure.
        explore: share of proposals that are drawn at random, whatever the model says; the last ones are not.
        candidates: random structures the model is asked about, besides the neighbours of the best.
        identity: what a structure really is at a rung; of two with equal identity there, one is tried.
    """

    rungs: tuple[float, ...]
    target: float
    explore: float = 0.15
    candidates: int = 256
    identity: Callable[[Structure, int], Hashable] = lambda structure, _rung: structure.key

    def propose(self, observed: Sequence[Observation], rng: np.random.Generator, left: float = 1.0) -> Proposal:
        """The next (structure, rung): feasible, and not among `observed`. `left` is t of the module's head.

        Raises:
            RunError: at these rungs' widths no structure is left that differs from all that were tried.
        """
        structured = [o for o in observed if not o.structure.is_dense]
        known = [o for o in structured if o.value is None or math.isfinite(o.value)]
        measured = sum(o.value is not None for o in known)
        if measured < FEWEST or (left > CONFIRM and rng.random() < self.explore):
            return self._random(structured, rng)
        tried = {(o.rung, self.identity(o.structure, o.rung)) for o in structured}
        known = modelled(known)
        confirmation = self._confirmation(known, tried) if left <= CONFIRM else None
        return confirmation or self._improvement(known, tried, rng, left) or self._random(structured, rng)

    def log_compute(self, rung: int) -> float:
        """c of a rung."""
        span = math.log(self.target / self.rungs[0]) or 1.0
        return math.log(self.rungs[rung] / self.target) / span

    @property
    def _confirming(self) -> int:
        """The rung nearest the target."""
        return min(range(len(self.rungs)), key=lambda rung: abs(self.log_compute(rung)))

    def _confirmation(self, known: Sequence[Observation], tried: Tried) -> Proposal | None:
        """The most promising of the structures not measured at the target's rung; None when all are."""
        rung = self._confirming
        pool = list(dict.fromkeys(o.structure for o in known if (rung, self.identity(o.structure, rung)) not in tried))
        if not pool:
            return None
        mean, cov, _ = self._posterior(known, pool)
        best = int(np.argmax(mean))
        return Proposal(pool[best], rung, "proposal", float(mean[best]), math.sqrt(cov[best, 0, 0]))

    def _improvement(
        self, known: Sequence[Observation], tried: Tried, rng: np.random.Generator, left: float
    ) -> Proposal | None:
        """The largest gain per C**left that was not tried yet; None where all of the pool was."""
        pool = self._pool(known, rng)
        gain, mean, sd = self._gain(known, pool)
        for index in np.argsort(-gain / np.asarray(self.rungs) ** left, axis=None, kind="stable"):
            best, rung = divmod(int(index), len(self.rungs))
            if (rung, self.identity(pool[best], rung)) not in tried:
                return Proposal(pool[best], rung, "proposal", float(mean[best]), float(sd[best]))
        return None

    def _random(self, observed: Sequence[Observation], rng: np.random.Generator) -> Proposal:
        """A structure no one has tried, on the cheapest rung where one can be told from those."""
        for rung in range(len(self.rungs)):
            known = {self.identity(o.structure, rung) for o in observed}
            for _ in range(DRAWS):
                structure = sample_structure(rng)
                if self.identity(structure, rung) not in known:
                    return Proposal(structure, rung, "random")
        raise RunError(
            f"no structure is left to propose: {len(observed)} were tried, and at the widths of these rungs {DRAWS} random ones"
            " are all the same as one of them; start a study with wider rungs"
        )

    def _pool(self, observed: Sequence[Observation], rng: np.random.Generator) -> list[Structure]:
        """Everything tried so far, the neighbours of the five best, and random structures on all faces."""
        tried = [o.structure for o in observed]
        ranked = sorted((o for o in observed if o.value is not None), key=lambda o: -(o.value or 0.0))
        near = [structure for o in ranked[:5] for structure in neighbours(o.structure)]
        return list(dict.fromkeys([*tried, *near, *(sample_structure(rng) for _ in range(self.candidates))]))

    def _gain(self, observed: Sequence[Observation], pool: Sequence[Structure]) -> tuple[Floats, Floats, Floats]:
        """Expected improvement at the target of each (candidate, rung), and each candidate's prediction there.

        `pool` begins with the structures of `observed`: the best of them is what is to be improved on.
        """
        from scipy.special import ndtr

        mean, cov, noise = self._posterior(observed, pool)
        variance = np.diagonal(cov, axis1=1, axis2=2)
        learnt = np.abs(cov[:, 0, 1:]) / np.sqrt(variance[:, 1:] + noise)
        tried = len({o.structure for o in observed})
        z = (mean - mean[:tried].max())[:, None] / learnt
        return learnt * (z * ndtr(z) + np.exp(-(z**2) / 2) / math.sqrt(2 * math.pi)), mean, np.sqrt(variance[:, 0])

    def _posterior(self, observed: Sequence[Observation], pool: Sequence[Structure]) -> tuple[Floats, Floats, float]:
        """Mean of each candidate at the target (P,), covariance of (target, each rung) (P, 1 + R, 1 + R), noise of a trial."""
        import torch

        at = [(self.log_compute(o.rung), o) for o in observed]
        done = [(features(o.structure, c), o.value) for c, o in at if o.value is not None]
        running = [features(o.structure, c) for c, o in at if o.value is None]
        points = [[features(s, c) for c in (0.0, *map(self.log_compute, range(len(self.rungs))))] for s in pool]
        with _numerical_warnings_off():
            model = fit(np.array([x for x, _ in done]), np.array([y for _, y in done]), np.array(running))
        with torch.no_grad(), _numerical_warnings_off():
            posterior = model.posterior(torch.as_tensor(np.array(points)))
            mean = posterior.mean[:, 0, 0].numpy()
            cov = posterior.distribution.covariance_matrix.numpy()
            scale = float(getattr(model.outcome_transform, "stdvs", torch.ones(1)).reshape(-1)[0])
            noise = float(model.likelihood.noise.reshape(-1)[0]) * scale**2
        return mean, cov, noise


def modelled(known: Sequence[Observation]) -> list[Observation]:
    """What the model learns from, in the order of `known`: all that run, and all results up to `MODELLED` of them.

    Later a third of these are the best, a third the latest of the others, and a third evenly spread over what is then left, so
    that the model also knows where not to look.
    """
    results = [index for index, o in enumerate(known) if o.value is not None]
    if len(results) <= MODELLED:
        return list(known)
    third = MODELLED // 3
    best = sorted(results, key=lambda index: known[index].value or 0.0)[-third:]
    others = sorted(set(results) - set(best))
    rest = others[:-third]
    spread = [rest[round(at)] for at in np.linspace(0, len(rest) - 1, third)]
    kept = {*best, *others[-third:], *spread}
    return [o for index, o in enumerate(known) if o.value is None or index in kept]


def features(structure: Structure, log_compute: float) -> list[float]:
    """(theta, omega, psi, nu, c): what the model sees of a trial."""
    taxonomy = (structure.omega, structure.psi, structure.nu)
    return [*map(float, structure.theta), *map(float, taxonomy), log_compute]


def fit(x: Floats, y: Floats, running: Floats) -> SingleTaskGP:
    """The Gaussian process of the module's head, given results and the trials still running.

    Running trials enter at their predicted mean (Ginsbourger et al. 2010, "kriging believer"), so that two drivers do not buy
    the same knowledge.

    Args:
        x: (n, 11) features of the results, the earliest first.
        y: (n,) log multipliers.
        running: (m, 11) features of the running trials, m may be 0.
    """
    import torch

    early = fitted_at(len(y))
    model = gaussian_process(x, y)
    hyperparameters = _hyperparameters(x[:early].tobytes(), y[:early].tobytes())
    for parameter, value in zip(model.parameters(), hyperparameters, strict=True):
        parameter.data.copy_(value)
    model.eval()
    if not len(running):
        return model
    pending = torch.as_tensor(running)
    with torch.no_grad():
        return model.condition_on_observations(pending, model.posterior(pending).mean)


def fitted_at(count: int) -> int:
    """Of so many results, how many the hyperparameters are fitted to: the first ones. It is all of them again when there are
    `GROWTH` times as many, since the fit takes most of the time of a proposal.
    """
    at = FEWEST
    while (later := max(at + 1, int(GROWTH * at))) <= count:
        at = later
    return min(at, count)


@lru_cache(maxsize=8)
def _hyperparameters(x: bytes, y: bytes) -> tuple[torch.Tensor, ...]:
    """The hyperparameters that fit these results best, in the order of the model's parameters. Bytes can be remembered."""
    from botorch.exceptions import ModelFittingError
    from botorch.fit import fit_gpytorch_mll
    from gpytorch.mlls import ExactMarginalLogLikelihood

    values = np.frombuffer(y)
    model = gaussian_process(np.frombuffer(x).reshape(len(values), -1), values)
    with contextlib.suppress(ModelFittingError):  # the hyperparameters of the priors are a usable model too
        fit_gpytorch_mll(ExactMarginalLogLikelihood(model.likelihood, model), optimizer_kwargs=FIT)
    return tuple(parameter.detach().clone() for parameter in model.parameters())


def gaussian_process(x: Floats, y: Floats) -> SingleTaskGP:
    """The model of results `x` (n, 11) and `y` (n,), with the hyperparameters of its priors."""
    import torch
    from botorch.models import SingleTaskGP
    from botorch.models.transforms import Standardize
    from gpytorch.kernels import LinearKernel, MaternKernel, ScaleKernel
    from gpytorch.priors import LogNormalPrior

    def matern(lengthscales: int | None) -> MaternKernel:
        prior = LogNormalPrior(math.sqrt(2) + 0.5 * math.log(FEATURES), math.sqrt(3))
        seen = tuple(range(FEATURES))
        return MaternKernel(2.5, ard_num_dims=lengthscales, active_dims=seen, lengthscale_prior=prior)

    level = ScaleKernel(matern(FEATURES))
    slope = matern(None) * LinearKernel(active_dims=(FEATURES,))
    inputs, outputs = torch.tensor(x), torch.tensor(y)[:, None]
    return SingleTaskGP(inputs, outputs, covar_module=level + slope, outcome_transform=Standardize(1))


@contextlib.contextmanager
def _numerical_warnings_off() -> Iterator[None]:
    """Jitter on a covariance and a fit cut short by its bounds are expected, and harm no proposal."""
    from botorch.exceptions import OptimizationWarning
    from linear_operator.utils.warnings import NumericalWarning

    with warnings.catch_warnings():
        for kind in (NumericalWarning, OptimizationWarning):
            warnings.simplefilter("ignore", kind)
        yield
