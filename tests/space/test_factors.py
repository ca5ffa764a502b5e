"""Structures of three factors and more: names, one canonical form, taxonomy, sizes."""

from __future__ import annotations

import math
import pickle
from fractions import Fraction
from itertools import permutations, product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from space import taxonomy
from space.constraints import permute
from space.divisors import divisors, nearest_sizes
from space.edges import FACTORS, edge_names, hyperedges, relabelling
from space.errors import StructureError
from space.structure import Structure

THIRD = Fraction(1, 3)


def theta(factors: int, **exponents: Fraction | int) -> tuple[Fraction, ...]:
    return tuple(Fraction(exponents.get(edge, 0)) for edge in edge_names(factors))


def thirds(*edges: str, **inner: Fraction) -> tuple[Fraction, ...]:
    return theta(3, **dict.fromkeys(edges, THIRD), **inner)


@pytest.mark.parametrize("factors", [1, 2, 3, 4, 5])
def test_the_edges_are_those_of_the_definition(factors: int) -> None:
    numbered = {f: f"F{i + 1}" for i, f in enumerate(FACTORS)}
    named = [frozenset(numbered.get(node, node) for node in edge) for edge in edge_names(factors)]
    assert len(set(named)) == len(named) and set(named) == set(hyperedges(factors))


@pytest.mark.parametrize(
    ("text", "expected", "facts"),
    [
        ("kronecker3", thirds("XA", "XB", "XC", "YA", "YB", "YC"), (Fraction(2, 3), 1, THIRD)),
        ("monarch3", thirds("XA", "XAB", "XABC", "YC", "YBC", "YABC"), (0, 1, THIRD)),
        (
            "tensor_train3:1/6",
            thirds("XA", "XB", "XC", "YA", "YB", "YC", AB=Fraction(1, 6), BC=Fraction(1, 6)),
            (Fraction(2, 3), 1, Fraction(2, 3)),
        ),
        (
            "block-tensor-train3:1/6",
            thirds("XA", "XAB", "XABC", "YC", "YBC", "YABC", AB=Fraction(1, 6), BC=Fraction(1, 6)),
            (0, 1, Fraction(2, 3)),
        ),
    ],
)
def test_names(text: str, expected: tuple[Fraction, ...], facts: tuple[Fraction, Fraction, Fraction]) -> None:
    structure = Structure.parse(text)
    assert structure.theta == expected, "the catalogue's theta is canonical"
    assert (structure.omega, structure.psi, structure.nu) == facts
    assert structure.name == text.replace("-", "_")
    assert Structure.parse(structure.key) == structure == Structure.from_theta(map(float, structure.theta))
    assert pickle.loads(pickle.dumps(structure)) == structure
    assert (structure.factors, structure.edges, structure.searchable) == (3, edge_names(3), False)


@pytest.mark.parametrize("factors", [3, 4, 5])
@pytest.mark.parametrize("rank", [1, 2])
def test_costs_of_cores_are_the_published_ones(factors: int, rank: int) -> None:
    """P2 App. C: (2 r + (c - 2) r**2) d**(1 + 1/c) MACs; so many parameters too for BTT, d**(2/c) in place of it for TT."""
    d = 2**factors
    macs = (2 * rank + (factors - 2) * rank**2) * d * 2
    btt = Structure.parse(f"block_tensor_train{factors}:rank={rank}").realize(d, d)
    assert (btt.macs, btt.params) == (macs, macs)
    train = Structure.parse(f"tensor_train{factors}:rank={rank}").realize(d, d)
    assert (train.macs, train.params) == (macs, macs * 4 // (2 * d))


def relabelled(structure: Structure) -> list[Structure]:
    forms = [relabelling(order, structure.factors) for order in permutations(range(structure.factors))]
    return [Structure(permute(structure.theta, form)) for form in forms]


@pytest.mark.parametrize(
    "text",
    ["kronecker3", "monarch3", "tensor_train3:1/6", "block_tensor_train3:1/9", "monarch4", "tensor_train4:1/8", "kronecker4"],
)
def test_relabelled_factors_are_the_same_structure(text: str) -> None:
    structure = Structure.parse(text)
    assert set(relabelled(structure)) == {structure}
    assert structure.name == text
    assert structure.realize(64, 64).sequence == FACTORS[: structure.factors], "A, B, C, ... is a cheapest sequence"


@pytest.mark.parametrize("text", ["monarch3", "tensor_train3:1/6", "block_tensor_train3:1/6", "monarch4"])
def test_transposition(text: str) -> None:
    structure = Structure.parse(text)
    other = structure.transposed
    assert other.transposed == structure
    assert (other.omega, other.psi, other.nu) == (structure.omega, structure.psi, structure.nu)
    assert other == structure, "these are their own transposes, with the factors in reverse"


def test_a_structure_that_is_not_its_own_transpose() -> None:
    uneven = Structure(theta(3, XA=1, YA=THIRD, YB=THIRD, YC=THIRD, AB=Fraction(1, 4), AC=Fraction(1, 4)))
    other = uneven.transposed
    assert other != uneven and other.transposed == uneven
    assert (other.omega, other.psi, other.nu) == (uneven.omega, uneven.psi, uneven.nu)


@pytest.mark.parametrize("text", ["btt2", "tt4", "btt15", "l1", "g2", "monarch"])
def test_the_general_taxonomy_holds_for_two_factors(text: str) -> None:
    """The closed forms of two factors against the general rules, by way of a third factor that is never used."""
    structure = Structure.parse(text)
    at = dict(zip(structure.edges, structure.theta, strict=True))
    three = theta(3, **at)
    assert (taxonomy.omega(three), taxonomy.psi(three), taxonomy.nu(three)) == (structure.omega, structure.psi, structure.nu)


def test_taxonomy_is_the_growth_of_the_exact_counts() -> None:
    for text in ("block_tensor_train3:1/6", "tensor_train3:1/9", "monarch4", "kronecker5"):
        structure = Structure.parse(text)
        small, large = (structure.realize(2**bits, 2**bits) for bits in (90 // 5, 90 // 5 + 10))
        assert structure.psi == 1 and small.rank == small.d_in
        growth = math.log2(large.macs / small.macs) / 10
        assert growth == pytest.approx(float(structure.nu) + 1, abs=0.12), text
        shared = math.log2((large.macs / large.params) / (small.macs / small.params)) / 10
        assert shared == pytest.approx(float(structure.omega), abs=0.12), text


def test_a_factor_without_an_index_is_left_out() -> None:
    monarch = Structure.parse("monarch")
    at = dict(zip(monarch.edges, monarch.theta, strict=True))
    assert Structure(theta(3, **at)) == monarch
    moved = {edge.replace("A", "C"): value for edge, value in at.items()}
    assert Structure(theta(3, **{"".join(sorted(e, key=lambda n: (n not in "XY", n))): v for e, v in moved.items()})) == monarch
    assert Structure(theta(3, XC=1, YC=1)) == Structure.parse("dense") == Structure.parse("(1|1)")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("(" + "|".join(["0"] * 18) + ")", "exponents must sum to exactly 1"),
        ("(" + "|".join(["1/2"] + ["0"] * 6 + ["1"] + ["0"] * 10) + ")", "XA = 1/2 = 1/2; the input exponents"),
        ("(" + "|".join(["0"] * 6 + ["1"] + ["0"] * 6 + ["1"] + ["0"] * 4) + ")", "nu = 1 must be below 1"),
        ("(" + "|".join(["1/2"] * 17) + ")", "17 entries given; theta has 7"),
        ("(" + "|".join(["2"] + ["0"] * 17) + ")", "XA is 2; every entry"),
        ("tensor_train3:1/3", "nu = 1 must be below 1"),
        ("tensor_train3", "needs the exponent of its rank, such as tensor_train3:1/4"),
        ("kronecker3:1/4", "takes no exponent"),
        ("tensor_train7:1/9", "is not a structure"),
        ("btt3:1/4", "block_tensor_train3:1/4"),
        ("monarch3:blocks=4", "takes no 'blocks'"),
        ("monarc3", "did you mean 'monarch3'"),
    ],
)
def test_wrong_text(text: str, reason: str) -> None:
    with pytest.raises(StructureError) as caught:
        Structure.parse(text)
    assert reason in str(caught.value)
    assert repr(text) in str(caught.value)


def test_a_factor_that_another_can_absorb_is_refused() -> None:
    half = Fraction(1, 2)
    with pytest.raises(StructureError, match="factor C shares all its indices with"):
        Structure(theta(3, XA=half, XABC=half, YB=half, YABC=half))


@given(st.integers(1, 3000), st.lists(st.integers(0, 6), min_size=4, max_size=7).filter(any))
def test_sizes_are_exact_and_near(width: int, shares: list[int]) -> None:
    exponents = tuple(s / sum(shares) for s in shares)
    sizes = nearest_sizes(width, exponents)
    padded = math.prod(sizes)
    assert padded >= width
    for size, exponent in zip(sizes, exponents, strict=True):
        assert exponent > 0 or size == 1
        assert abs(math.log(size) - exponent * math.log(padded)) <= math.log(2)


@given(st.integers(1, 40), st.lists(st.integers(0, 6), min_size=4, max_size=5).filter(any))
def test_sizes_are_the_nearest_of_all(width: int, shares: list[int]) -> None:
    exponents = [s / sum(shares) for s in shares]
    sizes = nearest_sizes(width, tuple(exponents))
    padded = math.prod(sizes)

    def distance(row: tuple[int, ...]) -> float:
        return sum((math.log(n) - t * math.log(padded)) ** 2 for n, t in zip(row, exponents, strict=True))

    rows = product(*(divisors(padded) if t else (1,) for t in exponents))
    assert distance(sizes) == pytest.approx(min(distance(row) for row in rows if math.prod(row) == padded))


def test_inner_edges_are_bounded_by_what_is_useful() -> None:
    rng = np.random.default_rng(3)
    for _ in range(20):
        inner = {edge: Fraction(int(rng.integers(0, 4)), 16) for edge in ("AB", "AC", "BC", "ABC")}
        try:
            structure = Structure(thirds("XA", "XB", "XC", "YA", "YB", "YC", **inner))
        except StructureError:
            continue
        sizes = structure.realize(8, 8).sizes
        assert sizes["AB"] <= sizes["XA"] * sizes["YA"] * sizes["AC"] * sizes["ABC"]
        assert sizes["ABC"] <= sizes["XA"] * sizes["YA"] * sizes["XB"] * sizes["YB"] * sizes["AC"] * sizes["BC"]
