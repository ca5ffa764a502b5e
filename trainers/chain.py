"""A layer of three factors or more as a sequence of batched matrix products.

The factors join the input one after the other, in the cheapest sequence of the realization. Each edge of size above 1 plays one
role when a factor joins:

    batch    the activations and the factor hold it, and so does a factor to come, or the output
    summed   the activations and the factor hold it, and nothing after
    new      only the factor holds it
    rest     only the activations hold it: it joins their columns, the tokens

    factor (batch, new, summed) @ activations (batch, summed, rest tokens) -> (batch, new, rest tokens)

A factor is stored as it enters its product: (batch, fan_out, fan_in), each the product of the sizes of its edges. Activations
are feature-major, (features, tokens), so that what must be reordered moves in whole rows of tokens.

Features are ordered slowest first as with two factors: of the input XABC, XBC, XAC, XAB, XC, XB, XA; of the output YABC, YAB,
YAC, YBC, YA, YB, YC.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple, cast

import torch
from torch import Tensor

from space.edges import edge_names
from space.realization import Realization
from trainers.products import FactorName, Product

TOKENS = "tokens"
"""The edge of the activations that no factor holds."""


class Step(NamedTuple):
    """A factor that joins: its name in the structure, and its edges by the role they play."""

    factor: str
    batch: tuple[str, ...]
    new: tuple[str, ...]
    summed: tuple[str, ...]


class Labelled(NamedTuple):
    """A tensor with one dimension for each of its edges."""

    tensor: Tensor
    edges: tuple[str, ...]


def chain_products(realization: Realization) -> tuple[Product, ...]:
    """The batched products of a layer in the order in which they are executed, one for each factor.

    >>> from space.structure import Structure
    >>> [(p.factor, p.fan_in, p.fan_out, p.shape) for p in chain_products(Structure.parse("monarch3").realize(512, 512))]
    [('a', 8, 8, (64, 8, 8)), ('b', 8, 8, (64, 8, 8)), ('c', 8, 8, (64, 8, 8))]
    """
    return tuple(_product(step, realization) for step in _steps(realization.sequence, realization.vector))


def chain_contract(
    x: Tensor,  # (padded_in, tokens)
    factors: Sequence[Tensor],  # each of its product's shape, in the order of `chain_products`
    realization: Realization,
) -> Tensor:  # (padded_out, tokens)
    """W x by the products of the layer, each at most one copy of its activations away from the one before."""
    inputs, outputs = _sides(realization)
    dims = [realization.sizes[edge] for edge in inputs]
    state = Labelled(x.reshape(*dims, x.shape[1]), (*inputs, TOKENS))
    steps = _steps(realization.sequence, realization.vector)
    for step, factor in zip(steps, factors, strict=True):
        state = _join(_labelled(factor, step, realization), state, {*step.summed})
    return _ordered(state, (*outputs, TOKENS)).reshape(realization.padded_out, x.shape[1])


def chain_materialise(
    factors: Sequence[Tensor],  # each of its product's shape, in the order of `chain_products`
    realization: Realization,
) -> Tensor:  # (padded_out, padded_in)
    """The layer's matrix: the factors joined to one another in the order of their products, without an input."""
    inputs, outputs = _sides(realization)
    steps = _steps(realization.sequence, realization.vector)
    parts = [_labelled(factor, step, realization) for step, factor in zip(steps, factors, strict=True)]
    whole = parts[0]
    for i, part in enumerate(parts[1:], start=2):
        needed = {*inputs, *outputs, *(edge for later in parts[i:] for edge in later.edges)}
        whole = _join(part, whole, {*part.edges, *whole.edges} - needed)
    return _ordered(whole, (*outputs, *inputs)).reshape(realization.padded_out, realization.padded_in)


def _join(left: Labelled, right: Labelled, over: set[str]) -> Labelled:
    """The batched product of two tensors: common edges are summed where they are in `over`, and are its batch otherwise."""
    batch = tuple(e for e in left.edges if e in right.edges and e not in over)
    summed = tuple(e for e in left.edges if e in right.edges and e in over)
    rows = tuple(e for e in left.edges if e not in right.edges)
    columns = tuple(e for e in right.edges if e not in left.edges)
    product = torch.bmm(_matrices(left, batch, rows, summed), _matrices(right, batch, summed, columns))
    shape = {**_dims(left), **_dims(right)}
    edges = (*batch, *rows, *columns)
    return Labelled(product.view([shape[e] for e in edges]), edges)


def _matrices(part: Labelled, batch: tuple[str, ...], rows: tuple[str, ...], columns: tuple[str, ...]) -> Tensor:
    """The tensor as (batch, rows, columns), copied where its layout asks for it."""
    shape = _dims(part)
    groups = [math.prod(shape[e] for e in group) for group in (batch, rows, columns)]
    return _ordered(part, (*batch, *rows, *columns)).reshape(groups)


def _ordered(part: Labelled, edges: tuple[str, ...]) -> Tensor:
    return part.tensor.permute([part.edges.index(e) for e in edges])


def _dims(part: Labelled) -> dict[str, int]:
    return dict(zip(part.edges, part.tensor.shape, strict=True))


def _labelled(factor: Tensor, step: Step, realization: Realization) -> Labelled:
    edges = (*step.batch, *step.new, *step.summed)
    return Labelled(factor.reshape([realization.sizes[e] for e in edges]), edges)


def _product(step: Step, realization: Realization) -> Product:
    batch, fan_out, fan_in = (math.prod(realization.sizes[e] for e in group) for group in step[1:])
    return Product(cast(FactorName, step.factor.lower()), fan_in, fan_out, (batch, fan_out, fan_in))


@lru_cache(maxsize=4096)
def _steps(sequence: str, vector: tuple[int, ...]) -> tuple[Step, ...]:
    """Each factor of the sequence with its edges by role, edges of size 1 left out."""
    edges = [edge for edge, size in zip(edge_names(len(sequence)), vector, strict=True) if size > 1]
    steps = []
    for i, factor in enumerate(sequence):
        before, after = {"X", *sequence[:i]}, {"Y", *sequence[i + 1 :]}
        own = [edge for edge in edges if factor in edge]
        shared = [edge for edge in own if before & set(edge)]
        batch = tuple(edge for edge in shared if after & set(edge))
        summed = tuple(edge for edge in shared if not after & set(edge))
        steps.append(Step(factor, batch, tuple(edge for edge in own if edge not in shared), summed))
    return tuple(steps)


def _sides(realization: Realization) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The edges of the input and of the output, slowest first, those of size 1 left out."""
    names = edge_names(realization.factors)
    inputs = (edge for edge in reversed(names) if edge[0] == "X")
    outputs = sorted((edge for edge in names if edge[0] == "Y"), key=len, reverse=True)
    sizes = realization.sizes
    return tuple(e for e in inputs if sizes[e] > 1), tuple(e for e in outputs if sizes[e] > 1)
