"""Layers of three factors or more by their sequence of products, for all tokens at once or some at a time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from trainers.chain import Chain, chain_contract
from trainers.plans.plain import MOVE
from trainers.plans.problem import HALVES, Problem, padded, trimmed

PART = 1 << 17
"""Features times tokens that go through at once: all that lies between the products stays in a cache."""


@dataclass(frozen=True, slots=True)
class Chained:
    """One batched product per factor, on columns of tokens."""

    name: str = "chained"

    def supports(self, problem: Problem) -> bool:
        """Every layer of three factors or more."""
        return problem.chain is not None

    def cost(self, problem: Problem) -> float:
        """The products, and what moves into and out of each."""
        return problem.tokens * (_chain(problem).macs + MOVE * _chain(problem).moved)

    def kept(self, problem: Problem) -> int:
        """The input of every product."""
        chain = _chain(problem)
        return (chain.moved + chain.padded_in - chain.padded_out) // 2

    def __call__(self, x: Tensor, factors: Sequence[Tensor], bias: Tensor | None, problem: Problem) -> Tensor:
        """See `Plan`."""
        chain = _chain(problem)
        y = trimmed(_contract(padded(x, chain.padded_in), [factor.to(x.dtype) for factor in factors], chain), problem.d_out)
        return y if bias is None else y + bias.to(y.dtype)


@dataclass(frozen=True, slots=True)
class ChainedParts:
    """The same some tokens at a time, in float32 where rows have 16 bits; the backward pass computes each part again."""

    name: str = "chained-parts"

    def supports(self, problem: Problem) -> bool:
        """Every layer of three factors or more on a CPU."""
        return problem.chain is not None and problem.device.type == "cpu"

    def cost(self, problem: Problem) -> float:
        """The products, a third of them twice, and what moves within a cache."""
        return problem.tokens * (4 / 3 * _chain(problem).macs + MOVE * _chain(problem).moved)

    def kept(self, problem: Problem) -> int:  # noqa: ARG002
        """Nothing."""
        return 0

    def __call__(self, x: Tensor, factors: Sequence[Tensor], bias: Tensor | None, problem: Problem) -> Tensor:
        """See `Plan`."""
        chain = _chain(problem)
        whole: Tensor = _Parts.apply(padded(x, chain.padded_in), chain, *factors)  # type: ignore[no-untyped-call]
        y = trimmed(whole, problem.d_out)
        return y if bias is None else y + bias.to(y.dtype)


class _Parts(torch.autograd.Function):
    """Nothing but the inputs is kept for the backward pass."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, chain: Chain, *factors: Tensor) -> Tensor:
        ctx.save_for_backward(x, *factors)
        ctx.chain = chain
        y = x.new_empty(len(x), chain.padded_out)
        dtype = _arithmetic(x)
        converted = [factor.to(dtype) for factor in factors]
        for part in _parts(len(x), chain):
            y[part] = _contract(x[part].to(dtype), converted, chain)
        return y

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor | None, ...]:
        (x, *factors), chain = ctx.saved_tensors, ctx.chain
        dtype = _arithmetic(x)
        if torch.is_grad_enabled():
            y = _contract(x.to(dtype), [factor.to(dtype) for factor in factors], chain).to(x.dtype)
            wanted = [t for t, needed in zip((x, chain, *factors), ctx.needs_input_grad, strict=True) if needed]
            found = iter(torch.autograd.grad(y, wanted, dy, create_graph=True))
            return tuple(next(found) if needed else None for needed in ctx.needs_input_grad)
        dx = torch.empty_like(x)
        leaves = [factor.detach().to(dtype).requires_grad_() for factor in factors]
        sums = [torch.zeros_like(leaf) for leaf in leaves]
        for part in _parts(len(x), chain):
            with torch.enable_grad():
                rows = x[part].detach().to(dtype).requires_grad_()
                y = _contract(rows, leaves, chain)
            dx[part], *gradients = torch.autograd.grad(y, [rows, *leaves], dy[part].to(dtype))
            for total, gradient in zip(sums, gradients, strict=True):
                total.add_(gradient)
        return dx, None, *(total.to(factor.dtype) for total, factor in zip(sums, factors, strict=True))


def _contract(x: Tensor, factors: Sequence[Tensor], chain: Chain) -> Tensor:  # (tokens, padded_in) -> (tokens, padded_out)
    return chain_contract(x.t().contiguous(), factors, chain).t().contiguous()


def _parts(tokens: int, chain: Chain) -> list[slice]:
    size = max(16, PART // max(chain.padded_in, chain.padded_out))
    return [slice(i, i + size) for i in range(0, tokens, size)]


def _arithmetic(x: Tensor) -> torch.dtype:
    return torch.float32 if x.dtype in HALVES else x.dtype


def _chain(problem: Problem) -> Chain:
    assert problem.chain is not None
    return problem.chain
