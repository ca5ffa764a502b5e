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
from dataclasses import dataclass, field
from typing import NamedTuple, Self, cast

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


@dataclass(frozen=True, slots=True)
class Chain:
    """All that executing a layer of many factors takes from its realization, worked out once.

    Attributes:
        key: of the structure, and the widths: two chains of the same are equal.
        steps: one for each factor, in the order of execution.
        sizes: of the edges.
        inputs: edges of the input above size 1, slowest first.
        outputs: those of the output.
        padded_in: width of the padded input.
        padded_out: width of the padded output.
        macs: MACs per input vector.
        moved: features that are read and written by all steps, per input vector.
    """

    key: tuple[str, int, int]
    steps: tuple[Step, ...] = field(compare=False)
    sizes: dict[str, int] = field(compare=False)
    inputs: tuple[str, ...] = field(compare=False)
    outputs: tuple[str, ...] = field(compare=False)
    padded_in: int = field(compare=False)
    padded_out: int = field(compare=False)
    macs: int = field(compare=False)
    moved: int = field(compare=False)

    @classmethod
    def of(cls, realization: Realization) -> Self:
        """The chain of a realization, in its cheapest sequence."""
        r = realization
        key, steps, (inputs, outputs) = (r.structure.key, r.d_in, r.d_out), _steps(r.sequence, r.vector), _sides(r)
        alive, moved = {*inputs}, 0
        for step in steps:
            after = alive - {*step.summed} | {*step.new}
            moved += sum(math.prod(r.sizes[edge] for edge in edges) for edges in (alive, after))
            alive = after
        return cls(key, steps, dict(r.sizes), inputs, outputs, r.padded_in, r.padded_out, r.macs, moved)

    @property
    def shapes(self) -> tuple[tuple[int, ...], ...]:
        """Shapes of the factors, in the order of execution."""
        return tuple(self.fans(step) for step in self.steps)

    def fans(self, step: Step) -> tuple[int, int, int]:
        """Batch, fan-out and fan-in of a step's product: the shape of its factor."""
        batch, fan_out, fan_in = (math.prod(self.sizes[edge] for edge in group) for group in step[1:])
        return batch, fan_out, fan_in


def chain_products(realization: Realization) -> tuple[Product, ...]:
    """The batched products of a layer in the order in which they are executed, one for each factor.

    >>> from space.structure import Structure
    >>> [(p.factor, p.fan_in, p.fan_out, p.shape) for p in chain_products(Structure.parse("monarch3").realize(512, 512))]
    [('a', 8, 8, (64, 8, 8)), ('b', 8, 8, (64, 8, 8)), ('c', 8, 8, (64, 8, 8))]
    """
    chain = Chain.of(realization)
    return tuple(
        Product(cast(FactorName, step.factor.lower()), shape[2], shape[1], shape)
        for step, shape in zip(chain.steps, chain.shapes, strict=True)
    )


def chain_contract(
    x: Tensor,  # (padded_in, tokens)
    factors: Sequence[Tensor],  # each of its product's shape, in the order of `chain_products`
    chain: Chain,
) -> Tensor:  # (padded_out, tokens)
    """W x by the products of the layer, each at most one copy of its activations away from the one before."""
    dims = [chain.sizes[edge] for edge in chain.inputs]
    state = Labelled(x.reshape(*dims, x.shape[1]), (*chain.inputs, TOKENS))
    for step, factor in zip(chain.steps, factors, strict=True):
        state = _join(labelled(factor, step, chain), state, {*step.summed})
    return ordered(state, (*chain.outputs, TOKENS)).reshape(chain.padded_out, x.shape[1])


def chain_materialise(
    factors: Sequence[Tensor],  # each of its product's shape, in the order of `chain_products`
    chain: Chain,
) -> Tensor:  # (padded_out, padded_in)
    """The layer's matrix: the factors joined to one another in the order of their products, without an input."""
    parts = [labelled(factor, step, chain) for step, factor in zip(chain.steps, factors, strict=True)]
    whole = joined(parts, {*chain.inputs, *chain.outputs})
    return ordered(whole, (*chain.outputs, *chain.inputs)).reshape(chain.padded_out, chain.padded_in)


def joined(parts: Sequence[Labelled], kept: set[str]) -> Labelled:
    """The product of several tensors over all edges but those of `kept`, from the first to the last."""
    whole = parts[0]
    for i, part in enumerate(parts[1:], start=2):
        needed = {*kept, *(edge for later in parts[i:] for edge in later.edges)}
        whole = _join(part, whole, {*part.edges, *whole.edges} - needed)
    return whole


def ordered(part: Labelled, edges: tuple[str, ...]) -> Tensor:
    """The tensor with its dimensions in the order of `edges`."""
    return part.tensor.permute([part.edges.index(e) for e in edges])


def labelled(factor: Tensor, step: Step, chain: Chain) -> Labelled:
    """A stored factor with one dimension for each of its edges."""
    edges = (*step.batch, *step.new, *step.summed)
    return Labelled(factor.reshape([chain.sizes[e] for e in edges]), edges)


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
    groups = [math.prod([shape[e] for e in group]) for group in (batch, rows, columns)]  # lists: a compiler reads them
    return ordered(part, (*batch, *rows, *columns)).reshape(groups)


def _dims(part: Labelled) -> dict[str, int]:
    return dict(zip(part.edges, part.tensor.shape, strict=True))


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
