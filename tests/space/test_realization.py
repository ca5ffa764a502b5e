"""Integer realisations against brute force: a real tensor contraction, counted and factored."""

from __future__ import annotations

import math
import pickle
from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from space.edges import EDGES
from space.errors import StructureError
from space.realization import Realization
from space.sampling import sample_structure
from space.structure import Structure

seeds = st.integers(0, 2**32 - 1)


def random_case(seed: int, largest: int) -> Realization:
    rng = np.random.default_rng(seed)
    d_in, d_out = (int(n) for n in rng.integers(1, largest, size=2))
    return sample_structure(rng).realize(d_in, d_out)


def divisors(n: int) -> list[int]:
    return [i for i in range(1, n + 1) if n % i == 0]


def contraction_macs(real: Realization, first: str) -> int:
    """MACs by the definition: each pairwise contraction costs the product of the sizes of every index it touches."""
    nodes = {node: {e for e in EDGES if node in e} for node in "XABY"}
    second = "B" if first == "A" else "A"
    touched = nodes["X"] | nodes[first]
    alive = touched & (nodes[second] | nodes["Y"])
    return math.prod(real.sizes[e] for e in touched) + math.prod(real.sizes[e] for e in alive | nodes[second])


def test_a_thousand_structures_agree_with_brute_force() -> None:
    rng = np.random.default_rng(7)
    for seed in range(1000):
        real = random_case(seed, 48)
        s = real.sizes
        a = rng.standard_normal([s[e] for e in ("XA", "XAB", "YA", "YAB", "AB")])
        b = rng.standard_normal([s[e] for e in ("XB", "XAB", "YB", "YAB", "AB")])
        w = np.einsum("acdfr,bcefr->defabc", a, b).reshape(real.padded_out, real.padded_in)[: real.d_out, : real.d_in]
        assert np.linalg.matrix_rank(w) == real.rank, real
        assert a.size + b.size == real.params, real
        assert contraction_macs(real, "A") == real.macs_a_first, real
        assert contraction_macs(real, "B") == real.macs_b_first, real


@given(seeds)
def test_widths_are_never_truncated_and_products_are_exact(seed: int) -> None:
    real = random_case(seed, 5000)
    s = real.sizes
    assert s["XA"] * s["XB"] * s["XAB"] == real.padded_in >= real.d_in
    assert s["YA"] * s["YB"] * s["YAB"] == real.padded_out >= real.d_out
    for edge, theta in zip(EDGES, real.structure.theta, strict=True):
        assert theta > 0 or s[edge] == 1, "an absent edge has size 1"


@given(seeds)
def test_sizes_are_the_nearest_divisors(seed: int) -> None:
    real = random_case(seed, 60)
    d, theta = real.padded_in, [float(t) for t in real.structure.theta[:3]]

    def distance(triple: tuple[int, int, int]) -> float:
        return sum((math.log(n) - t * math.log(d)) ** 2 for n, t in zip(triple, theta, strict=True))

    triples = [t for t in product(divisors(d), repeat=3) if math.prod(t) == d]
    allowed = [t for t in triples if all(size == 1 for size, exponent in zip(t, theta, strict=True) if exponent == 0)]
    chosen = (real.sizes["XA"], real.sizes["XB"], real.sizes["XAB"])
    assert distance(chosen) == pytest.approx(min(map(distance, allowed)))


@given(seeds, st.sampled_from([64, 256, 1024, 4096]))
def test_powers_of_two_are_never_padded(seed: int, width: int) -> None:
    real = sample_structure(np.random.default_rng(seed)).realize(width, 4 * width)
    assert (real.padded_in, real.padded_out) == (width, 4 * width)


def test_published_sizes() -> None:
    real = Structure.parse("monarch").realize(1024, 4096)
    assert dict(real.sizes) == {"XA": 32, "XB": 1, "XAB": 32, "YA": 1, "YB": 64, "YAB": 64, "AB": 1}
    assert real.macs == 1024 * 64 + 4096 * 32
    assert (real.rank, real.order) == (1024, "A")
    dense = Structure.parse("dense").realize(12, 7)
    assert (dense.macs, dense.params, dense.rank) == (84, 84, 7)


def test_a_prime_width_is_padded_and_the_padding_is_paid_for() -> None:
    real = Structure.parse("monarch").realize(257, 257)
    assert 257 < real.padded_in < 270
    assert real.macs == real.padded_in * real.sizes["YAB"] + real.padded_out * real.sizes["XAB"]
    assert Structure.parse("low_rank:1/2").realize(257, 257).padded_in == 257, "one edge takes any width"


def test_rho_is_bounded_by_what_is_useful() -> None:
    real = Structure.parse("(1/2|1/2|0|1/2|1/2|0|11/24)").realize(2, 2)
    assert real.sizes["AB"] <= min(real.sizes["XA"] * real.sizes["YA"], real.sizes["XB"] * real.sizes["YB"])


def test_realised_taxonomy_approaches_the_nominal_one() -> None:
    structure = Structure.parse("btt2")
    real = structure.realize(2**18, 2**18)
    assert real.psi == 1
    assert real.nu == pytest.approx(float(structure.nu), abs=0.06)
    assert real.omega == pytest.approx(float(structure.omega), abs=0.06)


@pytest.mark.parametrize("widths", [(0, 4), (4, -1), (2.0, 4), (True, 4), ("4", 4), (10**20, 4)])
def test_a_width_is_a_positive_integer(widths: tuple[int, int]) -> None:
    with pytest.raises(StructureError, match="a width is a positive integer"):
        Structure.parse("monarch").realize(*widths)


def test_pickles() -> None:
    real = Structure.parse("btt:1/4").realize(64, 96)
    assert pickle.loads(pickle.dumps(real)) == real
