"""The laws of many structures as one linear mixed model, for given irreducible loss and spreads.

| symbol | name | meaning |
|---|---|---|
| s, n | axes S, H | structures; settings (node of L_inf, spreads), all solved at once |
| c_s | level | of structure s at x_0, in y = log(L - L_inf) |
| t_s | exponent | of structure s |
| c, a | | means of the population of levels and exponents |
| b | bias | what slopes along a run have in common beyond the exponent: sizes too small, a start that still shows |
| sigma, sigma_q | sigma, sigma_q | spread of runs, and of their slopes, in log loss |
| omega, tau | omega, tau | spread of levels and of exponents over structures, in y |

    centre of a run   y = c_s - t_s d + sigma eps / h        c_s ~ N(c, omega^2), flat for dense
    its slope         k = -a - b + sigma_q eps / h           t_s ~ N(a, tau^2)

Slopes inform the pooled exponent alone: a run has one size, and what a structure gains or loses with size does not
show along it. This is the model of run-level random effects of Laird and Ware (1982), with levels and exponents shrunk to their
population (empirical Bayes: Efron and Morris 1975). The shrinkage is what keeps the best of many structures from
being flattered by luck. Given the first two columns of the table everything is Gaussian: u_s = (c_s, t_s) is
integrated out structure by structure, then phi = (c, a, b).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from storage.laws.evidence import Sums
from storage.laws.run import Array, Index, Mask

EXPONENT_PRIOR = (0.3, 0.2)
FLAT = 1e-6
"""Precision of the prior of the level of dense, which is not one of the population."""


@dataclass(frozen=True, eq=False)
class Settings:
    """What the model is conditional on, (H,) each: node of the grid of L_inf, and spreads (see the module)."""

    node: Index
    sigma: Array
    sigma_q: Array
    omega: Array
    tau: Array
    bias: Array


@dataclass(frozen=True, eq=False)
class Solution:
    """log_evidence: (H,); mean and covariance of phi: (H, 3), (H, 3, 3).

    inverse: covariance (cc, ct, tt) of u_s given phi, (3, H, S); at_zero: its mean (c_s, t_s) where c = a = 0, (2, H, S);
    link: precision of u_s about (c, a), (2, H, S).
    """

    log_evidence: Array
    mean: Array
    covariance: Array
    inverse: Array
    at_zero: Array
    link: Array

    def conditional(self, phi: Array, rng: np.random.Generator | None = None) -> tuple[Array, Array]:
        """c_s and t_s (H, S) given phi (H, 3): their mean, or a draw with a generator."""
        pull_c, pull_t = self.link[0] * phi[:, :1], self.link[1] * phi[:, 1:2]
        cc, ct, tt = self.inverse
        level, exponent = self.at_zero[0] + cc * pull_c + ct * pull_t, self.at_zero[1] + ct * pull_c + tt * pull_t
        if rng is None:
            return level, exponent
        first, second = rng.standard_normal((2, *cc.shape))
        root = np.sqrt(cc)
        level += root * first
        slope = ct / root
        exponent += slope * first + np.sqrt(np.maximum(tt - slope**2, 0.0)) * second
        return level, exponent


def solve(sums: Sums, population: Mask, at: Settings) -> Solution:
    """Solve the model for every setting.

    Args:
        sums: of the structures (S,).
        population: (S,) False for dense.
        at: settings (H,).
    """
    w, wd, wdd, wy, wdy = np.take(sums.table[:5], at.node, axis=1)
    wyy, v, vk, vkk = sums.table[5:].sum(axis=2)[:, at.node]
    v, vk, vkk = (total / at.sigma_q**2 for total in (v, vk, vkk))
    variance, own, shared = at.sigma[:, None] ** 2, at.omega[:, None] ** -2, at.tau[:, None] ** -2
    link = np.stack([np.where(population, own, FLAT), np.broadcast_to(shared, w.shape)])
    a, b = w + variance * link[0], wdd + variance * link[1]  # precisions of level and exponent, as multiples of sigma^-2
    determinant = a * b - wd**2
    scaled = np.stack([b, wd, a]) / determinant
    at_zero = np.stack([scaled[0] * wy - scaled[1] * wdy, scaled[1] * wy - scaled[2] * wdy])
    inverse = scaled * variance
    precision, info = _population(inverse, at_zero, population, own[:, 0], shared[:, 0])
    precision[:, 1, 1] += v + EXPONENT_PRIOR[1] ** -2
    precision[:, 1, 2] = precision[:, 2, 1] = v
    precision[:, 2, 2] = v + at.bias**-2
    info[:, 1] += EXPONENT_PRIOR[0] * EXPONENT_PRIOR[1] ** -2 - vk
    info[:, 2] = -vk
    covariance = np.linalg.inv(precision)
    mean = np.einsum("hij,hj->hi", covariance, info)
    explained = np.einsum("hs,hs->h", wy, at_zero[0]) - np.einsum("hs,hs->h", wdy, at_zero[1]) - wyy
    evidence = (explained / variance[:, 0] - vkk - np.log(determinant).sum(axis=1)) / 2
    evidence += (2 * population.size - int(sums.levels.sum())) * np.log(at.sigma) - int(sums.slopes.sum()) * np.log(at.sigma_q)
    evidence -= population.sum() * np.log(at.omega) + population.size * np.log(at.tau) + np.log(at.bias)
    evidence += np.einsum("hi,hi->h", mean, info) / 2 - np.linalg.slogdet(precision)[1] / 2
    return Solution(np.asarray(evidence), mean, np.asarray(covariance, np.float64), inverse, at_zero, link)


def _population(inverse: Array, at_zero: Array, population: Mask, own: Array, shared: Array) -> tuple[Array, Array]:
    """Precision (H, 3, 3) and information (H, 3) of phi from the centres, the structures integrated out.

    own, shared: (H,) precisions of the levels of the population and of all exponents.
    """
    sides = np.stack([population, ~population]).astype(np.float64)
    qc = np.stack([own, np.full_like(own, FLAT)], axis=1)
    # not as a product of matrices: for sums this short its threads take longer to wake than to add
    (cc, ct, tt), (level, exponent) = (np.einsum("khs,ps->khp", values, sides) for values in (inverse, at_zero))
    precision, info = np.zeros((own.size, 3, 3)), np.zeros((own.size, 3))
    precision[:, 0, 0] = (qc * sides.sum(axis=1) - qc**2 * cc).sum(axis=1)
    precision[:, 0, 1] = precision[:, 1, 0] = -shared * (qc * ct).sum(axis=1)
    precision[:, 1, 1] = shared * population.size - shared**2 * tt.sum(axis=1)
    info[:, 0], info[:, 1] = (qc * level).sum(axis=1), shared * exponent.sum(axis=1)
    return precision, info
