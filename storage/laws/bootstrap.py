"""Uncertainty of laws by a bootstrap over runs.

| symbol | name | meaning |
|---|---|---|
| sigma | sigma | spread of the log loss of runs around their structure's law: seed, data order, width |
| e_r | residual | log loss of run r minus the law |
| D | draws | number of replicates |

Points of one run share its luck, so a bootstrap of points covers the truth about half of the time; runs are
the unit. A structure of a small study has one to three runs, and resampling those with replacement is
degenerate. So the run effects are what is resampled (a parametric residual bootstrap, Davison and Hinkley
1997, 4.3 and 6.2.4): each draw adds N(0, sigma^2) to the log loss of each run as a whole, keeps the design,
and refits everything. sigma is estimated from all structures together, as one figure, and redrawn each time
from its own posterior, sigma^2 ~ (nu0 sigma0^2 + sum e^2) / chi^2(nu0 + dof): with few degrees of freedom
intervals widen as Student's t does. sigma0 = 1 % with nu0 = 4 is the prior, on the careful side of what
repeated seeds of small language models differ by (0.5-1 %): runs far above the frontier are left out, which
makes the rest look tidier than they are. The priors of L_inf and of the exponent are redrawn too (randomise,
then optimise: Bardsley et al. 2014), so that where the data are silent the draws show the width of the prior
and not a spurious certainty.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from storage.laws.pooled import EXPONENT_PRIOR, SHARE_PRIOR, Noise
from storage.laws.run import Array

SIGMA_PRIOR = 0.01
SIGMA_PRIOR_DOF = 4


@dataclass(frozen=True)
class RunEffect:
    """Spread between runs: sigma in log loss, and the degrees of freedom behind it, prior included."""

    sigma: float
    dof: int

    @classmethod
    def estimate(cls, sum_of_squares: float, dof: int) -> RunEffect:
        """From the squared residuals of runs in log loss and their degrees of freedom (none counts as 0)."""
        known = max(dof, 0)
        total = SIGMA_PRIOR_DOF + known
        squares = SIGMA_PRIOR_DOF * SIGMA_PRIOR**2 + (sum_of_squares if known else 0.0)
        return cls(float(np.sqrt(squares / total)), total)

    def draw(self, draws: int, rng: np.random.Generator) -> Array:
        """(D,) draws of sigma from its posterior."""
        return self.sigma * np.sqrt(self.dof / rng.chisquare(self.dof, draws))


def noise(effect: RunEffect, runs: int, structures: int, tau: float, draws: int, rng: np.random.Generator) -> Noise:
    """Perturbations of `draws` replicates of a study with that many runs and structures."""
    sigma = effect.draw(draws, rng)
    return Noise(
        sigma=sigma,
        run=sigma[:, None] * rng.standard_normal((draws, runs)),
        share=rng.normal(*SHARE_PRIOR, draws),
        exponent=rng.normal(*EXPONENT_PRIOR, draws),
        delta=tau * rng.standard_normal((draws, structures)),
    )


def interval(draws: Array, level: float) -> tuple[Array, Array]:
    """Lower and upper ends of the central interval over the first axis."""
    low, high = np.quantile(draws, [(1 - level) / 2, (1 + level) / 2], axis=0)
    return low, high
