"""The einsum a diagram prints computes the layer it draws."""

from __future__ import annotations

import math
import re

import numpy as np
import pytest

from dashboards.diagram import diagram_data, diagram_facts, diagram_svg
from dashboards.places import places
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

EVERYTHING = f"({'|'.join(['1/7'] * 14 + ['1/24'] * 4)})"
"""Three factors, and every edge that there can be."""


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


@pytest.mark.parametrize("name", ["kronecker3", "monarch3", "tensor_train3:1/6", "block_tensor_train4:1/8"])
def test_einsum_of_more_factors_has_as_many_multiplications_as_the_layer(name: str) -> None:
    structure = Structure.parse(name)
    at = structure.realize(256, 4096)
    data = diagram_data(structure, 256, 4096)
    operands, result = data.einsum.split("->")
    terms = [term.removeprefix("...") for term in (*operands.split(","), result)]
    size_of = {tuple(node in edge for node in data.nodes): size for edge, size in data.sizes.items()}
    sizes = {c: size_of[tuple(c in term for term in terms)] for c in "".join(terms)}
    volumes = [np.prod([sizes[c] for c in term]) for term in terms]
    assert volumes[0] == at.padded_in and volumes[-1] == at.padded_out
    assert sum(volumes[1:-1]) == at.params == data.params


@pytest.mark.parametrize("name", ["kronecker3", "monarch3", "block_tensor_train3:1/6", "block_tensor_train6:1/12", EVERYTHING])
def test_a_drawing_of_more_factors_keeps_its_parts_apart(name: str) -> None:
    """Nodes, joints and labels are inside, and none lies on another; every edge reaches its nodes."""
    data = diagram_data(Structure.parse(name), 2**24, 2**24)
    at = places(data.nodes, data.sizes)
    spots = [*at.nodes.values(), *at.labels.values()]
    assert len(at.labels) == len(data.sizes) and len(at.nodes) == len(data.nodes)
    assert all(0 < x < at.width and 0 < y < at.height for x, y in spots)
    near = min(math.dist(one, other) for i, one in enumerate(spots) for other in spots[:i])
    assert near > (30 if len(data.sizes) < 18 else 15)
    svg = diagram_svg(data)
    assert svg.count("<line") == sum(1 if len(edge) == 2 else len(edge) for edge in data.sizes)
    assert all(f">{node}</text>" in svg for node in data.nodes)


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
