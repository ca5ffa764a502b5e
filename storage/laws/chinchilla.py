"""The loss surface L(N, D) = E + A N^-alpha + B D^-beta and its compute-optimal frontier.

| symbol | name | unit |
|---|---|---|
| N | params | parameters, or MACs per token where weights are shared |
| D | tokens | training tokens |
| C = 6 N D | flops | training FLOPs |
| E | floor | irreducible loss, nats |
| A, alpha; B, beta | exp(log_a), alpha; exp(log_b), beta | scale and exponent of size and of data |

Source: Hoffmann et al. 2022 (arXiv 2203.15556), section 3.3 and eq. 4, fitted as in `storage.laws.robust`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from storage.laws.power_law import PowerLaw
from storage.laws.robust import fit_terms
from storage.laws.run import Array, json_value

FLOPS_PER_MAC = 6.0


@dataclass(frozen=True)
class LossSurface:
    """A fitted surface, the value of its objective, and the range of compute of its points (FLOPs)."""

    floor: float
    log_a: float
    log_b: float
    alpha: float
    beta: float
    objective: float
    low: float
    high: float

    def predict(self, params: Array | float, tokens: Array | float) -> Array:
        """Loss in nats; params and tokens broadcast."""
        by_size = np.exp(self.log_a - self.alpha * np.log(params))
        by_data = np.exp(self.log_b - self.beta * np.log(tokens))
        return np.asarray(self.floor + by_size + by_data, dtype=np.float64)

    def best_params(self, flops: float) -> float:
        """N of the lowest loss at C FLOPs: (alpha A / beta B)^(1/s) (C/6)^(beta/s), s = alpha + beta."""
        ratio = np.log(self.alpha / self.beta) + self.log_a - self.log_b
        return float(np.exp((ratio + self.beta * np.log(flops / FLOPS_PER_MAC)) / (self.alpha + self.beta)))

    def frontier(self) -> PowerLaw:
        """L(C) at the best split of compute: the same floor, exponent alpha beta / (alpha + beta)."""
        params = self.best_params(self.high)
        reducible = float(self.predict(params, self.high / FLOPS_PER_MAC / params)) - self.floor
        exponent = self.alpha * self.beta / (self.alpha + self.beta)
        return PowerLaw(self.floor, float(np.log(reducible) + exponent * np.log(self.high)), exponent, self.low, self.high)

    def to_dict(self) -> dict[str, Any]:
        """Fields as JSON values."""
        return {name: json_value(value) for name, value in asdict(self).items()}


def fit_surface(params: Array, tokens: Array, loss: Array, starts: Sequence[tuple[float, ...]] | None = None) -> LossSurface:
    """Fit L(N, D) to points (n,) of parameters, tokens and nats: at least six, neither N nor D constant.

    `starts` are (alpha, beta) to begin at, in place of a grid of them.
    """
    found = fit_terms(np.log(np.column_stack([params, tokens])), np.log(loss), starts)
    flops = FLOPS_PER_MAC * params * tokens
    (log_a, log_b), (alpha, beta) = found.log_scale.tolist(), found.exponent.tolist()
    reach = float(flops.min()), float(flops.max())
    return LossSurface(found.floor, log_a, log_b, alpha, beta, found.objective, *reach)
