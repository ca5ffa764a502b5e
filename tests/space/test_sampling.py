"""The sampler of structures: feasible, seeded, and able to reach what matters."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from space.constraints import canonical
from space.edges import EDGES, hyperedges
from space.sampling import RESOLUTION, face_of, faces, neighbours, sample_on, sample_structure
from space.structure import Structure


def draw(seed: int, count: int) -> list[Structure]:
    rng = np.random.default_rng(seed)
    return [sample_structure(rng) for _ in range(count)]


def test_every_face_is_visited() -> None:
    assert {face_of(s) for s in draw(0, 1000)} == set(faces())


def test_structures_without_parameter_sharing_and_of_full_rank_are_found() -> None:
    best = [s for s in draw(1, 300) if s.omega == 0 and s.psi == 1]
    assert len({s.key for s in best}) > 10


def test_the_same_seed_draws_the_same_structures() -> None:
    assert draw(2, 50) == draw(2, 50) != draw(3, 50)


@given(st.integers(0, 2**32 - 1))
def test_draws_lie_on_the_lattice_in_their_face(seed: int) -> None:
    rng = np.random.default_rng(seed)
    for face in faces():
        structure = sample_on(face, rng)
        assert face_of(structure) == face
        assert all((t * RESOLUTION).denominator == 1 for t in structure.theta)
        assert canonical(structure.theta) == structure.theta


@given(st.integers(0, 2**32 - 1))
def test_neighbours_are_mutual(seed: int) -> None:
    structure = draw(seed, 1)[0]
    near = neighbours(structure)
    assert near and structure not in near
    for other in near:
        assert structure in neighbours(other)


def test_edges_of_two_factors_are_the_seven() -> None:
    named = {frozenset(e.replace("A", "1").replace("B", "2")) for e in EDGES}
    derived = {frozenset(n.removeprefix("F") for n in edge) for edge in hyperedges(2)}
    assert named == derived
