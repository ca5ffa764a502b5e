"""A two-factor layer as two batched matrix products: which they are, how they are executed, what they materialise to.

Notation: the factor that is contracted first has its own edges x1 (on the input) and y1 (on the output), the other x2 and y2.

                    x1     x2     y1       y2
    A first         alpha  beta   delta    epsilon
    B first         beta   alpha  epsilon  delta

    first[gamma, rho, phi, y1, x1]     gamma x2 products of (rho phi y1, x1): beta only joins the columns
    second[phi, y2, gamma, x2, rho]    phi y1 products of (y2, gamma x2 rho)

Feature i of the input is (gamma, beta, alpha) and feature j of the output is (phi, delta, epsilon), slowest first, whichever
factor is contracted first. Inside, activations are feature-major, (features, tokens): both products then read and write
whole rows of tokens, and everything between them is a view. (P1 App. C.1, eq. 15-16.)
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from space.realization import Realization

FactorName = Literal["a", "b"]


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


def products(realization: Realization) -> tuple[Product, ...]:
    """The products of a layer in the order in which they are executed: one for dense, else two.

    >>> from space.structure import Structure
    >>> [(p.factor, p.fan_in, p.fan_out) for p in products(Structure.parse("kronecker").realize(256, 256))]
    [('a', 16, 16), ('b', 16, 16)]
    """
    if realization.is_dense:
        d_in, d_out = realization.d_in, realization.d_out
        return (Product("a", d_in, d_out, (d_out, d_in)),)
    e = Edges.of(realization)
    names: tuple[FactorName, FactorName] = ("a", "b") if realization.order == "A" else ("b", "a")
    return (
        Product(names[0], e.x1, e.rho * e.phi * e.y1, (e.gamma, e.rho, e.phi, e.y1, e.x1)),
        Product(names[1], e.gamma * e.x2 * e.rho, e.y2, (e.phi, e.y2, e.gamma, e.x2, e.rho)),
    )


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


class _Transpose(torch.autograd.Function):
    """A transposed copy whose gradient is a copy too: elementwise operations on a strided one are up to 20 times slower."""

    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor) -> Tensor:
        return x.t().contiguous()

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor], output: Tensor) -> None:
        pass

    @staticmethod
    def backward(_: Any, grad: Tensor) -> Tensor:
        return _Transpose.apply(grad)  # type: ignore[no-any-return, no-untyped-call]


def transpose(x: Tensor) -> Tensor:  # (n, m) -> (m, n)
    """`x.t()`, contiguous in both directions of differentiation. (A compiler chooses its own layouts.)"""
    if torch.compiler.is_compiling():
        return x.t().contiguous()
    return _Transpose.apply(x)  # type: ignore[no-any-return, no-untyped-call]


def contract(
    x: Tensor,  # (gamma beta alpha, tokens)
    first: Tensor,  # (gamma, rho, phi, y1, x1)
    second: Tensor,  # (phi, y2, gamma, x2, rho)
    e: Edges,
) -> Tensor:  # (phi delta epsilon, tokens)
    """The layer by its two batched products.

    A factor is repeated over the edge that only joins its columns (first over x2, second over y1): that copies weights,
    where joining would copy activations.
    """
    left = first.unsqueeze(1).expand(e.gamma, e.x2, -1, -1, -1, -1).reshape(e.gamma * e.x2, -1, e.x1)
    right = second.unsqueeze(1).expand(e.phi, e.y1, -1, -1, -1, -1).reshape(e.phi * e.y1, e.y2, -1)
    tokens = x.shape[1]
    if not e.a_first:
        x = x.reshape(e.gamma, e.x1, e.x2, tokens).transpose(1, 2)
    z = left.bmm(x.reshape(e.gamma * e.x2, e.x1, tokens))
    z = z.view(e.gamma * e.x2 * e.rho, e.phi * e.y1, tokens).transpose(0, 1)
    y = right.bmm(z)
    if not e.a_first:
        y = y.view(e.phi, e.y1, e.y2, tokens).transpose(1, 2)
    return y.reshape(e.phi * e.y1 * e.y2, tokens)


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
    return blocks.reshape(e.phi * e.y1 * e.y2, e.gamma * e.x1 * e.x2)
