"""`Structure`: one point of the space, under its one name."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from typing import Literal

from space import catalogue, parsing, taxonomy
from space.constraints import DENSE_THETA, Fixed, canonical_form, check, permute
from space.edges import LENGTHS, edge_names, mirrored
from space.errors import StructureError
from space.realization import Realization, realize
from space.taxonomy import Theta


@dataclass(frozen=True, slots=True)
class Structure:
    """A dense matrix (one factor) or an Einsum of two or more, always in canonical form: equal structures compare equal.

    `theta` holds exact exponents in the order of `space.edges.edge_names(factors)`: seven for two factors, 18 for three; the
    dense matrix, one factor A, is (1, 0, 0, 1, 0, 0, 0). `fixed` holds the edges that have the same size at every width.

    >>> Structure.parse("(0.5|0|0.5|0|0.5|0.5|0)")
    Structure('monarch')
    >>> s = Structure.parse("low_rank:1/2"); s.omega, s.psi, s.nu
    (Fraction(0, 1), Fraction(1, 2), Fraction(1, 2))
    >>> Structure.parse("monarch:blocks=4").key
    '(1|0|0|0|1|0|1){XAB=4,YAB=4}'
    >>> Structure.parse("tensor_train3:1/6").factors
    3
    """

    theta: Theta
    fixed: Fixed = ()

    def __post_init__(self) -> None:
        check(self.theta, parsing.spell(self.theta, self.fixed), self.fixed)
        theta, fixed = canonical_form(self.theta, self.fixed)
        object.__setattr__(self, "theta", theta)
        object.__setattr__(self, "fixed", fixed)

    @classmethod
    @lru_cache(maxsize=4096)
    def parse(cls, text: str) -> Structure:
        """The structure that `text` names.

        That is a name of `space.catalogue`, such as `monarch`, `btt:1/4`, `tensor_train3:rank=4`; or exponents, such as
        `(1/2|0|1/2|0|1/2|1/2|0)`, seven for two factors and 18 for three; with fixed sizes behind it, such as `{AB=64}`.

        Raises:
            StructureError: quotes `text` and says which part of it is wrong and what is allowed.
        """
        return cls._feasible(parsing.parse(text))

    @classmethod
    def of(cls, given: Structure | str) -> Structure:
        """A structure as it is, or the one that a text names.

        Raises:
            StructureError: as `parse`, or where `given` is neither.
        """
        if isinstance(given, Structure):
            return given
        if isinstance(given, str):
            return cls.parse(given)
        raise StructureError(f"structure is {given!r}; give a Structure, or a text such as 'monarch' or 'btt:1/4'")

    @classmethod
    def from_theta(cls, theta: Iterable[float | Fraction]) -> Structure:
        """The structure of 7, 18, 41, ... numbers; floats within 1e-7 of a fraction with a small denominator become it.

        Raises:
            StructureError: where theta is not feasible.
        """
        return cls._feasible(parsing.numbers(theta))

    @classmethod
    def _feasible(cls, parsed: parsing.Parsed) -> Structure:
        """The structure of theta and fixed sizes; an error quotes what was given."""
        check(parsed.theta, parsed.given, parsed.fixed)
        return cls(parsed.theta, parsed.fixed)

    @property
    def is_dense(self) -> bool:
        """Whether this is the dense matrix."""
        return self.theta == DENSE_THETA and not self.fixed

    @property
    def factors(self) -> int:
        """Number of factors: 1 for dense, else 2 or more."""
        return 1 if self.is_dense else LENGTHS[len(self.theta)]

    @property
    def edges(self) -> tuple[str, ...]:
        """The edges that the entries of `theta` belong to."""
        return edge_names(LENGTHS[len(self.theta)])

    @property
    def searchable(self) -> bool:
        """Whether studies range over it: dense or two factors, no fixed sizes, so that seven exponents say everything."""
        return self.factors <= 2 and not self.fixed

    @property
    def omega(self) -> Fraction:
        """Parameter sharing: parameters / MACs = Theta(d ** -omega). 0 is best.

        This and `psi` and `nu` hold for widths that grow while fixed sizes stay. Where all sizes of a side are fixed, its
        width cannot grow; they are then those of the exponents, as if the sizes grew with the model (see `aligned`).
        """
        return Fraction(0) if self.is_dense else taxonomy.omega(self.theta)

    @property
    def psi(self) -> Fraction:
        """Rank: rank(W) = Theta(d ** psi). 1 is full. With more than two factors an upper bound."""
        return Fraction(1) if self.is_dense else taxonomy.psi(self.theta)

    @property
    def nu(self) -> Fraction:
        """Compute intensity: MACs / d = Theta(d ** nu). Dense has 1."""
        return Fraction(1) if self.is_dense else taxonomy.nu(self.theta)

    @property
    def key(self) -> str:
        """Canonical text that parses back to this structure: its exponents and fixed sizes, or `dense`."""
        return "dense" if self.is_dense else parsing.spell(self.theta, self.fixed)

    @property
    def name(self) -> str:
        """Name in the catalogue where there is one, else the key."""
        return catalogue.name_of(self.theta, self.fixed) or self.key

    @property
    def transposed(self) -> Structure:
        """The structure of the transposed matrix."""
        if self.is_dense:
            return self
        swap = str.maketrans("XY", "YX")
        sizes = {edge.translate(swap): size for edge, size in self.fixed}
        fixed = tuple((edge, sizes[edge]) for edge in self.edges if edge in sizes)
        return Structure(permute(self.theta, mirrored(self.factors)), fixed)

    def aligned(self, side: Literal["input", "output"], n_head: int, d_head: int) -> Structure:
        """This structure with the axes of one side set to attention heads: (head, feature of it), head slowest (P1 App. F).

        Queries, keys and values take (phi, epsilon) = (n_head, d_head) on their output, the attention's output projection
        takes (gamma, alpha) = (n_head, d_head) on its input. The layer's width on that side is then exactly n_head d_head.
        Exponents and taxonomy stay those of the structure, whose sizes these are at one width.

        >>> Structure.parse("monarch").aligned("output", n_head=12, d_head=64).key
        '(1/2|0|1/2|0|1/2|1/2|0){YB=64,YAB=12}'

        Raises:
            StructureError: where the structure does not share that side between one factor's own axis and one of both, as
                Monarch and BTT do, or has fixed sizes there already.
        """
        shared, own, other = ("XAB", "XA", "XB") if side == "input" else ("YAB", "YB", "YA")
        exponents = dict(zip(self.edges, self.theta, strict=True))
        fits = self.factors == 2 and exponents[shared] and exponents[own] and not exponents[other]
        if not fits or any(edge[0] == shared[0] for edge, _ in self.fixed):
            raise StructureError(
                f"{self}: its {side} has no axes for the heads; two factors are needed, exponents above 0 for {shared} and"
                f" {own}, 0 for {other}, and no fixed sizes there, as in monarch or btt:1/4"
            )
        heads = {shared: n_head, own: d_head, **dict(self.fixed)}
        return Structure(self.theta, tuple((edge, heads[edge]) for edge in self.edges if edge in heads))

    def realize(self, d_in: int, d_out: int) -> Realization:
        """Integer sizes and exact cost for a layer from `d_in` to `d_out` (see `space.realization`).

        Raises:
            StructureError: where a width is not a positive integer, or not one that the fixed sizes allow.
        """
        return realize(self, d_in, d_out)

    def __str__(self) -> str:
        return self.name

    def __repr__(self) -> str:
        return f"Structure({self.name!r})"
