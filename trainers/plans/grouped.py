"""Two batched products on CUDA by Triton kernels: no activation is copied, transposed or repeated, in any structure.

Each of the six products of a step (two forward, four backward) is a batch over (gamma, x2) or (phi, y1) of products with
strides of their own, so that a shared factor has stride 0 and both orders of contraction read and write rows in place. What
lies between the products is feature-major, (features, tokens): it is written and read along tokens. The gradient of a factor
is summed over shares of the tokens, then over shares in a fixed order: the same bits every time.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor

from trainers.plans.plain import MOVE, edges_of, products_macs
from trainers.plans.problem import Problem, differentiable_gradients, padded, trimmed
from trainers.products import Edges

SHARE = 1024
"""Tokens that one program sums over for the gradient of a factor."""

LARGEST_TILE = 64
"""Rows and columns of a tile; 16 at least, which is what `tl.dot` takes."""


@dataclass(frozen=True, slots=True)
class Grouped:
    """See the module."""

    name: str = "triton"

    def supports(self, problem: Problem) -> bool:
        """Two factors of 16 or 32 bits on a CUDA device (a CPU in Triton's interpreter), where Triton is installed."""
        types = (torch.float32, torch.float16, torch.bfloat16)
        device = "cpu" if interpreting() else "cuda"
        return problem.edges is not None and problem.dtype in types and problem.device.type == device and installed()

    def cost(self, problem: Problem) -> float:
        """The products, and each feature moved once."""
        e = edges_of(problem)
        return problem.tokens * (products_macs(e) + MOVE / 2 * (e.d_in + 2 * e.between + e.d_out))

    def kept(self, problem: Problem) -> int:
        """What lies between the products."""
        return edges_of(problem).between

    def __call__(self, x: Tensor, factors: Sequence[Tensor], bias: Tensor | None, problem: Problem) -> Tensor:
        """See `Plan`."""
        e = edges_of(problem)
        y: Tensor = _Grouped.apply(padded(x, e.d_in), *factors, e)  # type: ignore[no-untyped-call]
        y = trimmed(y, problem.d_out)
        return y if bias is None else y + bias.to(y.dtype)


def interpreting() -> bool:
    """Whether Triton runs its kernels in Python, on the CPU."""
    return os.environ.get("TRITON_INTERPRET") == "1"


@cache
def installed() -> bool:
    """Whether Triton can be imported."""
    return find_spec("triton") is not None


@dataclass(frozen=True, slots=True)
class _View:
    """A tensor as a batch of matrices: strides of the batch (outer, inner), and of each matrix."""

    data: Tensor
    outer: int
    inner: int
    row: int
    column: int

    @property
    def mT(self) -> _View:
        return _View(self.data, self.outer, self.inner, self.column, self.row)


def _product(a: _View, b: _View, c: _View, sizes: tuple[int, int, int], batch: tuple[int, int], splits: int = 1) -> None:
    """c = a @ b for each of a batch, matrices of (rows, terms) and (terms, columns); with splits, c is (splits, ...)."""
    from trainers.plans.kernels import grouped

    rows, columns, terms = sizes
    if 0 in (rows, columns):
        return
    tile_rows, tile_columns, tile_terms = (
        max(16, min(LARGEST_TILE, 1 << (n - 1).bit_length())) for n in (rows, columns, terms)
    )
    tiles = -(-rows // tile_rows) * -(-columns // tile_columns)
    grouped[(tiles * splits * batch[0] * batch[1],)](
        a.data,
        b.data,
        c.data,
        rows,
        columns,
        terms,
        batch[1],
        splits,
        a.outer,
        a.inner,
        a.row,
        a.column,
        b.outer,
        b.inner,
        b.row,
        b.column,
        c.data.numel() // splits,
        c.outer,
        c.inner,
        c.row,
        c.column,
        tile_rows,
        tile_columns,
        min(32, tile_terms),
        "ieee" if a.data.dtype == torch.float32 else "tf32",
    )


def _input(x: Tensor, e: Edges) -> _View:
    """(tokens, x1) for each (gamma, x2)."""
    fast, slow = (1, e.x1) if e.a_first else (e.x2, 1)
    return _View(x, e.x1 * e.x2, slow, e.d_in, fast)


def _output(y: Tensor, e: Edges) -> _View:
    """(tokens, y2) for each (phi, y1)."""
    fast, slow = (1, e.y2) if e.a_first else (e.y1, 1)
    return _View(y, e.y1 * e.y2, slow, e.d_out, fast)


def _made(z: Tensor, e: Edges, tokens: int) -> _View:
    """What lies between, as the first product makes it: (rho phi y1, tokens) for each (gamma, x2)."""
    return _View(z, e.x2 * e.rows1 * tokens, e.rows1 * tokens, tokens, 1)


def _taken(z: Tensor, e: Edges, tokens: int) -> _View:
    """What lies between, as the second product takes it: (gamma x2 rho, tokens) for each (phi, y1)."""
    return _View(z, e.y1 * tokens, tokens, e.batch2 * tokens, 1)


class _Grouped(torch.autograd.Function):
    """What lies between the products is kept for the backward pass."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, first: Tensor, second: Tensor, e: Edges) -> Tensor:
        x = x.contiguous()
        tokens = len(x)
        f, s = first.to(x.dtype).contiguous(), second.to(x.dtype).contiguous()
        z, y = x.new_empty(e.between * tokens), x.new_empty(tokens, e.d_out)
        left, right = _weights(f, s, e)
        _product(left, _input(x, e).mT, _made(z, e, tokens), (e.rows1, tokens, e.x1), (e.gamma, e.x2))
        _product(_taken(z, e, tokens).mT, right.mT, _output(y, e), (tokens, e.y2, e.inner), (e.phi, e.y1))
        ctx.save_for_backward(x, first, second, z)
        ctx.edges = e
        return y

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor | None, ...]:
        x, first, second, z = ctx.saved_tensors
        e: Edges = ctx.edges
        if torch.is_grad_enabled():
            return (*differentiable_gradients(e, (x, first, second), ctx.needs_input_grad[:3], dy), None)
        dy, tokens = dy.contiguous(), len(x)
        left, right = _weights(first.to(x.dtype).contiguous(), second.to(x.dtype).contiguous(), e)
        rows, columns, d_rows = _output(dy, e), _input(x, e), torch.empty_like(x)
        dz = torch.empty_like(z)
        made, taken = _made(dz, e, tokens), _taken(dz, e, tokens)
        _product(right.mT, rows.mT, taken, (e.inner, tokens, e.y2), (e.phi, e.y1))
        _product(made.mT, left, _input(d_rows, e), (tokens, e.x1, e.rows1), (e.gamma, e.x2))
        splits = max(1, -(-tokens // SHARE))
        sums = x.new_zeros(splits, e.phi, e.y1, e.y2, e.inner, dtype=torch.float32)
        out = _View(sums, e.y1 * e.y2 * e.inner, e.y2 * e.inner, e.inner, 1)
        _product(rows.mT, _taken(z, e, tokens).mT, out, (e.y2, e.inner, tokens), (e.phi, e.y1), splits)
        d_second = sums.sum((0, 2)).view(second.shape)
        sums = x.new_zeros(splits, e.gamma, e.x2, e.rows1, e.x1, dtype=torch.float32)
        out = _View(sums, e.x2 * e.rows1 * e.x1, e.rows1 * e.x1, e.x1, 1)
        _product(made, columns, out, (e.rows1, e.x1, tokens), (e.gamma, e.x2), splits)
        d_first = sums.sum((0, 2)).view(first.shape)
        return d_rows, d_first.to(first.dtype), d_second.to(second.dtype), None


def _weights(first: Tensor, second: Tensor, e: Edges) -> tuple[_View, _View]:
    """(rho phi y1, x1) for each gamma, and (y2, gamma x2 rho) for each phi: the other index of the batch shares them."""
    left = _View(first, e.rows1 * e.x1, 0, e.x1, 1)
    return left, _View(second, e.y2 * e.inner, 0, e.inner, 1)
