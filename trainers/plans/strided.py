"""Two batched products that read and write rows of tokens where they lie: no activation is copied or transposed.

With A first, the input and the output are taken as they are, (tokens, features), and what lies between the products is kept
feature-major, (features, tokens). Each product is then a batch of matrix products of the form that BLAS takes, with a leading
dimension: the first reads the transpose of rows, the second writes rows. The same holds for every product of the gradient.
(With B first, alpha and beta of a feature change places: one copy on either side.)

Tokens may go through in chunks small enough for a cache. What lies between the products is then not kept for the backward
pass but computed again: less memory than a dense layer needs, and on a CPU less time too.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from trainers.plans.plain import MOVE, edges_of, products_macs, reading_macs
from trainers.plans.problem import HALVES, Problem, differentiable_gradients, padded, trimmed
from trainers.products import Edges

PARTS = 16
"""Parts of the backward pass on a CPU where nothing is computed twice: gradients of what lies between take less room."""


@dataclass(frozen=True, slots=True)
class Strided:
    """See the module.

    Args:
        chunk: features times tokens that go through at once; 0 for all, and then nothing is computed twice.
        wide: whether 16-bit inputs are multiplied in float32, for processors that have no 16-bit products.
        swapped: whether the factors are contracted in the other order than the cheaper one.
    """

    chunk: int = 0
    wide: bool = False
    swapped: bool = False

    @property
    def name(self) -> str:
        """strided, and what differs from the default."""
        parts = ["strided", f"chunk{self.chunk >> 10}k" if self.chunk else "", "wide" * self.wide, "swapped" * self.swapped]
        return "-".join(filter(None, parts))

    def supports(self, problem: Problem) -> bool:
        """Two factors on a CPU or CUDA device; chunks are summed up, which takes 32 bits."""
        half = problem.dtype in HALVES
        exact = self.wide if self.chunk else True
        fits = exact and problem.device.type == "cpu" if half else not self.wide
        return problem.edges is not None and problem.device.type in ("cpu", "cuda") and fits

    def cost(self, problem: Problem) -> float:
        """The products, features moved, those between the products, whose small products are slow, and the weights read for
        each chunk.
        """
        e = swapped(edges_of(problem)) if self.swapped else edges_of(problem)
        moved = (1 if e.a_first else 2) * (e.d_in + e.d_out)
        reading = reading_macs(e, _tokens(e, self.chunk)) if self.chunk else 0.0
        return problem.tokens * (products_macs(e) + MOVE / 2 * moved + 2 * MOVE * e.between + reading)

    def kept(self, problem: Problem) -> int:
        """What lies between the products, unless it is computed again."""
        e = edges_of(problem)
        return 0 if self.chunk else (swapped(e) if self.swapped else e).between

    def __call__(self, x: Tensor, factors: Sequence[Tensor], bias: Tensor | None, problem: Problem) -> Tensor:
        """See `Plan`."""
        e, (first, second) = edges_of(problem), factors
        if self.swapped:
            first, second = second.permute(2, 4, 0, 1, 3), first.permute(2, 3, 0, 4, 1)
            e = swapped(e)
        if bias is not None and e.d_out != problem.d_out:
            bias = torch.nn.functional.pad(bias, (0, e.d_out - problem.d_out))
        y: Tensor = _Strided.apply(padded(x, e.d_in), first, second, bias, e, self)  # type: ignore[no-untyped-call]
        return trimmed(y, problem.d_out)


def _tokens(e: Edges, chunk: int) -> int:
    """Tokens of a chunk."""
    return max(16, chunk // max(e.d_in, e.between, e.d_out))


def swapped(e: Edges) -> Edges:
    """The edges when the other factor is contracted first."""
    return Edges(e.x2, e.x1, e.gamma, e.y2, e.y1, e.phi, e.rho, a_first=not e.a_first)


class _Strided(torch.autograd.Function):
    """Chunks through both products; the gradient of each factor is summed over chunks."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, first: Tensor, second: Tensor, bias: Tensor | None, e: Edges, plan: Strided) -> Tensor:
        run = _Run(x, first, second, e, plan)
        y = x.new_empty(len(x), e.d_out)
        whole = None if plan.chunk else run.between(len(x))
        for part in run.parts:
            columns = run.load(x[part], run.x_buffer)
            z = run.between(columns.shape[2]) if whole is None else whole
            torch.bmm(run.left, columns, out=z)
            run.store(y[part], z, bias)
        ctx.save_for_backward(x, first, second, bias, whole)
        ctx.settings = e, plan
        return y

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor | None, ...]:
        x, first, second, bias, z = ctx.saved_tensors
        e, plan = ctx.settings
        d_bias = None if bias is None else dy.sum(0, dtype=bias.dtype)
        if torch.is_grad_enabled():
            wanted = ctx.needs_input_grad[:3]
            return (*differentiable_gradients(e, (x, first, second), wanted, dy), d_bias, None, None)
        run = _Run(x, first, second, e, plan, parts=PARTS if x.device.type == "cpu" else 1)
        dx, (d_first, d_second) = run.gradients(x, dy, z)
        return dx, d_first.to(first.dtype), d_second.to(second.dtype), d_bias, None, None


class _Run:
    """One execution: the factors as batches of matrices, and buffers of the size of a chunk, or of one of `parts`."""

    def __init__(self, x: Tensor, first: Tensor, second: Tensor, e: Edges, plan: Strided, parts: int = 1) -> None:
        self.e = e
        self.dtype = torch.float32 if plan.wide else x.dtype
        left = first.to(self.dtype).unsqueeze(1).expand(e.gamma, e.x2, -1, -1, -1, -1)
        right = second.to(self.dtype).unsqueeze(1).expand(e.phi, e.y1, -1, -1, -1, -1)
        self.left = left.reshape(e.batch1, e.rows1, e.x1)
        self.right = right.reshape(e.batch2, e.y2, e.inner)
        tokens = len(x)
        size = max(min(tokens, 256), -(-tokens // parts))
        if plan.chunk:
            size = min(size, _tokens(e, plan.chunk))
        self.parts = [slice(i, i + size) for i in range(0, tokens, size)] if tokens else []
        in_place = e.a_first and not plan.wide
        self.x_buffer = None if in_place else self._empty(x, size * e.d_in)
        self.y_buffer = None if in_place else self._empty(x, size * e.d_out)
        self._z = self._empty(x, 0 if plan.chunk == 0 else size * e.between)

    def _empty(self, like: Tensor, size: int) -> Tensor:
        return torch.empty(size, dtype=self.dtype, device=like.device)

    def between(self, tokens: int) -> Tensor:  # (batch1, rows1, tokens)
        """Room for what lies between the products."""
        size = self.e.between * tokens
        room = self._z if self._z.numel() >= size > 0 else self._empty(self._z, size)
        return room[:size].view(self.e.batch1, self.e.rows1, tokens)

    def load(self, x: Tensor, buffer: Tensor | None) -> Tensor:  # (tokens, d_in) -> (batch1, x1, tokens)
        """The input of the first product."""
        e, n = self.e, len(x)
        if e.a_first:
            return self._rows(x, buffer).view(n, e.batch1, e.x1).permute(1, 2, 0)
        assert buffer is not None
        columns = buffer[: x.numel()].view(e.gamma, e.x2, n, e.x1)
        columns.copy_(x.view(n, e.gamma, e.x1, e.x2).permute(1, 3, 0, 2))
        return columns.view(e.batch1, n, e.x1).transpose(1, 2)

    def load_gradient(self, dy: Tensor) -> Tensor:  # (tokens, d_out) -> (batch2, y2, tokens)
        """The gradient of the output of the second product."""
        e, n = self.e, len(dy)
        if e.a_first:
            return self._rows(dy, self.y_buffer).view(n, e.batch2, e.y2).permute(1, 2, 0)
        assert self.y_buffer is not None
        columns = self.y_buffer[: dy.numel()].view(e.phi, e.y1, n, e.y2)
        columns.copy_(dy.view(n, e.phi, e.y2, e.y1).permute(1, 3, 0, 2))
        return columns.view(e.batch2, n, e.y2).transpose(1, 2)

    def _rows(self, x: Tensor, buffer: Tensor | None) -> Tensor:
        return x if buffer is None else buffer[: x.numel()].view(x.shape).copy_(x)

    def store(self, y: Tensor, z: Tensor, bias: Tensor | None) -> None:
        """The second product, written to rows of the output."""
        e, n = self.e, len(y)
        rows = y if self.y_buffer is None else self.y_buffer[: y.numel()].view(y.shape)
        if e.a_first:
            torch.bmm(self._grouped(z).transpose(1, 2), self.right.mT, out=rows.view(n, e.batch2, e.y2).transpose(0, 1))
        else:
            out = rows.view(e.batch2, n, e.y2)
            torch.bmm(self._grouped(z).transpose(1, 2), self.right.mT, out=out)
            rows = out.view(e.phi, e.y1, n, e.y2).permute(2, 0, 3, 1)
        if rows is not y:
            y.view(rows.shape).copy_(rows)
        if bias is not None:
            y.add_(bias)

    def _grouped(self, z: Tensor) -> Tensor:  # (batch1, rows1, tokens) -> (batch2, inner, tokens)
        """What lies between, as the second product takes it."""
        return z.view(self.e.inner, self.e.batch2, -1).transpose(0, 1)

    def gradients(self, x: Tensor, dy: Tensor, z: Tensor | None) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """Gradients with respect to x, first and second."""
        e = self.e
        dx = torch.empty(x.shape, dtype=x.dtype, device=x.device)
        d_left, d_right = torch.zeros_like(self.left), torch.zeros_like(self.right)
        dz_room = self._empty(x, e.between * (self.parts[0].stop if self.parts else 0))
        for number, part in enumerate(self.parts):
            beta = int(number > 0)
            columns = self.load(x[part], self.x_buffer)
            n = columns.shape[2]
            z_part = torch.bmm(self.left, columns, out=self.between(n)) if z is None else z[:, :, part]
            dz = dz_room[: e.between * n].view(e.batch1, e.rows1, n)
            d_rows = self.load_gradient(dy[part])
            d_right.baddbmm_(d_rows, self._grouped(z_part).mT, beta=beta)
            torch.bmm(self.right.mT, d_rows, out=self._grouped(dz))
            d_left.baddbmm_(dz, columns.mT, beta=beta)
            self._store_gradient(dx[part], dz)
        d_first = _summed(d_left.view(e.gamma, e.x2, e.rho, e.phi, e.y1, e.x1))
        d_second = _summed(d_right.view(e.phi, e.y1, e.y2, e.gamma, e.x2, e.rho))
        return dx, (d_first, d_second)

    def _store_gradient(self, dx: Tensor, dz: Tensor) -> None:
        """The gradient of the input, to its rows."""
        e, n = self.e, len(dx)
        rows = dx if self.x_buffer is None else self.x_buffer[: dx.numel()].view(dx.shape)
        if e.a_first:
            torch.bmm(dz.mT, self.left, out=rows.view(n, e.batch1, e.x1).transpose(0, 1))
        else:
            out = rows.view(e.batch1, n, e.x1)
            torch.bmm(dz.mT, self.left, out=out)
            rows = out.view(e.gamma, e.x2, n, e.x1).permute(2, 0, 3, 1)
        if rows is not dx:
            dx.view(rows.shape).copy_(rows)


def _summed(shares: Tensor) -> Tensor:
    """The sum over the second dimension, without a copy where there is one share."""
    return shares.sum(1) if shares.shape[1] > 1 else shares.squeeze(1)
