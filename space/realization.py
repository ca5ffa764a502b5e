"""From exponents to integers, and what those integers cost, exactly, for any number of factors.

d_i      size of edge i; the products over the input edges and over the output edges are exactly the (padded) widths
F_A      multiply-accumulates (MACs) of one product y = W x when A is contracted first
F_B      the same when B is contracted first
N        parameters
rank     generic maximal rank; an upper bound of it with more than two factors

For two factors `space.contraction` gives

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
from types import MappingProxyType
from typing import TYPE_CHECKING

from space import contraction
from space.constraints import LARGEST_WIDTH
from space.divisors import nearest_sizes
from space.edges import FACTORS, edge_names, positions
from space.errors import StructureError

if TYPE_CHECKING:
    from space.structure import Structure


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
    def factors(self) -> int:
        """Number of factors: 1 for dense."""
        return self.structure.factors

    @property
    def vector(self) -> tuple[int, ...]:
        """The sizes in the order of `space.edges.edge_names(factors)`: of two edges for dense."""
        return tuple(self.sizes[edge] for edge in edge_names(self.factors))

    @property
    def padded_in(self) -> int:
        """Width of the input after padding, >= d_in: the product of the sizes of its edges."""
        return math.prod(size for edge, size in self.sizes.items() if edge[0] == "X")

    @property
    def padded_out(self) -> int:
        """Width of the output after padding, >= d_out."""
        return math.prod(size for edge, size in self.sizes.items() if edge[0] == "Y")

    @property
    def macs_a_first(self) -> int:
        """MACs per input vector when A is contracted first, whatever follows in the cheapest order."""
        return self._macs_from(0)

    @property
    def macs_b_first(self) -> int:
        """MACs per input vector when B is contracted first; for dense, which has no B, those of A."""
        return self._macs_from(min(1, self.factors - 1))

    def _macs_from(self, first: int) -> int:
        return min(macs for order, macs in contraction.sequence_macs(self.vector).items() if order[0] == first)

    @property
    def macs(self) -> int:
        """MACs per input vector in the cheapest sequence: what the ledger counts, whichever plan is executed."""
        return min(contraction.sequence_macs(self.vector).values())

    @property
    def sequence(self) -> str:
        """The cheapest sequence of contractions, as in "BA" or "ACB"; initialisation and learning rates follow it."""
        macs = contraction.sequence_macs(self.vector)
        return "".join(FACTORS[i] for i in min(macs, key=lambda order: macs[order]))

    @property
    def order(self) -> str:
        """The factor that is contracted first in the cheapest sequence."""
        return self.sequence[0]

    @property
    def params(self) -> int:
        """Number of parameters."""
        return sum(contraction.parameters(self.vector))

    @property
    def rank(self) -> int:
        """Largest rank the layer's matrix can have, reached by almost all parameters; a bound with over two factors."""
        return min(self.d_in, self.d_out, contraction.rank_bound(self.vector))

    def best_tree(self, batch: int) -> contraction.Tree:
        """The cheapest way to multiply `batch` vectors, factors meeting one another where that pays, with all its MACs.

        The ledger does not count it: it counts the best sequence, `macs`, which does not depend on the batch.
        """
        return contraction.best_tree(self.vector, batch)

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
        sizes = " ".join(f"{edge}={size}" for edge, size in self.sizes.items() if size > 1 or self.factors <= 2)
        padded = ""
        if (self.padded_in, self.padded_out) != (self.d_in, self.d_out):
            padded = f" (padded to {self.padded_in} -> {self.padded_out})"
        return (
            f"{self.structure.name}: {self.d_in} -> {self.d_out}{padded}; {sizes}; {self.macs:,} MACs"
            f", {self.params:,} parameters, rank {self.rank}"
        )


@lru_cache(maxsize=4096, typed=True)  # 8.0 is refused, also where 8 is known
def realize(structure: Structure, d_in: int, d_out: int) -> Realization:
    """Exact integer sizes of a structure for a layer (theory: the nearest divisors, never a truncated width).

    Each side takes the divisors of its width that minimise sum (log d_i - theta_i log d)**2, with d_i = 1 wherever theta_i = 0.
    Where none of a width are within a factor of two (a prime, say), the width is padded up to the next one that has some. Edges
    of fixed size take theirs, and the others of that side share the rest. An inner edge has min(d_in, d_out)**theta_i, the
    widths first divided by the fixed sizes of the input and output edges that several factors hold, as these already carry as
    much between the factors; it is rounded. Inner edges, those of fixed size too, are bounded by what is useful
    (`space.contraction.useful_inner`): above it they add no new matrices.

    >>> from space.structure import Structure
    >>> realize(Structure.parse("monarch"), 1024, 4096).sizes["YB"]
    64
    >>> print(realize(Structure.parse("monarch:blocks=4"), 1024, 1024))
    monarch:blocks=4: 1024 -> 1024; XA=256 XB=1 XAB=4 YA=1 YB=256 YAB=4 AB=64; 524,288 MACs, 524,288 parameters, rank 1024

    Raises:
        StructureError: a width that is not a positive integer, or that the structure's fixed sizes do not allow.
    """
    for side, width in (("d_in", d_in), ("d_out", d_out)):
        if isinstance(width, bool) or not isinstance(width, int) or not 1 <= width <= LARGEST_WIDTH:
            raise StructureError(f"{structure}: {side} is {width!r}; a width is a positive integer up to {LARGEST_WIDTH}")
    if structure.is_dense:
        sizes = dict.fromkeys(structure.edges, 1) | {"XA": d_in, "YA": d_out}
        return Realization(structure, d_in, d_out, MappingProxyType(sizes))
    sizes = _side(structure, "X", d_in, "d_in") | _side(structure, "Y", d_out, "d_out")
    sizes |= _inner(structure, sizes, min(d_in, d_out))
    return Realization(structure, d_in, d_out, MappingProxyType(sizes))


def _side(structure: Structure, node: str, width: int, side: str) -> dict[str, int]:
    """Sizes of the edges of X or of Y."""
    edges = [edge for edge in structure.edges if edge[0] == node]
    fixed = {edge: size for edge, size in structure.fixed if edge[0] == node}
    exponents = _exponents(structure)
    held = math.prod(fixed.values())
    free = any(exponents[edge] for edge in edges if edge not in fixed)
    if held > width or (held != width and not free):
        bound = "at least" if free else "exactly"
        shown = " x ".join(map(str, fixed.values())) + (f" = {held}" if len(fixed) > 1 else "")
        raise StructureError(
            f"{structure}: {side} is {width}, and its fixed sizes {', '.join(fixed)} ask for {bound} {shown}; change the sizes,"
            " or leave this layer as it is"
        )
    if held == width:
        return dict.fromkeys(edges, 1) | fixed
    shares = nearest_sizes(-(-width // held), tuple(0.0 if e in fixed else exponents[e] for e in edges))
    return dict(zip(edges, shares, strict=True)) | fixed


def _inner(structure: Structure, sides: Mapping[str, int], width: int) -> dict[str, int]:
    """Sizes of the edges among the factors, each at most what is useful beside the others."""
    exponents, fixed = _exponents(structure), dict(structure.fixed)
    carried = math.prod(n for edge, n in fixed.items() if edge[0] in "XY" and len(edge) > 2 and not exponents[edge])
    base = max(1.0, width / carried)
    edges = [edge for edge in structure.edges if edge[0] not in "XY"]
    inner = {edge: fixed.get(edge, max(1, round(base ** exponents[edge]))) for edge in edges}
    while any(inner[e] > contraction.useful_inner({**sides, **inner}, e) for e in edges):
        for edge in edges:
            inner[edge] = min(inner[edge], contraction.useful_inner({**sides, **inner}, edge))
    return inner


@lru_cache(maxsize=4096)
def _exponents(structure: Structure) -> dict[str, float]:
    at = positions(max(2, structure.factors))
    return {edge: float(structure.theta[i]) for edge, i in at.items()}
