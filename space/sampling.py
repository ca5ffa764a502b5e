"""Random feasible structures, faces included.

omega = 0 asks for beta = 0 or delta = 0: a face of the polytope of theta, of measure zero, which uniform draws from the
interior never visit. So a draw first chooses a face (which exponents are exactly 0), then a point inside it. Points lie on
a lattice of step 1 / resolution: 1/24 moves a size by a factor of sqrt(2) at width 4096, and finer steps round to the same
integers.
"""

from __future__ import annotations

from fractions import Fraction
from itertools import product

import numpy as np

from space.constraints import canonical
from space.edges import EDGES
from space.structure import Structure
from space.taxonomy import Theta

RESOLUTION = 24
"""Lattice steps per unit of an exponent."""

Face = tuple[bool, ...]
"""For each edge, in the order of `EDGES`, whether its exponent is above 0."""


def face_of(structure: Structure) -> Face:
    """Which exponents of a structure are above 0."""
    return tuple(t > 0 for t in structure.theta)


def faces() -> tuple[Face, ...]:
    """The 32 faces on which two-factor structures live.

    In canonical form alpha and epsilon are above 0, as non-degeneracy asks; the other five exponents are free to vanish.
    """
    return tuple(
        (True, beta, gamma, delta, True, phi, rho) for beta, gamma, delta, phi, rho in product((False, True), repeat=5)
    )


def sample_on(face: Face, rng: np.random.Generator, resolution: int = RESOLUTION) -> Structure:
    """A lattice point drawn from the inside of a face: every exponent the face keeps is at least one step above 0."""
    while True:
        sides = _simplex(face[0:3], rng, resolution) + _simplex(face[3:6], rng, resolution)
        theta = canonical((*sides, Fraction(0)))
        room = min(theta[0], theta[4]) * resolution - 1
        if not face[6]:
            return Structure(theta)
        if room >= 1:
            rho = Fraction(int(rng.integers(1, int(room) + 1)), resolution)
            return Structure((*theta[:6], rho))


def sample_structure(rng: np.random.Generator, resolution: int = RESOLUTION) -> Structure:
    """A feasible two-factor structure: a face drawn uniformly, then a lattice point inside it."""
    choices = faces()
    return sample_on(choices[rng.integers(len(choices))], rng, resolution)


def neighbours(structure: Structure, resolution: int = RESOLUTION) -> list[Structure]:
    """The feasible structures one lattice step away: mass moved along a side, or rho raised or lowered."""
    step = Fraction(1, resolution)
    moves: list[dict[int, Fraction]] = [{6: step}, {6: -step}]
    for side in (range(3), range(3, 6)):
        moves += [{i: step, j: -step} for i in side for j in side if i != j]
    found = {s for move in moves if (s := _moved(structure.theta, move)) is not None}
    return sorted(found - {structure}, key=lambda s: s.theta)


def _moved(theta: Theta, move: dict[int, Fraction]) -> Structure | None:
    values = canonical(tuple(theta[i] + move.get(i, Fraction(0)) for i in range(len(EDGES))))
    feasible = all(0 <= v <= 1 for v in values) and values[6] < min(values[0], values[4])
    return Structure(values) if feasible else None


def _simplex(present: Face, rng: np.random.Generator, resolution: int) -> Theta:
    """A uniform composition of `resolution` into positive parts, one for each exponent that is present."""
    parts = sum(present)
    cuts = np.sort(rng.choice(np.arange(1, resolution), size=parts - 1, replace=False))
    steps = iter(np.diff(np.concatenate(([0], cuts, [resolution]))))
    return tuple(Fraction(int(next(steps)), resolution) if p else Fraction(0) for p in present)
