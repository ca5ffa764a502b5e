"""What a study does not know: the irreducible loss and the spreads, weighed on grids, and joint draws of all laws.

| symbol | name | meaning |
|---|---|---|
| L_inf | l_inf | irreducible loss; a share of the unit of the grid, all shares as likely beforehand |
| sigma | | spread of runs in log loss: prior scaled inverse chi^2, 4 degrees of freedom at 0.75 % |
| omega | | spread of the structures' levels in log loss, log-uniform |
| tau | | spread of the structures' exponents, as a share of the pooled one: 3 to 24 % |
| sigma_q | | spread of slopes along a run, in log loss; estimated once, with a prior of a tenth of the slope |
| b | bias | common to all such slopes: N(0, (a fifth of the slope)^2) |

| h (q'/q)^2 / 2 | size | what a size off its best costs in log loss, by the spread q' of slopes |
| | own | of it, what a structure has to itself: 0.3 to 3 % |
| | budget | and what all runs of one compute share: 0.8 to 3 % |

A size off its best is not luck, since all runs of a structure, and all of one compute, share it, and no repetition
narrows it. It shows in the slopes: near the optimum of A N^-alpha + B D^-beta with alpha = beta, a run whose size is m
off in logarithm has a slope off by q alpha m / 2 and a loss above the frontier by h alpha^2 m^2 / 8. The size effect
is added to the draws: its own part to each level; the part of a budget, which does not change what structures are
worth beside each other, to the pooled exponent over the range of compute.
That part bends the curve as L_inf does. Runs of one budget are a cluster in the sense of Kish (1965): about L_inf n of
them say as much as n / (1 + n budget^2 / sigma^2), so its evidence is raised to the inverse of that design effect.
Each node of the grid is weighed by its evidence, the levels and exponents of all structures integrated out
(`storage.laws.mixed`); a coarse grid finds where the weight is, a finer one covers that. A draw takes a node by
weight, then everything else from its Gaussian. Draws are joint over structures, so they give intervals of
multipliers and ranks as well. Where data are silent, the draws show the width of the priors and not a spurious
certainty. Spreads are those of a population: SAMPLE structures say as much about them as thousands.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
from scipy.special import logsumexp

from storage.laws.evidence import SHARES, Sums
from storage.laws.mixed import Settings, Solution, solve
from storage.laws.run import Array, Index, Mask

SIGMA_PRIOR, SIGMA_DOF = 0.0075, 4.0
TAU = (0.03, 0.06, 0.12, 0.24)
TAU_WEIGHTS = (0.3, 0.4, 0.25, 0.05)
SLOPE_PRIOR, SLOPE_DOF = 0.1, 4.0
BIAS = 0.2
LEAST_SLOPE = 0.01
OWN_SIZE, BUDGET_SIZE = (0.003, 0.03), (0.008, 0.03)
LEAST_EXPONENT = 0.03
LEAST_REACH = 0.25
SAMPLE = 48

_SIGMA_GRID = np.geomspace(0.001, 0.1, 9)
_OMEGA_GRID = np.geomspace(0.005, 0.3, 6)
_COARSE, _FINE = (np.unique(np.linspace(0, SHARES.size - 1, nodes).astype(np.intp)) for nodes in (12, 24))
_SPAN = np.array([-1.6, -0.8, 0.0, 0.8, 1.6])
_MIDDLE = int(np.argmin(np.abs(SHARES - 0.5)))
_CELLS = 25_000


@dataclass(frozen=True, eq=False)
class Draws:
    """Joint draws of laws: l_inf, sigma, pooled_exponent (D,); log_b, exponent (D, S)."""

    l_inf: Array
    sigma: Array
    pooled_exponent: Array
    log_b: Array
    exponent: Array


@dataclass(frozen=True, eq=False)
class Posterior:
    """The estimate (one draw, everything at its mean) and the draws. own, budget: the size effect, log loss."""

    estimate: Draws
    draws: Draws
    own: float
    budget: float


@dataclass(frozen=True, eq=False)
class _Problem:
    """Sums of a study with what is fixed for all nodes.

    slope, sigma_q, size: log loss; share: mean share (G,); reach: what log compute spans; crowd: mean runs of a budget.
    """

    sums: Sums
    population: Mask
    slope: float
    sigma_q: float
    share: Array
    reach: float
    crowd: float
    size: float

    @property
    def own(self) -> float:
        """Size effect of one structure, log loss."""
        return float(np.clip(self.size, *OWN_SIZE))

    @property
    def budget(self) -> float:
        """Size effect that the runs of one budget share, log loss."""
        return float(np.clip(self.size, *BUDGET_SIZE))

    def settings(self, node: Index, sigma: Array, omega: Array, tau: Array) -> Settings:
        """Spreads of log loss (tau: of the slope) as those of y at each node."""
        share, slope = self.share[node], abs(self.slope)
        return Settings(node, sigma, np.full(node.size, self.sigma_q), omega / share, tau * slope / share, BIAS * slope / share)

    def solve(self, at: Settings) -> Solution:
        return solve(self.sums, self.population, at)

    def draw(self, node: Index, spreads: Array, rng: np.random.Generator) -> tuple[Array, tuple[Array, Array]]:
        """Pooled exponents (H,), and levels and exponents of all structures (H, S), one draw for each setting."""
        found = self.solve(self.settings(node, *spreads))
        share, root = self.share[node], np.linalg.cholesky(found.covariance)
        phi = found.mean + np.einsum("hij,hj->hi", root, rng.standard_normal(found.mean.shape))
        steepness = np.maximum(phi[:, 1], LEAST_EXPONENT)
        phi[:, 1] = steepness * np.exp(self.budget / share / self.reach / steepness * rng.standard_normal(node.size))
        level, exponent = found.conditional(phi, rng)
        level += (self.own / share)[:, None] * rng.standard_normal(level.shape)
        return phi[:, 1], (level, exponent)


def sample(
    sums: Sums, population: Mask, budgets: int, grid: Array, x_0: float, draws: int, rng: np.random.Generator
) -> Posterior:
    """Weigh the nodes, then draw the laws of all structures.

    Args:
        sums: of the structures (S,), at least one.
        population: (S,) False for dense.
        budgets: number of budgets of compute that runs were given.
        grid: (G,) candidates of L_inf, nats.
        x_0: the reference of the sums, log compute.
        draws: number of draws.
        rng: of the draws.
    """
    whole = _problem(sums, population, budgets)
    thin, thinned = _thinned(sums, population)
    nodes, weights = _weigh(replace(whole, sums=thin, population=thinned))
    share, spreads = _choose(nodes, weights, draws, rng)
    pooled, found = np.empty(draws), (np.empty((draws, population.size)), np.empty((draws, population.size)))
    for piece in _pieces(draws, population.size):
        pooled[piece], (found[0][piece], found[1][piece]) = whole.draw(share[piece], spreads[:, piece], rng)
    drawn = _laws(found, grid[share], spreads[0], pooled, x_0)
    centre, middle = _middle(nodes, weights)
    best = whole.solve(whole.settings(centre, *middle))
    estimate = _laws(best.conditional(best.mean), grid[centre], middle[0], best.mean[:, 1], x_0)
    return Posterior(estimate, drawn, whole.own, whole.budget)


def _laws(found: tuple[Array, Array], l_inf: Array, sigma: Array, pooled: Array, x_0: float) -> Draws:
    level, exponent = found
    exponent = np.maximum(exponent, LEAST_EXPONENT)
    return Draws(l_inf, sigma, pooled, level + exponent * x_0, exponent)


def _problem(sums: Sums, population: Mask, budgets: int) -> _Problem:
    """Slope of log loss and its spread over runs at a middling L_inf, of a study whose runs were given so many budgets."""
    w = sums.table[0].sum(axis=1)
    share = np.sqrt(w / sums.levels.sum())
    weight, first, second = sums.table[:3, _MIDDLE].sum(axis=1)
    reach = float(np.sqrt(max(budgets * (second / weight - (first / weight) ** 2), LEAST_REACH)))
    v, vk, vkk = sums.table[6:, _MIDDLE].sum(axis=1)
    count, crowd = float(sums.slopes.sum()), float(sums.levels.sum()) / budgets
    if count == 0:
        return _Problem(sums, population, -LEAST_SLOPE * 10, SLOPE_PRIOR * LEAST_SLOPE * 10, share, reach, crowd, 0.0)
    slope = min(vk / v * share[_MIDDLE], -LEAST_SLOPE)
    squares = max(vkk - vk**2 / v, 0.0) * max(count - 1, 0.0) / count
    sigma_q = np.sqrt((SLOPE_DOF * (SLOPE_PRIOR * slope) ** 2 + squares) / (SLOPE_DOF + count - 1))
    size = float(share[_MIDDLE] / 2 * (sigma_q / slope) ** 2)
    return _Problem(sums, population, slope, float(sigma_q), share, reach, crowd, size)


def _thinned(sums: Sums, population: Mask) -> tuple[Sums, Mask]:
    """Dense and every n-th other structure, where there are more than SAMPLE."""
    step = -(-population.size // SAMPLE)
    kept = ~population | (np.arange(population.size) % step == 0)
    return Sums(sums.table[..., kept], sums.levels[kept], sums.slopes[kept]), population[kept]


def _weigh(problem: _Problem) -> tuple[tuple[Index, Array], Array]:
    """Nodes of the finer grid, (H,) places of L_inf and (3, H) sigma, omega, tau, and their log weights (H,)."""
    coarse = _product(_COARSE, _SIGMA_GRID, _OMEGA_GRID, np.array(TAU[1:3]))
    weight = _log_weights(problem, coarse)
    sigma, omega = (_around(np.log(coarse[1][row]), weight, grid) for row, grid in enumerate((_SIGMA_GRID, _OMEGA_GRID)))
    fine = _product(_FINE, sigma, omega, np.array(TAU))
    effect = 1 + problem.crowd * (problem.budget / sigma[sigma.size // 2]) ** 2
    return fine, _clustered(_log_weights(problem, fine), float(effect))


def _clustered(log_weight: Array, effect: float) -> Array:
    """Log weights of the finer grid, the evidence about L_inf raised to the inverse of the design effect."""
    table = log_weight.reshape(_FINE.size, -1)
    evidence = logsumexp(table, axis=1, keepdims=True)
    return np.asarray((table + (1 / effect - 1) * (evidence - evidence.max())).ravel())


def _product(node: Index, *spreads: Array) -> tuple[Index, Array]:
    mesh = np.meshgrid(node.astype(float), *spreads, indexing="ij")
    return mesh[0].ravel().astype(np.intp), np.stack([values.ravel() for values in mesh[1:]])


def _around(values: Array, log_weight: Array, grid: Array) -> Array:
    """Five nodes around the mean of log values by weight; as wide as they are uncertain, at most as the grid."""
    weight = np.exp(log_weight - logsumexp(log_weight))
    mean = float(np.sum(weight * values))
    spread = float(np.sqrt(np.sum(weight * (values - mean) ** 2)))
    spread = max(spread, 0.25 * float(np.log(grid[1] / grid[0])))
    return np.clip(np.exp(mean + spread * _SPAN), grid[0] / 2, grid[-1] * 2)


def _pieces(settings: int, structures: int) -> Iterator[slice]:
    """Settings that are solved at a time: as many as a processor's cache holds."""
    chunk = max(1, _CELLS // structures)
    return (slice(start, start + chunk) for start in range(0, settings, chunk))


def _log_weights(problem: _Problem, nodes: tuple[Index, Array]) -> Array:
    """Logarithm of evidence times prior, (H,)."""
    node, (sigma, omega, tau) = nodes
    parts = []
    for piece in _pieces(node.size, problem.population.size):
        parts.append(problem.solve(problem.settings(node[piece], sigma[piece], omega[piece], tau[piece])).log_evidence)
    prior = np.interp(tau, TAU, np.log(TAU_WEIGHTS)) - SIGMA_DOF * (np.log(sigma) + 0.5 * (SIGMA_PRIOR / sigma) ** 2)
    return np.asarray(np.concatenate(parts) + prior)


def _choose(nodes: tuple[Index, Array], log_weight: Array, draws: int, rng: np.random.Generator) -> tuple[Index, Array]:
    """Draws of the place of L_inf (D,) on the full grid and of the spreads (3, D).

    L_inf comes from its marginal, interpolated between the nodes; the spreads from the nearest node of it.
    """
    node, spreads = nodes
    per = node.size // _FINE.size
    table = log_weight.reshape(_FINE.size, per)
    marginal = _marginal(table)
    place = _ordered(marginal, draws, rng)
    nearest = np.argmin(np.abs(SHARES[_FINE][:, None] - SHARES[place]), axis=0)
    inside = np.cumsum(np.exp(table - logsumexp(table, axis=1, keepdims=True)), axis=1)
    picked = (inside[nearest] < rng.random((draws, 1)) * inside[nearest, -1:]).sum(axis=1)
    return place, spreads[:, nearest * per + np.minimum(picked, per - 1)]


def _marginal(table: Array) -> Array:
    """Probabilities of all candidates of L_inf, (G,), from log weights (nodes, rest)."""
    from scipy.interpolate import PchipInterpolator  # here: it loads half of scipy, which a driver need not wait for

    log_weight = logsumexp(table, axis=1)
    smooth = PchipInterpolator(SHARES[_FINE], log_weight - log_weight.max())(SHARES)
    weight = np.exp(smooth) * np.gradient(SHARES)
    return np.asarray(weight / weight.sum())


def _ordered(probability: Array, draws: int, rng: np.random.Generator) -> Index:
    """A stratified sample, shuffled: less noise in the ends of intervals."""
    levels = (rng.permutation(draws) + rng.random(draws)) / draws
    return np.minimum(np.searchsorted(np.cumsum(probability), levels), probability.size - 1)


def _middle(nodes: tuple[Index, Array], log_weight: Array) -> tuple[Index, Array]:
    """One setting for the estimate: the mean of L_inf, and mean logarithms of the spreads there."""
    node, spreads = nodes
    per = node.size // _FINE.size
    marginal = _marginal(log_weight.reshape(_FINE.size, per))
    centre = int(np.argmin(np.abs(SHARES - marginal @ SHARES)))
    at = int(np.argmin(np.abs(SHARES[_FINE] - SHARES[centre]))) * per
    weight = np.exp(log_weight[at : at + per] - logsumexp(log_weight[at : at + per]))
    return np.array([centre]), np.exp(np.log(spreads[:, at : at + per]) @ weight)[:, None]
