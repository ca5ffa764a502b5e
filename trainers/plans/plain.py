"""Plans of differentiable torch operations alone: right everywhere, under compilers and function transforms too."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor

from trainers.chain import chain_materialise
from trainers.plans.problem import Problem, padded, trimmed
from trainers.products import Edges, materialise, rows

MOVE = 60
"""Time to copy one feature of one token, in MACs of a large product (CPU, float32)."""

READ = 20
"""Time to read a weight from memory for a block of tokens, and for their gradient again, in the same unit."""

CACHED = 1 << 22
"""Weights that stay in a cache from one block of tokens to the next, 16 MiB."""


@dataclass(frozen=True, slots=True)
class Rows:
    """Two batched products on rows of tokens, with copies between them."""

    name: str = "rows"

    def supports(self, problem: Problem) -> bool:
        """Every two-factor layer."""
        return problem.edges is not None

    def cost(self, problem: Problem) -> float:
        """The products, and each feature copied where its axes change places, forward and back."""
        e = edges_of(problem)
        copied = 0 if e.batch1 == e.batch2 == 1 else e.d_in * (e.gamma > 1 or not e.a_first) + e.between + e.d_out
        return problem.tokens * (products_macs(e) + 3 * MOVE * copied)

    def kept(self, problem: Problem) -> int:
        """What lies between the products, and the input where it is copied."""
        e = edges_of(problem)
        return e.between + e.d_in * (e.gamma > 1 or not e.a_first)

    def __call__(self, x: Tensor, factors: Sequence[Tensor], bias: Tensor | None, problem: Problem) -> Tensor:
        """See `Plan`."""
        e = edges_of(problem)
        first, second = (factor.to(x.dtype) for factor in factors)
        y = trimmed(rows(padded(x, e.d_in), first, second, e), problem.d_out)
        return y if bias is None else y + bias.to(y.dtype)


@dataclass(frozen=True, slots=True)
class Materialised:
    """W, built once per call, in one dense product. Of a dense layer: the product."""

    name: str = "materialised"

    def supports(self, problem: Problem) -> bool:  # noqa: ARG002
        """Every layer."""
        return True

    def cost(self, problem: Problem) -> float:
        """The dense product, and W built."""
        return problem.dense_macs + building_macs(problem)

    def kept(self, problem: Problem) -> int:  # noqa: ARG002
        """Nothing."""
        return 0

    def __call__(self, x: Tensor, factors: Sequence[Tensor], bias: Tensor | None, problem: Problem) -> Tensor:
        """See `Plan`."""
        weight = matrix(factors, problem).to(x.dtype)
        return F.linear(x, weight, None if bias is None else bias.to(x.dtype))


def matrix(factors: Sequence[Tensor], problem: Problem) -> Tensor:  # (d_out, d_in)
    """The layer's matrix, in the type of its factors."""
    if problem.chain is not None:
        return chain_materialise(factors, problem.chain)[: problem.d_out, : problem.d_in]
    if problem.edges is None:
        return factors[0]
    first, second = factors
    return materialise(first, second, problem.edges)[: problem.d_out, : problem.d_in]


def edges_of(problem: Problem) -> Edges:
    """The edges of a problem that has two factors."""
    assert problem.edges is not None
    return problem.edges


def products_macs(e: Edges) -> int:
    """MACs of the two products per token, in the order of `e`."""
    return e.between * e.x1 + e.d_out * e.inner


def reading_macs(e: Edges, block: int) -> float:
    """Reading the weights anew for each `block` of tokens, per token: those that no cache holds."""
    return READ * max(0, parameters(e) - CACHED) / block


def parameters(e: Edges) -> int:
    """Weights of both factors."""
    return e.gamma * e.rho * e.phi * (e.y1 * e.x1 + e.y2 * e.x2)


def building_macs(problem: Problem) -> float:
    """Building W and moving it into place, once per call."""
    if problem.edges is None and problem.chain is None:
        return 0.0
    terms = problem.edges.rho if problem.edges else len(problem.chain.steps) if problem.chain else 0
    return problem.d_in * problem.d_out * (terms + 2 * MOVE)
