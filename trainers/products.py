"""A two-factor layer as two batched matrix products: which they are, and their plain, differentiable form.

Notation: the factor that is contracted first has its own edges x1 (on the input) and y1 (on the output), the other x2 and y2.

                    x1     x2     y1       y2
    A first         alpha  beta   delta    epsilon
    B first         beta   alpha  epsilon  delta

    first[gamma, rho, phi, y1, x1]     gamma x2 products of (rho phi y1, x1): beta only joins the columns
    second[phi, y2, gamma, x2, rho]    phi y1 products of (y2, gamma x2 rho)

Feature i of the input is (gamma, beta, alpha) and feature j of the output is (phi, delta, epsilon), slowest first, whichever
factor is contracted first (P1 App. C.1, eq. 15-16). `trainers.plans` holds the faster ways to execute a layer.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch.nn.functional as F
from torch import Tensor

from space.realization import Realization

FactorName = Literal["a", "b", "c", "d", "e", "f"]


@dataclass(frozen=True, slots=True)
class Product:
    """One batched matrix product of a layer: the factor that holds its weights, and its fan-in and fan-out."""

    factor: FactorName
    fan_in: int
    fan_out: int
    shape: tuple[int, ...]

    @property
    def std(self) -> float:
        """Standard deviation at initialisation, sqrt(min(in, out)) / in (P1 section 6, P2 section 3).

        >>> Product("a", 16, 4, (4, 16)).std
        0.125
        """
        return math.sqrt(min(self.fan_in, self.fan_out)) / self.fan_in


@dataclass(frozen=True, slots=True)
class Edges:
    """Sizes of the seven edges by the role they play (see the notation of this module)."""

    x1: int
    x2: int
    gamma: int
    y1: int
    y2: int
    phi: int
    rho: int
    a_first: bool

    @classmethod
    def of(cls, realization: Realization) -> Edges:
        """The edges of a two-factor realization, in its own order."""
        s = realization.sizes
        own = ("XA", "XB", "YA", "YB") if realization.order == "A" else ("XB", "XA", "YB", "YA")
        x1, x2, y1, y2 = (s[edge] for edge in own)
        return cls(x1, x2, s["XAB"], y1, y2, s["YAB"], s["AB"], a_first=realization.order == "A")

    @property
    def batch1(self) -> int:
        """Number of products with the first factor, gamma x2."""
        return self.gamma * self.x2

    @property
    def rows1(self) -> int:
        """Outputs of one of them, rho phi y1."""
        return self.rho * self.phi * self.y1

    @property
    def batch2(self) -> int:
        """Number of products with the second factor, phi y1."""
        return self.phi * self.y1

    @property
    def inner(self) -> int:
        """Inputs of one of those, gamma x2 rho."""
        return self.gamma * self.x2 * self.rho

    @property
    def d_in(self) -> int:
        """Padded width of the input."""
        return self.batch1 * self.x1

    @property
    def d_out(self) -> int:
        """Padded width of the output."""
        return self.batch2 * self.y2

    @property
    def shapes(self) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Shapes of the two factors."""
        return (self.gamma, self.rho, self.phi, self.y1, self.x1), (self.phi, self.y2, self.gamma, self.x2, self.rho)

    @property
    def between(self) -> int:
        """Features between the two products."""
        return self.batch1 * self.rows1


def rows(
    x: Tensor,  # (tokens, gamma beta alpha)
    first: Tensor,  # (gamma, rho, phi, y1, x1)
    second: Tensor,  # (phi, y2, gamma, x2, rho)
    e: Edges,
) -> Tensor:  # (tokens, phi delta epsilon)
    """The layer by its two batched products on rows of tokens, as a textbook has it: what joins the columns joins the rows."""
    if e.batch1 == e.batch2 == 1:  # low rank: two matrices
        return F.linear(F.linear(x, first.reshape(e.rows1, e.x1)), second.reshape(e.y2, e.inner))
    tokens = x.shape[0]
    slowest, fastest = (e.x2, e.x1) if e.a_first else (e.x1, e.x2)
    x = x.reshape(tokens, e.gamma, slowest, fastest)
    x = (x if e.a_first else x.mT).transpose(0, 1).reshape(e.gamma, tokens * e.x2, e.x1)
    z = x.bmm(first.reshape(e.gamma, e.rows1, e.x1).transpose(1, 2))
    z = z.view(e.gamma, tokens, e.x2, e.rho, e.phi, e.y1).permute(4, 1, 5, 0, 2, 3)
    y = z.reshape(e.phi, tokens * e.y1, e.inner).bmm(second.reshape(e.phi, e.y2, e.inner).transpose(1, 2))
    y = y.view(e.phi, tokens, e.y1, e.y2).transpose(0, 1)
    return (y if e.a_first else y.transpose(2, 3)).reshape(tokens, e.d_out)


def materialise(
    first: Tensor,  # (gamma, rho, phi, y1, x1)
    second: Tensor,  # (phi, y2, gamma, x2, rho)
    e: Edges,
) -> Tensor:  # (phi delta epsilon, gamma beta alpha)
    """The layer's matrix: for each (gamma, phi) a product over rho. Costs rho d_in d_out MACs."""
    left = second.permute(0, 2, 1, 3, 4).reshape(e.phi * e.gamma, e.y2 * e.x2, e.rho)
    right = first.permute(2, 0, 1, 3, 4).reshape(e.phi * e.gamma, e.rho, e.y1 * e.x1)
    blocks = left.bmm(right).view(e.phi, e.gamma, e.y2, e.x2, e.y1, e.x1)
    blocks = blocks.permute(0, 4, 2, 1, 3, 5) if e.a_first else blocks.permute(0, 2, 4, 1, 5, 3)
    return blocks.reshape(e.d_out, e.d_in)
