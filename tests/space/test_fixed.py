"""Fixed sizes: a number of blocks or a rank that does not grow, and axes that match attention heads."""

from __future__ import annotations

import math
import pickle
from fractions import Fraction

import numpy as np
import pytest

from space.errors import StructureError
from space.structure import Structure


@pytest.mark.parametrize("blocks", [2, 4, 16])
def test_monarch_with_blocks_is_two_block_diagonal_matrices(blocks: int) -> None:
    """P2: 2 d**2 / b MACs and parameters, full rank; each factor has b blocks of (d / b, d / b)."""
    structure = Structure.parse(f"monarch:blocks={blocks}")
    real = structure.realize(256, 256)
    assert real.macs == real.params == 2 * 256**2 // blocks
    assert real.rank == 256
    sizes = real.sizes
    assert sizes["XAB"] == sizes["YAB"] == blocks
    assert sizes["XA"] == sizes["YB"] == sizes["AB"] * blocks == 256 // blocks
    assert (structure.omega, structure.psi, structure.nu) == (0, 1, 1)
    w = _random_matrix(real.sizes)
    assert np.linalg.matrix_rank(w) == 256


def test_the_taxonomy_of_fixed_sizes_is_the_growth_of_the_counts() -> None:
    for text in ("monarch:blocks=4", "low_rank:rank=8", "btt:rank=4", "tensor_train:rank=4", "tensor_train3:rank=4"):
        structure = Structure.parse(text)
        small, large = structure.realize(2**24, 2**24), structure.realize(2**30, 2**30)
        assert math.log2(large.macs / small.macs) / 6 == pytest.approx(1 + structure.nu), text
        assert math.log2(large.rank / small.rank) / 6 == pytest.approx(float(structure.psi)), text
        shared = (large.macs / large.params) / (small.macs / small.params)
        assert math.log2(shared) / 6 == pytest.approx(float(structure.omega)), text


@pytest.mark.parametrize(
    ("text", "key", "name"),
    [
        ("monarch:blocks=4", "(1|0|0|0|1|0|1){XAB=4,YAB=4}", "monarch:blocks=4"),
        ("low_rank:rank=64", "(1|0|0|0|1|0|0){AB=64}", "low_rank:rank=64"),
        ("Low-Rank : rank = 64", "(1|0|0|0|1|0|0){AB=64}", "low_rank:rank=64"),
        ("monarch{rho=4}", "(1/2|0|1/2|0|1/2|1/2|0){AB=4}", "btt:rank=4"),
        ("tensor_train:rank=16", "(1/2|1/2|0|1/2|1/2|0|0){AB=16}", "tensor_train:rank=16"),
        ("(1|0|0|0|1|0|1/2) { YAB = 4, XAB = 2 }", "(1|0|0|0|1|0|1/2){XAB=2,YAB=4}", None),
        ("(0|1|0|1|0|0|0){gamma=4,phi=4}", "(1|0|0|0|1|0|0){XAB=4,YAB=4}", None),
        ("(0|1|0|1|0|0|0){YA=2}", "(1|0|0|0|1|0|0){YB=2}", None),
        ("(0|1|0|1|0|0|0){XA=2}", "(1|0|0|0|1|0|0){XB=2}", None),
        ("btt:1/4{XA=64,XAB=12}", "(1/2|0|1/2|0|1/2|1/2|1/4){XA=64,XAB=12}", None),
        ("low_rank:rank=1", "(1|0|0|0|1|0|0)", "low_rank:0"),
    ],
)
def test_text_names_fixed_sizes(text: str, key: str, name: str | None) -> None:
    structure = Structure.parse(text)
    assert (structure.key, structure.name) == (key, name or key)
    assert Structure.parse(structure.key) == Structure.parse(structure.name) == structure
    assert hash(Structure.parse(structure.key)) == hash(structure)
    assert pickle.loads(pickle.dumps(structure)) == structure
    assert structure.transposed.transposed == structure
    assert structure.searchable == (not structure.fixed)


def test_three_factors_with_a_rank() -> None:
    structure = Structure.parse("tensor_train3:rank=4")
    assert structure.fixed == (("AB", 4), ("BC", 4))
    assert Structure.parse(structure.key) == structure and structure.name == "tensor_train3:rank=4"
    assert structure.nu == Fraction(1, 3)
    assert structure != Structure.parse("tensor_train3:rank=2")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("monarch:blocks=x", "blocks is 'x'; write a positive integer"),
        ("monarch:blocks=0", "blocks is '0'"),
        ("monarch:rank=4", "monarch takes no 'rank'; write monarch:blocks=4"),
        ("btt:blocks=4", "btt takes no 'blocks'; write btt:rank=4"),
        ("monarch:blocks=1", "rho = 1 must be below"),
        ("kronecker{XAB=4", "unbalanced braces"),
        ("kronecker{XAB}", "'XAB' is not a fixed size"),
        ("kronecker{XAC=4}", "there is no edge 'XAC'"),
        ("low_rank:rank=4{AB=4}", "the size of AB is given twice"),
        ("low_rank:1/2{AB=4}", "AB has a fixed size, so its exponent must be 0"),
        ("monarch{XAB=4}", "the input's free edges sum to 1/2; they must sum to exactly 1, with exponent 0 for XAB"),
        ("(1|0|0|1|0|0|0){YAB=4}", "factor B shares all its indices with A"),
        ("kronecker{AB=9999999999}", "AB is fixed at 9999999999; a size is a positive integer"),
    ],
)
def test_wrong_text(text: str, reason: str) -> None:
    with pytest.raises(StructureError) as caught:
        Structure.parse(text)
    assert reason in str(caught.value)
    assert repr(text) in str(caught.value)


def test_the_rest_of_a_width_is_shared_and_padded() -> None:
    real = Structure.parse("monarch:blocks=4").realize(1000, 30)
    assert (real.padded_in, real.padded_out) == (1000, 32)
    assert (real.sizes["XA"], real.sizes["YB"], real.sizes["AB"]) == (250, 8, 2)
    prime = Structure.parse("(1/2|1/2|0|1/2|1/2|0|0){XAB=3,YAB=3}").realize(257, 257)
    assert 257 < prime.padded_in < 280 and prime.padded_in % 3 == 0


def test_a_rank_is_bounded_by_what_is_useful() -> None:
    assert Structure.parse("low_rank:rank=64").realize(512, 10).sizes["AB"] == 10
    assert Structure.parse("tensor_train3:rank=64").realize(27, 27).sizes["AB"] == 9


@pytest.mark.parametrize(
    ("text", "widths", "reason"),
    [
        ("monarch:blocks=16", (512, 10), "d_out is 10, and its fixed sizes YAB ask for at least 16"),
        ("monarch{YB=64,YAB=12}", (768, 1024), "d_out is 1024, and its fixed sizes YB, YAB ask for exactly 64 x 12 = 768"),
        ("monarch{YB=64,YAB=12}", (768, 512), "ask for exactly 64 x 12 = 768"),
    ],
)
def test_a_width_that_does_not_take_the_sizes_is_refused(text: str, widths: tuple[int, int], reason: str) -> None:
    with pytest.raises(StructureError) as caught:
        Structure.parse(text).realize(*widths)
    assert reason in str(caught.value)


@pytest.mark.parametrize("text", ["monarch", "btt:1/4", "btt2", "btt16"])
def test_axes_match_the_heads(text: str) -> None:
    structure = Structure.parse(text)
    query = structure.aligned("output", n_head=12, d_head=64)
    sizes = query.realize(768, 768).sizes
    assert (sizes["YAB"], sizes["YB"], sizes["YA"]) == (12, 64, 1)
    output = structure.aligned("input", n_head=12, d_head=64)
    sizes = output.realize(768, 768).sizes
    assert (sizes["XAB"], sizes["XA"], sizes["XB"]) == (12, 64, 1)
    for aligned in (query, output):
        assert aligned.theta == structure.theta, "the taxonomy stays that of the structure"
        assert Structure.parse(aligned.key) == aligned != structure
    both = query.aligned("input", n_head=12, d_head=64)
    assert len(both.fixed) == 4
    assert both.realize(768, 768).sizes["XA"] == both.realize(768, 768).sizes["YB"] == 64


def test_one_head_is_an_alignment_too() -> None:
    one = Structure.parse("monarch").aligned("output", n_head=1, d_head=64)
    assert one.fixed == (("YB", 64), ("YAB", 1))
    assert one.realize(64, 64).sizes["YB"] == 64


@pytest.mark.parametrize("text", ["dense", "low_rank:1/2", "kronecker", "generic", "monarch3", "monarch:blocks=4"])
def test_structures_without_axes_for_heads_say_so(text: str) -> None:
    with pytest.raises(StructureError, match="has no axes for the heads"):
        Structure.parse(text).aligned("output", n_head=12, d_head=64)


def _random_matrix(sizes: object) -> np.ndarray:
    rng = np.random.default_rng(0)
    n = dict(sizes)  # type: ignore[call-overload]
    a = rng.standard_normal([n[e] for e in ("XA", "XAB", "YA", "YAB", "AB")])
    b = rng.standard_normal([n[e] for e in ("XB", "XAB", "YB", "YAB", "AB")])
    rows = n["YA"] * n["YB"] * n["YAB"]
    return np.einsum("acdfr,bcefr->defabc", a, b, optimize=True).reshape(rows, -1)
