"""Costs and ranks of structures of any number of factors, against brute force over real tensors."""

from __future__ import annotations

import math
import string
from functools import cache

import numpy as np
import pytest

from space import catalogue
from space.constraints import permute
from space.contraction import orders, parameters, rank_bound, sequence_macs
from space.edges import FACTORS, LENGTHS, edge_names, relabelling
from space.errors import StructureError
from space.realization import Realization
from space.structure import Structure

NAMES = ("kronecker3", "monarch3", "tensor_train3:1/6", "block_tensor_train3:1/6", "block_tensor_train3:rank=2", "monarch4")


def random_structure(rng: np.random.Generator, factors: int, present: int = 3) -> Structure:
    """A random feasible structure with exactly so many factors."""
    names = edge_names(factors)
    while True:
        counts = np.zeros(len(names), dtype=int)
        for node in "XY":
            side = [i for i, edge in enumerate(names) if edge[0] == node]
            counts[rng.choice(side, size=present, replace=False)] += rng.multinomial(12, [1 / present] * present)
        inner = [i for i, edge in enumerate(names) if edge[0] not in "XY"]
        counts[inner] = rng.integers(0, 4, size=len(inner)) * (rng.random(len(inner)) < 0.4)
        try:
            found = Structure.from_theta([c / 12 for c in counts])
        except StructureError:
            continue
        if found.factors == factors:
            return found


@cache
def cases() -> tuple[Realization, ...]:
    """Small layers of three and of four factors: rectangles, padded widths, the named ones among them."""
    rng = np.random.default_rng(5)
    drawn = [random_structure(rng, 3) for _ in range(60)] + [random_structure(rng, 4) for _ in range(12)]
    named = [Structure.parse(name) for name in NAMES]
    return tuple(s.realize(*(int(n) for n in rng.integers(5, 61, size=2))) for s in drawn + named)


def tensors(real: Realization, batch: int) -> list[frozenset[str]]:
    """The index sets of X and of the factors; X also has the index of the batch."""
    names = edge_names(real.factors)
    nodes = ["X", *FACTORS[: real.factors]]
    return [frozenset({e for e in names if node in e} | ({"batch"} if node == "X" else set())) for node in nodes]


def cheapest(parts: list[frozenset[str]], sizes: dict[str, int], kept: frozenset[str], only_first: bool) -> int:
    """MACs of the best way to contract index sets pair by pair, by trying all; `only_first` always takes the first (X)."""
    if len(parts) == 1:
        return 0
    best = []
    for i in range(1 if only_first else len(parts)):
        for j in range(i + 1, len(parts)):
            others = [p for n, p in enumerate(parts) if n not in (i, j)]
            both = parts[i] | parts[j]
            result = both & kept.union(*others)
            cost = math.prod(sizes[e] for e in both)
            best.append(cost + cheapest([result, *others], sizes, kept, only_first))
    return min(best)


def matrix(real: Realization, rng: np.random.Generator) -> tuple[np.ndarray, int]:
    """A random matrix of the structure from its definition, and the number of random numbers it took."""
    names = edge_names(real.factors)
    letter = dict(zip(names, string.ascii_letters, strict=False))
    own = [[e for e in names if f in e] for f in FACTORS[: real.factors]]
    factors = [rng.standard_normal([real.sizes[e] for e in edges]) for edges in own]
    terms = ",".join("".join(letter[e] for e in edges) for edges in own)
    sides = ["".join(letter[e] for e in names if e[0] == node) for node in "YX"]
    w = np.einsum(f"{terms}->{''.join(sides)}", *factors, optimize=True)
    return w.reshape(real.padded_out, real.padded_in), sum(f.size for f in factors)


@pytest.mark.parametrize("batch", [1, 30, 3000])
def test_the_best_tree_is_the_best_of_all_trees(batch: int) -> None:
    for real in cases():
        sizes = {**real.sizes, "batch": batch}
        kept = frozenset(e for e in sizes if e[0] == "Y") | {"batch"}
        assert real.best_tree(batch).macs == cheapest(tensors(real, batch), sizes, kept, only_first=False), real
        assert real.best_tree(batch).macs <= batch * real.macs


def test_the_counted_cost_is_that_of_the_best_sequence() -> None:
    for real in cases():
        sizes = {**real.sizes, "batch": 1}
        kept = frozenset(e for e in sizes if e[0] == "Y") | {"batch"}
        assert real.macs == cheapest(tensors(real, 1), sizes, kept, only_first=True), real
        order = tuple(FACTORS.index(f) for f in real.sequence)
        assert sequence_macs(real.vector)[order] == real.macs


def test_parameters_and_rank_of_real_matrices() -> None:
    rng = np.random.default_rng(1)
    reached = 0
    for real in cases():
        w, count = matrix(real, rng)
        rank = np.linalg.matrix_rank(w[: real.d_out, : real.d_in])
        assert count == real.params == sum(parameters(real.vector)), real
        assert rank <= real.rank, real
        reached += rank == real.rank
    assert reached >= 0.9 * len(cases()), "the bound is the rank of almost all of these structures"


def test_random_structures_have_one_form_and_one_key() -> None:
    for structure in {real.structure for real in cases() if real.factors == 3}:
        sizes = dict(structure.fixed)
        for order in orders(3):
            form = relabelling(order, 3)
            named = [(edge, sizes.get(structure.edges[i])) for edge, i in zip(structure.edges, form, strict=True)]
            fixed = tuple((edge, size) for edge, size in named if size is not None)
            assert Structure(permute(structure.theta, form), fixed) == structure
        assert Structure.parse(structure.key) == Structure.parse(structure.name) == structure
        other = structure.transposed
        assert (other.omega, other.psi, other.nu) == (structure.omega, structure.psi, structure.nu)
        assert other.transposed == structure


def test_two_factors_are_a_case_of_any_number() -> None:
    for name in catalogue.PAPER:
        real = Structure.parse(name).realize(96, 160)
        s = real.sizes
        a_first = s["AB"] * (real.padded_in * s["YA"] * s["YAB"] + real.padded_out * s["XB"] * s["XAB"])
        b_first = s["AB"] * (real.padded_in * s["YB"] * s["YAB"] + real.padded_out * s["XA"] * s["XAB"])
        assert (real.macs_a_first, real.macs_b_first) == (a_first, b_first)
        shared = s["XAB"] * s["YAB"] * s["AB"]
        assert real.params == shared * (s["XA"] * s["YA"] + s["XB"] * s["YB"])
        assert rank_bound(real.vector) == min(
            real.padded_in, real.padded_out, s["XB"] * s["YA"] * shared, s["XA"] * s["YB"] * shared
        )


def test_a_matrix_is_built_once_where_the_batch_pays_for_it() -> None:
    real = Structure.parse("(1/2|1/2|0|1/2|1/2|0|11/24)").realize(64, 64)
    assert real.best_tree(1).text == "((X A) B)"
    tree = real.best_tree(10_000)
    assert (tree.text, tree.macs) == ("(X (A B))", 7 * 64 * 64 + 10_000 * 64 * 64)


def test_lengths_of_theta() -> None:
    assert list(LENGTHS.items()) == [(2, 1), (7, 2), (18, 3), (41, 4), (88, 5), (183, 6)]
