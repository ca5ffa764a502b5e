"""What it costs to contract an Einsum of any number of factors, and the rank it can reach, from the sizes of its edges.

    sizes        size of each edge, in the order of `space.edges.edge_names(k)`
    step         a factor joins the partial product, which starts as the input X: it costs the product of the sizes of all edges
                 that touch the factor or are alive
    alive        an edge of the partial product that also reaches a factor still to come, or the output
    sequence     one factor after the other, "ACB"; the ledger counts the cheapest
    tree         any two tensors at a time; factors may meet before they meet X, which pays where many inputs share the work
    cut          the factors that stand on X's side; W factorises through the edges that cross it

MACs are multiply-accumulates.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cache, lru_cache
from itertools import permutations
from typing import TypeVar

from space.edges import FACTORS, LENGTHS, edge_names

Order = tuple[int, ...]
"""Numbers of the factors, 0 for A, in the order in which they are contracted."""

T = TypeVar("T")


@cache
def orders(factors: int) -> tuple[Order, ...]:
    """All sequences of the factors, A first where nothing else decides."""
    return tuple(permutations(range(factors)))


def steps(order: Order) -> list[tuple[int, int]]:
    """The steps of a sequence, each as (bit mask of the factors that are in already, the factor that joins)."""
    return [(sum(1 << f for f in order[:i]), factor) for i, factor in enumerate(order)]


def step_values(factors: int, combine: Callable[[Iterable[int]], T]) -> dict[tuple[int, int], T]:
    """What `combine` makes of the positions of the edges that a step touches, for each step there can be."""
    return {step: combine(touched) for step, touched in _touched(factors).items()}


@lru_cache(maxsize=4096)
def sequence_macs(sizes: tuple[int, ...]) -> Mapping[Order, int]:
    """MACs per input vector of every sequence.

    >>> sequence_macs((16, 1, 16, 1, 16, 16, 1))  # Monarch, 256 to 256: A first, then B first
    {(0, 1): 8192, (1, 0): 131072}
    """
    factors = LENGTHS[len(sizes)]
    macs = step_values(factors, lambda touched: math.prod(sizes[i] for i in touched))
    return {order: sum(macs[step] for step in steps(order)) for order in orders(factors)}


def parameters(sizes: tuple[int, ...]) -> tuple[int, ...]:
    """Number of parameters of each factor.

    >>> parameters((16, 1, 16, 1, 16, 16, 1))
    (4096, 4096)
    """
    factors = LENGTHS[len(sizes)]
    return tuple(math.prod(sizes[i] for i in touching) for touching in touching_factor(factors))


@cache
def touching_factor(factors: int) -> tuple[tuple[int, ...], ...]:
    """For each factor, the positions of its edges."""
    names = edge_names(factors)
    return tuple(tuple(i for i, edge in enumerate(names) if f in edge) for f in FACTORS[:factors])


def rank_bound(sizes: tuple[int, ...]) -> int:
    """Smallest cut between X and Y: no matrix of the structure has a larger rank. With two factors almost all reach it.

    >>> rank_bound((64, 1, 1, 1, 64, 1, 8))  # low rank
    8
    """
    return min(math.prod(sizes[i] for i in crossing) for crossing in cuts(LENGTHS[len(sizes)]))


@cache
def cuts(factors: int) -> tuple[tuple[int, ...], ...]:
    """For each set of factors on X's side, the positions of the edges that cross to Y's side."""
    names = edge_names(factors)
    sides = ({"X", *(f for j, f in enumerate(FACTORS[:factors]) if mask >> j & 1)} for mask in range(1 << factors))
    return tuple(tuple(i for i, edge in enumerate(names) if 0 < len(side & set(edge)) < len(edge)) for side in sides)


def useful_inner(sizes: Mapping[str, int], edge: str) -> int:
    """The size of an inner edge above which it adds no new matrices.

    With an edge as large as all that its other factors hold and one factor F does not, F alone can be any tensor of all their
    indices. For two factors it is min(alpha delta, beta epsilon).
    """
    others = [(name, size) for name, size in sizes.items() if name != edge and size > 1]
    return min(math.prod(n for name, n in others if lone not in name and set(name) & set(edge)) for lone in edge)


@dataclass(frozen=True, slots=True)
class Tree:
    """A way to contract X and the factors two at a time. `str` writes it as nested brackets, as in `((X A) (B C))`."""

    macs: int
    text: str

    def __str__(self) -> str:
        return self.text


@lru_cache(maxsize=1024)
def best_tree(sizes: tuple[int, ...], batch: int) -> Tree:
    """The cheapest tree for `batch` input vectors, with its MACs for all of them together.

    Where factors meet before X, their product serves the whole batch; where all of them do, W is built once.

    >>> str(best_tree((16, 1, 16, 1, 16, 16, 1), batch=100))
    '((X A) B)'
    >>> best_tree((4, 4, 1, 4, 4, 1, 8), batch=1000)  # W once, then a dense product
    Tree(macs=258048, text='(X (A B))')
    """
    factors = LENGTHS[len(sizes)]
    nodes = "X" + FACTORS[:factors]
    legs = _legs(factors)
    best = {1 << i: (0, node) for i, node in enumerate(nodes)}
    for subset in range(1, 1 << len(nodes)):
        if subset in best:
            continue
        found = []
        for left in _halves(subset):
            right = subset ^ left
            macs = math.prod(sizes[i] for i in legs[left] | legs[right]) * (batch if subset & 1 else 1)
            found.append((best[left][0] + best[right][0] + macs, f"({best[left][1]} {best[right][1]})"))
        best[subset] = min(found)
    return Tree(*best[(1 << len(nodes)) - 1])


def _halves(subset: int) -> Iterable[int]:
    """The proper parts of a set that hold its lowest member."""
    lowest = subset & -subset
    part = (subset - 1) & subset
    while part:
        if part & lowest:
            yield part
        part = (part - 1) & subset


@cache
def _legs(factors: int) -> tuple[frozenset[int], ...]:
    """For each set of nodes among X, A, B, ..., the positions of the edges that leave it."""
    names = edge_names(factors)
    nodes = "X" + FACTORS[:factors]
    sets = ({n for j, n in enumerate(nodes) if mask >> j & 1} for mask in range(1 << len(nodes)))
    return tuple(frozenset(i for i, edge in enumerate(names) if 0 < len(s & set(edge)) < len(edge)) for s in sets)


@cache
def _touched(factors: int) -> dict[tuple[int, int], tuple[int, ...]]:
    legs, touching = _legs(factors), touching_factor(factors)
    return {
        (done, factor): tuple(sorted({*legs[1 | done << 1], *touching[factor]}))
        for done in range(1 << factors)
        for factor in range(factors)
        if not done >> factor & 1
    }
