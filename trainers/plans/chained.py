"""Layers of three factors or more by their sequence of products."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from trainers.chain import chain_contract
from trainers.plans.plain import MOVE
from trainers.plans.problem import Problem, padded, trimmed


@dataclass(frozen=True, slots=True)
class Chained:
    """One batched product per factor, on columns of tokens."""

    name: str = "chained"

    def supports(self, problem: Problem) -> bool:
        """Every layer of three factors or more."""
        return problem.chain is not None

    def cost(self, problem: Problem) -> float:
        """The products, and what moves: into each product, and out of the last."""
        assert problem.chain is not None
        r = problem.chain.realization
        moved = r.padded_in + r.padded_out + r.factors * max(r.padded_in, r.padded_out)
        return problem.tokens * (r.macs + MOVE * moved)

    def __call__(self, x: Tensor, factors: Sequence[Tensor], bias: Tensor | None, problem: Problem) -> Tensor:
        """See `Plan`."""
        assert problem.chain is not None
        r = problem.chain.realization
        columns = padded(x, r.padded_in).t().contiguous()
        y = chain_contract(columns, [factor.to(x.dtype) for factor in factors], r).t().contiguous()
        y = trimmed(y, problem.d_out)
        return y if bias is None else y + bias.to(y.dtype)
