"""From exponents to integers, and what those integers cost, exactly.

d_i      size of edge i; the products over the input edges and over the output edges are exactly the (padded) widths
F_A      multiply-accumulates (MACs) of one product y = W x when A is contracted first
F_B      the same when B is contracted first
N        parameters
rank     generic maximal rank

F_A = d_in delta phi rho + d_out beta gamma rho        (P1 eq. 5 and 6, with the sums completed)
F_B = d_in epsilon phi rho + d_out alpha gamma rho
N   = alpha gamma delta phi rho + beta gamma epsilon phi rho
rank = min(d_in, d_out, beta gamma delta phi rho, alpha gamma epsilon phi rho)
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from itertools import count
from types import MappingProxyType
from typing import TYPE_CHECKING, Literal

from space.edges import EDGES
from space.errors import StructureError

if TYPE_CHECKING:
    from space.structure import Structure

TOLERANCE = math.log(2)
"""A width is padded until every size is within this factor (in logarithm) of what theta asks: a factor of two."""

LARGEST_WIDTH = 2**31 - 1
"""Widths beyond this are mistakes, and their divisors would take long to find."""


@dataclass(frozen=True, slots=True)
class Realization:
    """A structure at integer sizes, with its exact cost. `str` is a readable report."""

    structure: Structure
    d_in: int
    d_out: int
    sizes: Mapping[str, int]

    @property
    def is_dense(self) -> bool:
        """Whether this is a dense matrix."""
        return self.structure.is_dense

    @property
    def padded_in(self) -> int:
        """Width of the input after padding, >= d_in: the product of the sizes of its edges."""
        return self.sizes["XA"] * self.sizes["XB"] * self.sizes["XAB"]

    @property
    def padded_out(self) -> int:
        """Width of the output after padding, >= d_out."""
        return self.sizes["YA"] * self.sizes["YB"] * self.sizes["YAB"]

    @property
    def macs_a_first(self) -> int:
        """MACs per input vector when A is contracted first."""
        if self.is_dense:
            return self.padded_in * self.padded_out
        s = self.sizes
        return s["AB"] * (self.padded_in * s["YA"] * s["YAB"] + self.padded_out * s["XB"] * s["XAB"])

    @property
    def macs_b_first(self) -> int:
        """MACs per input vector when B is contracted first."""
        if self.is_dense:
            return self.padded_in * self.padded_out
        s = self.sizes
        return s["AB"] * (self.padded_in * s["YB"] * s["YAB"] + self.padded_out * s["XA"] * s["XAB"])

    @property
    def macs(self) -> int:
        """MACs per input vector in the cheaper order: what the ledger counts, whichever plan is executed."""
        return min(self.macs_a_first, self.macs_b_first)

    @property
    def order(self) -> Literal["A", "B"]:
        """The factor that is contracted first in the cheaper order; initialisation and learning rates follow it."""
        return "A" if self.macs_a_first <= self.macs_b_first else "B"

    @property
    def params(self) -> int:
        """Number of parameters."""
        if self.is_dense:
            return self.padded_in * self.padded_out
        s = self.sizes
        shared = s["XAB"] * s["YAB"] * s["AB"]
        return shared * (s["XA"] * s["YA"] + s["XB"] * s["YB"])

    @property
    def rank(self) -> int:
        """Largest rank the layer's matrix can have, reached by almost all parameters."""
        widths = min(self.d_in, self.d_out)
        if self.is_dense:
            return widths
        s = self.sizes
        both = s["XAB"] * s["YAB"] * s["AB"]
        return min(widths, s["XB"] * s["YA"] * both, s["XA"] * s["YB"] * both)

    @property
    def omega(self) -> float:
        """Parameter sharing at these sizes, log(MACs / N) / log(min width)."""
        return math.log(self.macs / self.params) / self._log_width

    @property
    def psi(self) -> float:
        """Rank exponent at these sizes, log(rank) / log(min width)."""
        return math.log(self.rank) / self._log_width

    @property
    def nu(self) -> float:
        """Compute intensity at these sizes, log(MACs / max width) / log(min width)."""
        return math.log(self.macs / max(self.d_in, self.d_out)) / self._log_width

    @property
    def _log_width(self) -> float:
        return math.log(max(2, min(self.d_in, self.d_out)))

    def __reduce__(self) -> tuple[object, ...]:
        return realize, (self.structure, self.d_in, self.d_out)

    def __str__(self) -> str:
        sizes = " ".join(f"{edge}={size}" for edge, size in self.sizes.items())
        padded = ""
        if (self.padded_in, self.padded_out) != (self.d_in, self.d_out):
            padded = f" (padded to {self.padded_in} -> {self.padded_out})"
        return (
            f"{self.structure.name}: {self.d_in} -> {self.d_out}{padded}; {sizes}; {self.macs:,} MACs"
            f" ({self.macs / (self.d_in * self.d_out):.3f} of dense), {self.params:,} parameters, rank {self.rank}"
        )


@lru_cache(maxsize=4096)
def realize(structure: Structure, d_in: int, d_out: int) -> Realization:
    """Exact integer sizes of a structure for a layer (theory: the nearest divisor triple, never a truncated width).

    Each side takes the divisor triple of its width that minimises sum (log d_i - theta_i log d)**2, with d_i = 1 wherever
    theta_i = 0. Where no triple of a width is within a factor of two (a prime, say), the width is padded up to the next one
    that has one. rho is rounded, and bounded by min(alpha delta, beta epsilon), above which it adds no new matrices.

    >>> from space.structure import Structure
    >>> realize(Structure.parse("monarch"), 1024, 4096).sizes["YB"]
    64

    Raises:
        StructureError: a width that is not a positive integer.
    """
    for side, width in (("d_in", d_in), ("d_out", d_out)):
        if isinstance(width, bool) or not isinstance(width, int) or not 1 <= width <= LARGEST_WIDTH:
            raise StructureError(f"{structure}: {side} is {width!r}; a width is a positive integer up to {LARGEST_WIDTH}")
    if structure.is_dense:
        sizes = dict.fromkeys(EDGES, 1) | {"XA": d_in, "YA": d_out}
        return Realization(structure, d_in, d_out, MappingProxyType(sizes))
    exponents = tuple(float(t) for t in structure.theta)
    alpha, beta, gamma = _side(d_in, exponents[0:3])
    delta, epsilon, phi = _side(d_out, exponents[3:6])
    useful = min(alpha * delta, beta * epsilon)
    rho = max(1, min(useful, round(min(d_in, d_out) ** exponents[6])))
    sizes = dict(zip(EDGES, (alpha, beta, gamma, delta, epsilon, phi, rho), strict=True))
    return Realization(structure, d_in, d_out, MappingProxyType(sizes))


def _side(width: int, exponents: tuple[float, ...]) -> tuple[int, int, int]:
    """The nearest divisor triple of the smallest width >= `width` that has one within the tolerance."""
    for padded in count(width):
        targets = tuple(t * math.log(padded) for t in exponents)
        triple = min(_triples(padded, exponents), key=lambda t: _distance(t, targets))
        if all(abs(math.log(d) - x) <= TOLERANCE for d, x in zip(triple, targets, strict=True)):
            return triple
    raise AssertionError("unreachable: a power of two always fits")


def _triples(width: int, exponents: tuple[float, ...]) -> list[tuple[int, int, int]]:
    """All (a, b, c) with a b c = width, and 1 wherever the exponent is 0."""
    divisors = _divisors(width)
    first = divisors if exponents[0] else (1,)
    found = []
    for a in first:
        second = _divisors(width // a) if exponents[1] else (1,)
        for b in second:
            c = width // (a * b)
            if exponents[2] or c == 1:
                found.append((a, b, c))
    return found


@lru_cache(maxsize=4096)
def _divisors(n: int) -> tuple[int, ...]:
    small = [i for i in range(1, math.isqrt(n) + 1) if n % i == 0]
    return tuple(sorted({*small, *(n // i for i in small)}))


def _distance(triple: tuple[int, int, int], targets: tuple[float, ...]) -> tuple[float, tuple[int, int, int]]:
    squares = sum((math.log(d) - x) ** 2 for d, x in zip(triple, targets, strict=True))
    return round(squares, 12), triple
