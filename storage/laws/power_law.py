"""The power law L(C) = L_inf + b C^-a: evaluation and inversion.

| symbol | name | unit |
|---|---|---|
| C, x = log C | compute | FLOPs (or seconds: the law does not care) |
| L | loss | nats per token |
| L_inf | l_inf | irreducible loss, nats: belongs to data, tokeniser and evaluation set |
| b | exp(log_b) | scale, nats * FLOPs^a |
| a | exponent | > 0 |
| h | (L - L_inf) / L | share of the loss that is reducible: d log L = h d log(L - L_inf) |
| reach | REACH | the law is trusted up to this many times the compute it was fitted on |

Fitted by `storage.laws.posterior`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from storage.laws.run import Array, json_value

REACH = 4.0

LEAST_SHARE = 1e-9
"""Reducible part of a loss below which a law counts as flat: its inverse stays finite."""


def log_loss_at(x: Array, l_inf: Array, log_b: Array, exponent: Array) -> Array:
    """log L at x = log C; all arguments broadcast. Finite however large the loss: draws of ill-known laws may be absurd."""
    return np.asarray(np.logaddexp(_log(l_inf), log_b - exponent * x), dtype=np.float64)


def log_compute_at(log_loss: Array, l_inf: Array, log_b: Array, exponent: Array, x_trusted: Array | float) -> Array:
    """x = log C at which the law reaches a loss; all arguments broadcast; finite and decreasing in loss.

    Up to x_trusted the law is inverted. Below the loss it has there (L_inf included, where the law has no
    answer) a straight line in (log C, log L) continues it with its own slope: bounded where an ill-known
    L_inf would send the answer to infinity.
    """
    floor = _log(l_inf)
    edge = np.maximum(log_b - exponent * x_trusted, np.log(LEAST_SHARE) + np.maximum(floor, np.log(LEAST_SHARE)))
    log_edge = np.logaddexp(floor, edge)
    beyond = x_trusted + (log_edge - log_loss) / (exponent * np.exp(edge - log_edge))
    above = np.maximum(log_loss, log_edge)
    within = (log_b - np.maximum(above + np.log1p(-np.exp(floor - above)), edge)) / exponent
    return np.asarray(np.where(log_loss < log_edge, beyond, within), dtype=np.float64)


def _log(l_inf: Array) -> Array:
    """log L_inf; that of none is that of next to nothing."""
    return np.asarray(np.log(np.maximum(l_inf, 1e-300)))


@dataclass(frozen=True, slots=True)
class PowerLaw:
    """A fitted L(C) = l_inf + exp(log_b) C^-exponent, and the range of compute it was fitted on (FLOPs)."""

    l_inf: float
    log_b: float
    exponent: float
    low: float
    high: float

    @property
    def x_trusted(self) -> float:
        """log of the largest compute at which the law is inverted as it stands."""
        return float(np.log(REACH * self.high))

    def predict(self, compute: Array | float) -> Array:
        """Loss in nats at the compute in FLOPs, same shape."""
        x = np.log(np.asarray(compute, dtype=np.float64))
        return np.exp(log_loss_at(x, *self._parameters()))

    def compute_at(self, loss: Array | float) -> Array:
        """FLOPs at which the law reaches the loss, same shape; see `log_compute_at` beyond its range."""
        log_loss = np.log(np.asarray(loss, dtype=np.float64))
        return np.exp(log_compute_at(log_loss, *self._parameters(), self.x_trusted))

    def _parameters(self) -> tuple[Array, Array, Array]:
        return np.asarray(self.l_inf), np.asarray(self.log_b), np.asarray(self.exponent)

    def to_dict(self) -> dict[str, Any]:
        """Fields as JSON values."""
        names = ("l_inf", "log_b", "exponent", "low", "high")
        return {name: json_value(getattr(self, name)) for name in names}
