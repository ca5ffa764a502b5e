"""Power laws of many structures fitted together: shared irreducible loss, pooled exponent.

| symbol | name | meaning |
|---|---|---|
| r, s, d, g | axes R, S, D, G | runs, structures, draws of the bootstrap, grid of irreducible losses |
| x_r, l_r | x, log_loss | mean log compute and mean log loss of the frontier points of run r |
| L_inf | l_inf | irreducible loss in nats, shared by all structures |
| t_s | exponent | of structure s: t_s = a + delta_s |
| a, delta_s | | pooled exponent, departure of a structure from it ~ N(0, tau^2); tau = 0 pools completely |
| log b_s | log_b | level of structure s |
| sigma | sigma | standard deviation of the log loss of a run around the law of its structure |
| h | share | (L - L_inf) / L |

Model: l_r = log(L_inf + exp(log b_s - t_s x_r)) + sigma eps_r. One run is one observation, however many
points it has, since the points share the luck of the run. To first order eps_r = h_r (log(L_r - L_inf) - log
b_s + t_s x_r) / sigma, so for a fixed L_inf everything else is linear and has a closed form: log b_s and t_s
are eliminated structure by structure, then a. L_inf is profiled on a grid (variable projection, Golub and
Pereyra 1973). All draws of a bootstrap are solved at once as array axes.

A small study does not know L_inf, and its verdict says so. Weak priors keep it defined: L_inf / (lowest
loss) ~ N(0.5, 0.25^2) within (0, 0.99), and a ~ N(0.3, 0.2^2). Data that speak overrule both: their weight is
that of a fraction of one run.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np

from storage.laws.run import Array, Index, Mask

SHARE_PRIOR = (0.5, 0.25)
EXPONENT_PRIOR = (0.3, 0.2)
LOWEST_EXPONENT = 0.01
L_INF_GRID = np.concatenate([np.linspace(0.0, 0.9, 37), [0.92, 0.94, 0.95, 0.96, 0.97, 0.98, 0.985, 0.99]])


@dataclass(frozen=True, eq=False)
class Observations:
    """Run-level data of one fit.

    x, log_loss: (R,); structure: (R,) index; pooled: (S,) False where not to inform L_inf and a.
    """

    x: Array
    log_loss: Array
    structure: Index
    pooled: Mask

    @property
    def lowest(self) -> float:
        """Lowest loss in nats, the unit of the prior of L_inf."""
        return float(np.exp(self.log_loss.min()))


@dataclass(frozen=True, eq=False)
class Noise:
    """What the draws of a bootstrap change.

    sigma: (D,); run: (D, R), added to log_loss; share, exponent: (D,) and delta: (D, S), means of the priors.
    """

    sigma: Array
    run: Array
    share: Array
    exponent: Array
    delta: Array

    @classmethod
    def none(cls, runs: int, structures: int, sigma: float) -> Noise:
        """The single draw that is the data themselves."""
        prior = np.array([SHARE_PRIOR[0]]), np.array([EXPONENT_PRIOR[0]])
        return cls(np.array([sigma]), np.zeros((1, runs)), *prior, np.zeros((1, structures)))


@dataclass(frozen=True, eq=False)
class Fits:
    """Solutions. l_inf, pooled_exponent: (D,); log_b, exponent: (D, S); residual: (D, R) in log loss."""

    l_inf: Array
    pooled_exponent: Array
    log_b: Array
    exponent: Array
    residual: Array


@dataclass(frozen=True, eq=False)
class _Sums:
    """Weighted sums, (D, G, S): weight, means of x and y, centred second moments."""

    weight: Array
    x: Array
    y: Array
    xx: Array
    xy: Array
    yy: Array


def solve(data: Observations, noise: Noise, tau: float, grid: Array = L_INF_GRID) -> Fits:
    """Fit every draw.

    Args:
        data: runs, all with the same convention of compute.
        noise: draws; `Noise.none` for the data themselves.
        tau: standard deviation of the structures' exponents around the pooled one; 0 gives all the same.
        grid: (G,) candidates of L_inf as fractions of the lowest loss.
    """
    log_loss = data.log_loss + noise.run
    loss, l_inf = np.exp(log_loss)[:, None, :], grid * data.lowest
    reducible = np.maximum(loss - l_inf[:, None], 1e-3 * loss)
    y, weight = np.log(reducible), (reducible / loss) ** 2
    sums = _sums(data, y, weight)
    information = _information(sums, noise, tau) * data.pooled
    pooled = _pooled_exponent(sums, information, noise)
    objective = _objective(sums, data.pooled, information, noise, pooled)
    objective += noise.sigma[:, None] ** 2 * ((grid - noise.share[:, None]) / SHARE_PRIOR[1]) ** 2
    at = np.arange(len(loss)), np.argmin(objective, axis=1)
    best = _Sums(*(getattr(sums, field.name)[at] for field in fields(sums)))
    exponent = _exponents(best, noise, tau, pooled[at])
    log_b = best.y + exponent * best.x
    line = log_b[:, data.structure] - exponent[:, data.structure] * data.x
    return Fits(l_inf[at[1]], pooled[at], log_b, exponent, np.sqrt(weight[at]) * (y[at] - line))


def _sums(data: Observations, y: Array, weight: Array) -> _Sums:
    """Reduce runs to structures."""
    member = np.eye(data.pooled.size)[data.structure]
    total = weight @ member
    mean_x, mean_y = (weight * data.x) @ member / total, (weight * y) @ member / total
    dx, dy = data.x - mean_x[..., data.structure], y - mean_y[..., data.structure]
    return _Sums(
        total,
        mean_x,
        mean_y,
        (weight * dx**2) @ member,
        (weight * dx * dy) @ member,
        (weight * dy**2) @ member,
    )


def _information(sums: _Sums, noise: Noise, tau: float) -> Array:
    """Weight of each structure's own exponent as an estimate of the pooled one, (D, G, S)."""
    spread = noise.sigma[:, None, None] ** 2
    return np.asarray(sums.xx * spread / (spread + tau**2 * sums.xx))


def _own_exponent(sums: _Sums) -> Array:
    """Least-squares exponent of each structure alone, (D, G, S); 0, at weight 0, with one compute."""
    return -np.divide(sums.xy, sums.xx, out=np.zeros_like(sums.xy), where=sums.xx > 1e-9 * sums.weight)


def _pooled_exponent(sums: _Sums, information: Array, noise: Noise) -> Array:
    """a for every draw and L_inf, (D, G)."""
    prior = noise.sigma[:, None] ** 2 / EXPONENT_PRIOR[1] ** 2
    seen = np.sum(information * (_own_exponent(sums) - noise.delta[:, None, :]), axis=2)
    a = (seen + prior * noise.exponent[:, None]) / (information.sum(axis=2) + prior)
    return np.asarray(np.maximum(a, LOWEST_EXPONENT))


def _objective(sums: _Sums, pooled: Mask, information: Array, noise: Noise, a: Array) -> Array:
    """sigma^2 times (-2 log posterior) but for the prior of L_inf and constants, (D, G)."""
    own = _own_exponent(sums)
    departure = a[..., None] + noise.delta[:, None, :] - own
    fit = (sums.yy - own**2 * sums.xx) * pooled + information * departure**2
    prior = noise.sigma[:, None] ** 2 * ((a - noise.exponent[:, None]) / EXPONENT_PRIOR[1]) ** 2
    return np.asarray(np.sum(fit, axis=2) + prior)


def _exponents(best: _Sums, noise: Noise, tau: float, pooled: Array) -> Array:
    """t_s of every draw at its best L_inf, (D, S): between the pooled exponent and the structure's own."""
    expected = pooled[:, None] + noise.delta
    own = tau**2 * best.xx
    spread = noise.sigma[:, None] ** 2
    return np.maximum((spread * expected - tau**2 * best.xy) / (spread + own), LOWEST_EXPONENT)
