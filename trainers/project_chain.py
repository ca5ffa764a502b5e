"""The structured layer of three factors or more that is close to a matrix: factors split off one by one, then refined in turns.

    W       the matrix, one dimension for each edge of the input and of the output
    F       a factor; R what is left of W when the factors before it are split off, the product of F and all later ones
    E       the product of all factors but F

Over (edges of F alone) x (edges of later factors alone), for each value of the edges that both have, R has the rank of the
inner edges that lead from F to later factors. Its truncated singular value decomposition gives F and the next R (the recursion
of P2 App. D; Oseledets 2011). Where the inner edges form a chain A-B-C, as in every named family, this recovers members of the
family to rounding. In general it is neither exact nor the closest. So each factor in turn is then set to the closest one given
all others, a linear least-squares problem, until the error settles: it never rises.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor

from trainers.chain import Chain, Labelled, Step, joined, ordered
from trainers.layers import EinsumLinear
from trainers.truncation import truncate

SWEEPS = 60
"""Most rounds over all factors."""

SETTLED = 1e-4
"""Rounds end when one lowers the error by less than this share of it."""

LARGEST = 2**26
"""Elements of E, in float64, beyond which the factors are left as they were split off."""


def fill_chain(layer: EinsumLinear, weight: Tensor, chain: Chain) -> None:  # weight: (d_out, d_in)
    """Set all factors of a layer so that its matrix is close to `weight`. They come out with equal norms."""
    sizes = chain.sizes
    outer = (*chain.outputs, *chain.inputs)
    missing = (0, chain.padded_in - weight.shape[1], 0, chain.padded_out - weight.shape[0])
    shape = [sizes[edge] for edge in outer]
    target = Labelled(F.pad(weight.double(), missing).view(shape), outer)
    known = F.pad(torch.ones_like(weight, dtype=torch.bool), missing).view(shape) if any(missing) else None
    stds = {step.factor: product.std for step, product in zip(chain.steps, layer.products, strict=True)}
    parts = _split(target, chain, stds, exact=weight.dtype == torch.float64)
    _refine(parts, target, known, chain)
    norms = {name: float(part.tensor.norm()) for name, part in parts.items()}
    mean = math.prod(norms.values()) ** (1 / len(norms))
    for step in chain.steps:
        part = parts[step.factor]
        scale = mean / norms[step.factor] if mean else 1.0
        parameter = layer.get_parameter(step.factor.lower())
        parameter.copy_((ordered(part, (*step.batch, *step.new, *step.summed)) * scale).reshape(parameter.shape))


def _split(whole: Labelled, chain: Chain, stds: Mapping[str, float], exact: bool) -> dict[str, Labelled]:
    """Factors by successive truncated decompositions, in the order of their names."""
    steps = {step.factor: step for step in sorted(chain.steps, key=lambda step: step.factor)}
    parts: dict[str, Labelled] = {}
    rest, names = whole, list(steps)
    for i, name in enumerate(names[:-1]):
        own = set(_edges(steps[name]))
        later = {edge for other in names[i + 1 :] for edge in _edges(steps[other])}
        batch = tuple(e for e in rest.edges if e in own and e in later)
        rows = tuple(e for e in rest.edges if e in own and e not in later)
        columns = tuple(e for e in rest.edges if e not in own)
        inner = tuple(e for e in _edges(steps[name]) if e in later and e not in rest.edges)
        p, q, rank = (math.prod(chain.sizes[e] for e in group) for group in (rows, columns, inner))
        blocks = ordered(rest, (*batch, *rows, *columns)).reshape(-1, p, q)
        kept = min(rank, p, q)
        left, right = truncate(blocks, kept, (stds[name] * math.sqrt(p), 1.0), exact=exact)
        left = torch.cat([left, _spare(left, rank - kept, stds[name])], dim=2)
        right = F.pad(right, (0, 0, 0, rank - kept))
        parts[name] = _shaped(left, (*batch, *rows, *inner), chain)
        rest = _shaped(right, (*batch, *inner, *columns), chain)
    return parts | {names[-1]: rest}


def _spare(like: Tensor, count: int, std: float) -> Tensor:  # (n, p, kept) -> (n, p, count)
    """Directions that R has no use for, which the next factor multiplies by 0: the layer can still learn there."""
    generator = torch.Generator(like.device).manual_seed(0)
    shape = (*like.shape[:2], count)
    return std * torch.randn(shape, generator=generator, dtype=like.dtype, device=like.device)


def _refine(parts: dict[str, Labelled], target: Labelled, known: Tensor | None, chain: Chain) -> None:
    """Alternating least squares, in place. What padding adds to W takes the values that the layer has there."""
    outer = {*target.edges}
    mask = torch.ones((), dtype=torch.bool, device=target.tensor.device) if known is None else known
    now = _matrix(parts, target.edges)
    error = float(((now - target.tensor) * mask).norm())
    tolerance = 1e-12 * float(target.tensor.norm())
    for _ in range(SWEEPS):
        if error <= tolerance:
            return
        best, before = dict(parts), error
        for name in parts:
            others = [part for other, part in parts.items() if other != name]
            if _elements(others, outer | {*parts[name].edges}, chain) > LARGEST:
                continue
            wanted = Labelled(torch.where(mask, target.tensor, now), target.edges)
            parts[name] = _closest(parts[name], joined(others, outer | {*parts[name].edges}), wanted, chain)
            now = _matrix(parts, target.edges)
        error = float(((now - target.tensor) * mask).norm())
        if error >= before * (1 - SETTLED):
            if error > before:
                parts.update(best)
            return


def _closest(factor: Labelled, others: Labelled, target: Labelled, chain: Chain) -> Labelled:
    """The factor for which factor times others is closest to the target: F_b = W_b E_b^T (E_b E_b^T)^+ for each b."""
    own, there = {*factor.edges}, {*others.edges}
    batch = tuple(e for e in target.edges if e in own and e in there)
    rows = tuple(e for e in target.edges if e not in there)
    columns = tuple(e for e in target.edges if e not in own)
    inner = tuple(e for e in factor.edges if e not in target.edges)
    p, q, r = (math.prod(chain.sizes[e] for e in group) for group in (rows, columns, inner))
    w = ordered(target, (*batch, *rows, *columns)).reshape(-1, p, q)
    e = ordered(others, (*batch, *inner, *columns)).reshape(-1, r, q)
    found = w @ e.mT @ torch.linalg.pinv(e @ e.mT, hermitian=True, rtol=1e-13)
    return _shaped(found, (*batch, *rows, *inner), chain)


def _matrix(parts: Mapping[str, Labelled], edges: tuple[str, ...]) -> Tensor:
    return ordered(joined(list(parts.values()), {*edges}), edges)


def _elements(parts: list[Labelled], kept: set[str], chain: Chain) -> int:
    return math.prod(chain.sizes[e] for e in {edge for part in parts for edge in part.edges} & kept)


def _shaped(tensor: Tensor, edges: tuple[str, ...], chain: Chain) -> Labelled:
    return Labelled(tensor.reshape([chain.sizes[e] for e in edges]), edges)


def _edges(step: Step) -> tuple[str, ...]:
    return (*step.batch, *step.new, *step.summed)
