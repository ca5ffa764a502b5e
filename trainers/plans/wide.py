"""The materialised plan for processors without 16-bit products: activations are multiplied in float32, some rows at a time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from trainers.plans.plain import building_macs, matrix
from trainers.plans.problem import HALVES, Problem

ROWS = 1024
"""Rows that are converted at a time."""


@dataclass(frozen=True, slots=True)
class WideMaterialised:
    """W in float32, activations converted as they are read."""

    name: str = "materialised-wide"

    def supports(self, problem: Problem) -> bool:
        """Every layer of 16 bits on a CPU."""
        return problem.dtype in HALVES and problem.device.type == "cpu"

    def cost(self, problem: Problem) -> float:
        """The dense product, and W built."""
        return problem.dense_macs + building_macs(problem)

    def kept(self, problem: Problem) -> int:  # noqa: ARG002
        """Nothing."""
        return 0

    def __call__(self, x: Tensor, factors: Sequence[Tensor], bias: Tensor | None, problem: Problem) -> Tensor:
        """See `Plan`."""
        return wide_linear(x, matrix([factor.float() for factor in factors], problem), bias)


def wide_linear(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:  # (n, d_in), (d_out, d_in), (d_out,) -> (n, d_out)
    """x W^T + bias, x of 16 bits and W of 32."""
    y: Tensor = _WideLinear.apply(x, weight)  # type: ignore[no-untyped-call]
    return y if bias is None else y.add_(bias.to(y.dtype))


class _WideLinear(torch.autograd.Function):
    """x W^T with x and the result of 16 bits, W and the arithmetic of 32."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor) -> Tensor:
        ctx.save_for_backward(x, weight)
        y = x.new_empty(len(x), len(weight))
        for i in range(0, len(x), ROWS):
            y[i : i + ROWS] = x[i : i + ROWS].float() @ weight.t()
        return y

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor, Tensor]:
        x, weight = ctx.saved_tensors
        if torch.is_grad_enabled():
            return (dy.float() @ weight).to(x.dtype), dy.float().t() @ x.float()
        dx, d_weight = torch.empty_like(x), torch.zeros_like(weight)
        for i in range(0, len(x), ROWS):
            rows = dy[i : i + ROWS].float()
            dx[i : i + ROWS] = rows @ weight
            d_weight.addmm_(rows.t(), x[i : i + ROWS].float())
        return dx, d_weight
