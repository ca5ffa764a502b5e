"""What a plan is asked to execute, and what a plan is.

A plan is one way to compute y = x W^T + bias of a layer. All plans compute the same function and the same gradients, to
rounding; they differ in time and in memory. Estimates are in MACs of a large product of the same precision, forward pass.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from trainers.chain import Chain
from trainers.products import Edges, rows

HALVES = (torch.bfloat16, torch.float16)


@dataclass(frozen=True, slots=True)
class Problem:
    """A layer at one number of tokens, as far as speed depends on it.

    Attributes:
        edges: sizes of the edges, of the padded widths; None unless it has two factors.
        d_in: width of the input.
        d_out: width of the output.
        tokens: rows of the input.
        dtype: of input and output. The factors may be wider, as they are under autocast.
        device: where it runs.
        grad: whether gradients are wanted.
        threads: of torch on a CPU.
        chain: of a layer of three factors or more; one of neither edges nor chain is dense.
    """

    edges: Edges | None
    d_in: int
    d_out: int
    tokens: int
    dtype: torch.dtype
    device: torch.device
    grad: bool
    threads: int = 1
    chain: Chain | None = None

    @property
    def shapes(self) -> tuple[tuple[int, ...], ...]:
        """Shapes of the factors, in the order of contraction."""
        if self.chain is not None:
            return self.chain.shapes
        return ((self.d_out, self.d_in),) if self.edges is None else self.edges.shapes

    @property
    def dense_macs(self) -> int:
        """MACs of a dense layer of these widths."""
        return self.d_in * self.d_out * self.tokens


class Plan(Protocol):
    """One way to execute a layer. Immutable, and callable from several threads."""

    @property
    def name(self) -> str:
        """Unique, and stable from one version to the next: choices are recorded by it."""
        ...

    def supports(self, problem: Problem) -> bool:
        """Whether this plan can execute `problem`."""
        ...

    def cost(self, problem: Problem) -> float:
        """Estimated time of the forward pass in MACs of a large product."""
        ...

    def kept(self, problem: Problem) -> int:
        """Features of each token that it keeps for the backward pass, beyond the input as it was given."""
        ...

    def __call__(self, x: Tensor, factors: Sequence[Tensor], bias: Tensor | None, problem: Problem) -> Tensor:
        """The layer's output.

        Args:
            x: (tokens, d_in), of `problem.dtype`, its rows contiguous.
            factors: in the order of contraction, as `trainers.products` lays them out; dense: the matrix alone.
            bias: (d_out,) or None.
            problem: what `supports` has accepted; its `tokens` may be those of another call.
        """
        ...


def padded(x: Tensor, width: int) -> Tensor:  # (tokens, d_in) -> (tokens, padded d_in)
    """The input with zeros behind each row, where the width was padded."""
    missing = width - x.shape[1]
    return F.pad(x, (0, missing)) if missing else x


def trimmed(y: Tensor, width: int) -> Tensor:  # (tokens, padded d_out) -> (tokens, d_out)
    """The output without what padding added, contiguous."""
    return y[:, :width].contiguous()


def differentiable_gradients(
    e: Edges, inputs: tuple[Tensor, Tensor, Tensor], wanted: Sequence[bool], dy: Tensor
) -> tuple[Tensor | None, ...]:
    """Gradients of the plain products with respect to x and both factors, which can be differentiated again."""
    x, first, second = inputs
    y = rows(x, first.to(x.dtype), second.to(x.dtype), e)
    chosen = [i for i in range(3) if wanted[i]]
    found = torch.autograd.grad(y, [inputs[i] for i in chosen], dy, create_graph=True)
    gradients = dict(zip(chosen, found, strict=True))
    return tuple(gradients.get(i) for i in range(3))
