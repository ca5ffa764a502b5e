"""Two batched products of fewer, larger blocks: neighbours of a batch are merged into block-diagonal matrices.

Units that multiply 16-bit tiles (AMX, tensor cores) are as fast on a tile that is mostly zeros as on one that is full, and slow
on a great many tiny products. So m neighbours along gamma become one matrix of the first product, and n along phi one of the
second, until a block's fan-in is at least `WIDE`. The zeros cost m and n times the MACs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from trainers.plans.plain import MOVE, edges_of
from trainers.plans.problem import HALVES, Problem, padded, trimmed
from trainers.products import Edges

WIDE = 64
"""Fan-in of a block that is wide enough."""

UNITS = 8
"""How many times as many MACs of 16 bits such units do."""


@dataclass(frozen=True, slots=True)
class Merged:
    """See the module."""

    name: str = "rows-merged"

    def supports(self, problem: Problem) -> bool:
        """Two factors, with blocks to merge."""
        return problem.edges is not None and _merges(problem.edges) != (1, 1)

    def cost(self, problem: Problem) -> float:
        """The products with their zeros, and what `rows` moves."""
        e = edges_of(problem)
        m, n = _merges(e)
        macs = (m * e.between * e.x1 + n * e.d_out * e.inner) / (UNITS if problem.dtype in HALVES else 1)
        return problem.tokens * (macs + 3 * MOVE * (e.d_in + e.between + e.d_out))

    def kept(self, problem: Problem) -> int:
        """What lies between the products, and the input, copied."""
        e = edges_of(problem)
        return e.between + e.d_in

    def __call__(self, x: Tensor, factors: Sequence[Tensor], bias: Tensor | None, problem: Problem) -> Tensor:
        """See `Plan`."""
        e = edges_of(problem)
        first, second = (factor.to(x.dtype) for factor in factors)
        y = trimmed(_rows(padded(x, e.d_in), first, second, e), problem.d_out)
        return y if bias is None else y + bias.to(y.dtype)


def _rows(x: Tensor, first: Tensor, second: Tensor, e: Edges) -> Tensor:
    """As `trainers.products.rows`, gamma as (groups, m) and phi as (groups, n)."""
    m, n = _merges(e)
    g, f, tokens = e.gamma // m, e.phi // n, len(x)
    x = x.view(tokens, g, m, e.x2, e.x1) if e.a_first else x.view(tokens, g, m, e.x1, e.x2).mT
    x = x.permute(1, 0, 3, 2, 4).reshape(g, tokens * e.x2, m * e.x1)
    z = x.bmm(_diagonal(first.reshape(g, m, e.rows1, e.x1)).mT)
    z = z.view(g, tokens, e.x2, m, e.rho, f, n, e.y1).permute(5, 1, 7, 6, 0, 3, 2, 4)
    y = z.reshape(f, tokens * e.y1, n * e.inner).bmm(_diagonal(second.reshape(f, n, e.y2, e.inner)).mT)
    y = y.view(f, tokens, e.y1, n, e.y2).permute(1, 0, 3, 2, 4)
    return (y if e.a_first else y.mT).reshape(tokens, e.d_out)


def _diagonal(blocks: Tensor) -> Tensor:  # (groups, m, rows, columns) -> (groups, m rows, m columns)
    groups, m, rows, columns = blocks.shape
    return blocks.permute(0, 2, 3, 1).diag_embed().permute(0, 3, 1, 4, 2).reshape(groups, m * rows, m * columns)


def _merges(e: Edges) -> tuple[int, int]:
    """Neighbours that are merged along gamma and along phi: the least divisors that make blocks wide enough, else all."""
    return _least(e.gamma, e.x1), _least(e.phi, e.inner)


def _least(batch: int, fan_in: int) -> int:
    return next(d for d in range(1, batch + 1) if batch % d == 0 and (d * fan_in >= WIDE or d == batch))
