"""Structures: their text, their one name, their taxonomy, against the papers' published values."""

from __future__ import annotations

import pickle
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from space import catalogue
from space.constraints import canonical, permute
from space.edges import EXCHANGED
from space.errors import StructureError
from space.sampling import sample_structure
from space.structure import Structure

PUBLISHED = """
btt1 0 1 1/2 | btt2 0 1 2/3 | btt3 0 1 3/4 | btt5 0 1 2/3 | btt6 0 1 3/4 | btt7 0 2/3 1/3 | btt8 0 1 2/3 | btt9 0 1/2 1/4
btt10 0 1 3/4 | btt11 0 1 3/4 | btt12 0 1 5/6 | btt13 0 1 11/12 | btt14 0 1 11/12 | btt15 0 11/12 7/12 | btt16 0 1 11/12
tt1 1/2 1 1/2 | tt2 1/3 1 2/3 | tt3 1/2 1 3/4 | tt4 1/3 1 11/12 | l1 0 3/4 3/4 | l2 0 1/2 1/2 | g1 1/4 1 1/2 | g2 1/4 1 3/4
"""
TAXONOMY = {row.split()[0]: tuple(map(Fraction, row.split()[1:])) for row in PUBLISHED.replace("|", "\n").strip().splitlines()}

structures = st.integers(0, 2**32 - 1).map(lambda seed: sample_structure(np.random.default_rng(seed)))


@pytest.mark.parametrize("name", catalogue.PAPER)
def test_the_papers_structures_have_their_published_taxonomy(name: str) -> None:
    structure = Structure.parse(name)
    assert (structure.omega, structure.psi, structure.nu) == TAXONOMY[name]
    assert structure.theta == catalogue.PAPER[name], "the papers' vectors are canonical"


def test_dense_is_one_factor() -> None:
    dense = Structure.parse("dense")
    assert (dense.factors, dense.omega, dense.psi, dense.nu) == (1, 0, 1, 1)
    assert Structure.from_theta(dense.theta) == dense == Structure.parse("(0|1|0|0|1|0|0)")


@pytest.mark.parametrize(
    ("text", "theta"),
    [
        ("monarch", "1/2 0 1/2 0 1/2 1/2 0"),
        ("(0.5|0|0.5|0|0.5|0.5|0)", "1/2 0 1/2 0 1/2 1/2 0"),
        (" ( 1/2 , 0, 1/2, 0, 1/2, 1/2, 0 ) ", "1/2 0 1/2 0 1/2 1/2 0"),
        ("1/3|0|2/3|0|2/3|1/3|0.25", "1/3 0 2/3 0 2/3 1/3 1/4"),
        ("(0.3333333333|0|0.6666666667|0|2/3|1/3|0)", "1/3 0 2/3 0 2/3 1/3 0"),
        ("btt:1/4", "1/2 0 1/2 0 1/2 1/2 1/4"),
        ("low_rank:0.5", "1 0 0 0 1 0 1/2"),
        ("Low-Rank:1/2", "1 0 0 0 1 0 1/2"),
        ("kronecker", "1/2 1/2 0 1/2 1/2 0 0"),
        ("tensor_train:1/4", "1/2 1/2 0 1/2 1/2 0 1/4"),
        ("generic:1/4", "1/2 1/4 1/4 1/4 1/2 1/4 1/4"),
    ],
)
def test_text_names_a_structure(text: str, theta: str) -> None:
    assert Structure.parse(text).theta == tuple(map(Fraction, theta.split()))


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("monach", "did you mean 'monarch'"),
        ("", "is not a structure"),
        ("btt", "needs the exponent of its rank"),
        ("kronecker:1/2", "takes no exponent; write 'kronecker'"),
        ("monarch:4", "write 'monarch', or monarch:blocks=4 for four blocks"),
        ("btt:x", "rho is 'x'"),
        ("btt:1/2", "rho = 1/2 must be below min(alpha, epsilon) = 1/2"),
        ("btt:-1/4", "rho (AB) is -1/4"),
        ("(0.5|0|0.6|0|0.5|0.5|0)", "alpha + beta + gamma = 1/2 + 0 + 3/5 = 11/10"),
        ("(1/2|0|1/2|0|1/2|0|0)", "delta + epsilon + phi = 0 + 1/2 + 0 = 1/2"),
        ("(1.5|-0.5|0|0|0.5|0.5|0)", "alpha (XA) is 3/2"),
        ("(0|0|1|0|0|1|0)", "write 'dense'"),
        ("(nan|0|0|0|0|0|0)", "alpha is 'nan'"),
        ("(1/0|0|0|0|0|0|0)", "alpha is '1/0'"),
        ("(1e99999999|0|0|0|1|0|0)", "alpha is '1e99999999'"),
        ("btt:1e-99999999", "rho is '1e-99999999'"),
        ("(1|0|0|0|1|0)", "6 entries given; theta has 7"),
        ("(1|0|0|0|1|0|1/2", "unbalanced parenthesis"),
    ],
)
def test_wrong_text_is_quoted_with_the_reason(text: str, reason: str) -> None:
    with pytest.raises(StructureError) as caught:
        Structure.parse(text)
    assert reason in str(caught.value)
    assert repr(text.strip()) in str(caught.value)


@pytest.mark.parametrize("theta", [[0.5] * 6, [float("nan")] * 7, [float("inf"), 0, 0, 0, 1, 0, 0], [2, -1, 0, 0, 1, 0, 0]])
def test_wrong_numbers_are_refused(theta: list[float]) -> None:
    with pytest.raises(StructureError):
        Structure.from_theta(theta)


@given(structures)
def test_text_and_pickle_round_trip(structure: Structure) -> None:
    assert Structure.parse(structure.key) == Structure.parse(structure.name) == structure
    assert Structure.from_theta([float(t) for t in structure.theta]) == structure
    assert pickle.loads(pickle.dumps(structure)) == structure


@given(structures)
def test_exchange_names_the_same_structure(structure: Structure) -> None:
    exchanged = permute(structure.theta, EXCHANGED)
    assert Structure(exchanged) == structure
    assert canonical(exchanged) == canonical(structure.theta) == structure.theta


@given(structures)
def test_taxonomy_is_invariant_under_transposition(structure: Structure) -> None:
    other = structure.transposed
    assert (other.omega, other.psi, other.nu) == (structure.omega, structure.psi, structure.nu)
    assert other.transposed == structure


@given(structures)
def test_taxonomy_is_the_growth_of_the_exact_counts(structure: Structure) -> None:
    """omega, psi and nu against the integers of a width so large, d = 2**240, that every size is an exact power of two."""
    bits = 240
    alpha, beta, gamma, delta, epsilon, phi, rho = (2 ** int(t * bits) for t in structure.theta)
    d = 2**bits
    macs = min(rho * d * (delta * phi + beta * gamma), rho * d * (epsilon * phi + alpha * gamma))
    params = gamma * phi * rho * (alpha * delta + beta * epsilon)
    rank = min(d, beta * gamma * delta * phi * rho, alpha * gamma * epsilon * phi * rho)
    assert abs(macs.bit_length() - 1 - bits - structure.nu * bits) <= 1
    assert abs((macs.bit_length() - params.bit_length()) - structure.omega * bits) <= 2
    assert rank == 2 ** int(structure.psi * bits)
