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
    """log_evidence: (H,); mean and covariance of phi: (H, 3), (H, 3, 3); the rest serves `draw`."""

    log_evidence: Array
    mean: Array
    covariance: Array
    info: Array
    inverse: Array
    link: Array

    def conditional(self, phi: Array, rng: np.random.Generator | None = None) -> tuple[Array, Array]:
        """c_s and t_s (H, S) given phi (H, 3): their mean, or a draw with a generator."""
        c, a = phi.T[:2, :, None]
        qc, qt = self.link
        i_c, i_t = self.info[0] + qc * c, self.info[1] + qt * a
        cc, ct, tt = self.inverse
        level, exponent = cc * i_c + ct * i_t, ct * i_c + tt * i_t
        if rng is None:
            return level, exponent
        first, second = rng.standard_normal((2, *cc.shape))
        root = np.sqrt(cc)
        level = level + root * first
        exponent = exponent + ct / root * first + np.sqrt(np.maximum(tt - ct**2 / cc, 0.0)) * second
        return level, exponent


def solve(table: Array, levels: int, slopes: int, population: Mask, at: Settings) -> Solution:
    """Solve the model for every setting.

    Args:
        table: sums at the nodes of the settings (9, H, S), see `storage.laws.evidence.SUMS`.
        levels, slopes: numbers of centres and slopes in all.
        population: (S,) False for dense.
        at: settings (H,).
    """
    w, wd, wdd, wy, wdy, wyy = table[:6]
    v, vk, vkk = table[6:].sum(axis=2) / at.sigma_q**2
    level_weight = (at.sigma**-2)[:, None]
    qc = np.where(population, (at.omega**-2)[:, None], FLAT)
    qt = np.broadcast_to((at.tau**-2)[:, None], qc.shape)
    i_c, i_t = wy * level_weight, -wdy * level_weight
    cc, ct, tt = w * level_weight + qc, -wd * level_weight, wdd * level_weight + qt
    determinant = cc * tt - ct**2
    inverse = np.stack([tt / determinant, -ct / determinant, cc / determinant])
    precision, info = _population(inverse, i_c, i_t, qc, qt)
    precision[:, 1, 1] += v + EXPONENT_PRIOR[1] ** -2
    precision[:, 1, 2] += v
    precision[:, 2, 1] += v
    precision[:, 2, 2] += v + at.bias**-2
    info[:, 1] += EXPONENT_PRIOR[0] * EXPONENT_PRIOR[1] ** -2 - vk
    info[:, 2] -= vk
    covariance = np.linalg.inv(precision)
    mean = np.einsum("hij,hj->hi", covariance, info)
    own = _summed(inverse[0], i_c, i_c) + 2 * _summed(inverse[1], i_c, i_t) + _summed(inverse[2], i_t, i_t)
    own -= np.log(determinant).sum(axis=1) + wyy.sum(axis=1) * level_weight[:, 0]
    own -= 2 * population.sum() * np.log(at.omega) + 2 * population.size * np.log(at.tau)
    evidence = (own - vkk) / 2 - levels * np.log(at.sigma) - slopes * np.log(at.sigma_q)
    evidence += np.einsum("hi,hi->h", mean, info) / 2 - np.linalg.slogdet(precision)[1] / 2 - np.log(at.bias)
    return Solution(
        np.asarray(evidence), mean, np.asarray(covariance, np.float64), np.stack([i_c, i_t]), inverse, np.stack([qc, qt])
    )


def _population(inverse: Array, i_c: Array, i_t: Array, qc: Array, qt: Array) -> tuple[Array, Array]:
    """Precision (H, 3, 3) and information (H, 3) of phi from the centres, the structures integrated out."""
    cc, ct, tt = inverse
    precision, info = np.zeros((len(qc), 3, 3)), np.zeros((len(qc), 3))
    precision[:, 0, 0] = qc.sum(axis=1) - _summed(qc, qc, cc)
    precision[:, 0, 1] = precision[:, 1, 0] = -_summed(qc, qt, ct)
    precision[:, 1, 1] = qt.sum(axis=1) - _summed(qt, qt, tt)
    info[:, 0] = _summed(qc, cc, i_c) + _summed(qc, ct, i_t)
    info[:, 1] = _summed(qt, ct, i_c) + _summed(qt, tt, i_t)
    return precision, info


def _summed(*factors: Array) -> Array:
    """The sum over structures (H,) of a product of three (H, S), without arrays in between."""
    return np.asarray(np.einsum("hs,hs,hs->h", *factors))
