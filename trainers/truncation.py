"""Rank-rho approximations of many matrices of one shape at once.

M        (p, q), p <= q; n of them together
rho      rank to keep
Q        orthonormal basis of a block Krylov space of M M^T
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

LARGE = 2048
"""Blocks with both sides at least this long are searched for their leading subspace where rho is at most a sixteenth of it."""

OVERSAMPLING = 16
"""Vectors beyond rho in each step of that search."""

SETTLED = 1e-8
"""It ends when a fifth more steps add less than this fraction of the squared norm of a block to what is kept."""

ROUNDS = 1000
"""Most rounds of filling in what is not known."""


def truncate(
    blocks: Tensor,  # (n, p, q), float64
    rho: int,
    fresh: tuple[float, float],
    *,
    exact: bool,
    known: Tensor | None = None,  # (n, p, q)
) -> tuple[Tensor, Tensor]:  # (n, p, rho), (n, rho, q)
    """Factors of the closest matrices of rank rho in the Frobenius norm, of equal norms.

    Where not all entries are known, the rest takes the values of the approximation, again and again, until the error settles.
    It falls in each round; that it ends at the smallest there is holds only where whole rows and columns are unknown.

    Args:
        blocks: the matrices.
        rho: rank to keep.
        fresh: norms of a vector of the left and of the right factor in a new layer. A singular value of 0 leaves one vector of
            its pair at that norm.
        exact: whether to resolve singular values below 1e-8 of the largest, at twice the work.
        known: which entries count; None for all.
    """
    left, right = _factors(blocks, rho, fresh, exact)
    if known is None:
        return left, right
    error, tolerance = math.inf, (1e-13 if exact else 1e-8) * float(blocks.norm())
    for _ in range(ROUNDS):
        approximation = left @ right
        missed = float((blocks - approximation)[known].norm())
        if missed <= tolerance or missed >= error * (1 - 1e-6):
            break
        error = missed
        left, right = _factors(torch.where(known, blocks, approximation), rho, fresh, exact)
    return left, right


def _factors(blocks: Tensor, rho: int, fresh: tuple[float, float], exact: bool) -> tuple[Tensor, Tensor]:
    if blocks.shape[1] > blocks.shape[2]:
        right, left = _factors(blocks.mT, rho, (fresh[1], fresh[0]), exact)
        return left.mT, right.mT
    basis = _leading(blocks, rho, exact)
    other = basis.mT @ blocks
    values = other.norm(dim=2, keepdim=True)
    nothing = values <= torch.finfo(blocks.dtype).eps * values.amax()
    scale = values.sqrt().masked_fill(nothing, fresh[0])
    return basis * scale.mT, other / scale


def _leading(blocks: Tensor, rho: int, exact: bool) -> Tensor:  # (n, p, q), p <= q -> (n, p, rho)
    """The rho leading left singular vectors of each block."""
    if exact:
        vectors: Tensor = torch.linalg.svd(blocks, full_matrices=False).U
        return vectors[:, :, :rho]
    if blocks.shape[1] >= max(LARGE, 16 * rho):
        return torch.stack([_search(block, rho) for block in blocks])
    return _from_gram(blocks, rho)


def _from_gram(blocks: Tensor, rho: int) -> Tensor:  # (*n, p, q) -> (*n, p, rho)
    """By the Gram matrix: half the work of a singular value decomposition, at the price of the small singular values."""
    vectors: Tensor = torch.linalg.eigh(blocks @ blocks.mT).eigenvectors
    return vectors[..., -rho:].flip(-1)


def _search(block: Tensor, rho: int) -> Tensor:  # (p, q) -> (p, rho)
    """The same from a block Krylov space (Musco and Musco 2015), which for small rho meets the block a few dozen times.

    It grows until the squared norm within it settles. A member of the family is of rank rho and is found in the first step.
    """
    generator = torch.Generator(block.device).manual_seed(0)
    start = torch.randn(block.shape[1], rho + OVERSAMPLING, generator=generator, dtype=block.dtype, device=block.device)
    step = torch.linalg.qr(block @ start).Q
    basis, images, kept, due = step, block.mT @ step, 0.0, 0
    settled = SETTLED * float(block.square().sum())
    while basis.shape[1] <= block.shape[0] // 2:
        if basis.shape[1] >= due:
            values, vectors = torch.linalg.eigh(images.mT @ images)
            now = float(values[-rho:].sum())
            if now - kept <= settled:
                found: Tensor = basis @ vectors[:, -rho:].flip(1)
                return found
            kept, due = now, basis.shape[1] * 5 // 4
        step = block @ images[:, -step.shape[1] :]
        for _ in range(2):
            step = torch.linalg.qr(step - basis @ (basis.mT @ step)).Q
        basis, images = torch.cat([basis, step], dim=1), torch.cat([images, block.mT @ step], dim=1)
    return _from_gram(block, rho)
