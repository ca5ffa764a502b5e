"""The einsum a diagram prints computes the layer it draws."""

from __future__ import annotations

import re

import numpy as np
import pytest

from dashboards.diagram import diagram_data, diagram_facts, diagram_svg
from space.structure import Structure

FULL = "...abc,acdfr,bcefr->...def"  # theory: Y = sum over alpha, beta, gamma, rho of B A X
NAMES = [
    "monarch",
    "btt:1/4",
    "low_rank:1/2",
    "kronecker",
    "tensor_train:1/4",
    "generic:1/8",
    "(2/3|1/6|1/6|1/6|1/2|1/3|1/6)",
]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("shape", [(64, 64), (64, 256)])
def test_einsum_without_the_edges_of_size_one_is_the_whole_einsum(name: str, shape: tuple[int, int]) -> None:
    structure = Structure.parse(name)
    sizes = structure.realize(*shape).sizes
    data = diagram_data(structure, *shape)
    rng = np.random.default_rng(0)
    letters = dict(zip("abcdefr", sizes.values(), strict=True))
    terms = [[letters[c] for c in term] for term in ("abc", "acdfr", "bcefr")]
    x, a, b = (rng.standard_normal(term) for term in terms)
    whole = np.einsum(FULL, x, a, b)
    short = np.einsum(data.einsum, x.squeeze(), a.squeeze(), b.squeeze())
    np.testing.assert_allclose(short, whole.squeeze(), rtol=1e-12)
    assert all(size > 1 for size in data.sizes.values())


def test_dense_has_one_factor() -> None:
    data = diagram_data(Structure.parse("dense"), 32, 48)
    assert data.einsum == "...a,ad->...d"
    assert data.sizes == {"XA": 32, "YA": 48}
    assert ">B<" not in diagram_svg(data)
    assert diagram_facts(data).count("100.0% of dense") == 2


def test_drawing_shows_every_size_and_stays_in_its_box() -> None:
    data = diagram_data(Structure.parse("generic:1/8"), 256, 1024)
    svg = diagram_svg(data)
    for edge, greek in zip(data.sizes, "αβγδεφρ", strict=True):
        assert re.search(rf">{greek}<tspan[^>]*>{data.sizes[edge]}</tspan>", svg)
    assert all(0 <= float(x) <= 420 for x in re.findall(r'\b(?:x|cx|x1|x2)="([\d.]+)"', svg))
    assert all(0 <= float(y) <= 220 for y in re.findall(r'\b(?:y|cy|y1|y2)="([\d.]+)"', svg))
