"""`Structure`: one point of the space, under its one name."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable
from dataclasses import dataclass
from fractions import Fraction

from space import catalogue, taxonomy
from space.constraints import DENSE_THETA, canonical, check
from space.edges import EDGES, SYMBOLS, TRANSPOSED
from space.errors import StructureError
from space.realization import Realization, realize
from space.taxonomy import Theta

_NEAR = Fraction(1, 10**7)
_NUMBER = re.compile(r"[^eE]{1,40}([eE][+-]?\d{1,2})?")


@dataclass(frozen=True, slots=True)
class Structure:
    """A dense matrix (one factor) or a two-factor Einsum, always in canonical form: equal structures compare equal.

    `theta` holds seven exact exponents in the order of `space.edges.EDGES`; the dense matrix, one factor A, is
    (1, 0, 0, 1, 0, 0, 0).

    >>> Structure.parse("(0.5|0|0.5|0|0.5|0.5|0)")
    Structure('monarch')
    >>> s = Structure.parse("low_rank:1/2"); s.omega, s.psi, s.nu
    (Fraction(0, 1), Fraction(1, 2), Fraction(1, 2))
    """

    theta: Theta

    def __post_init__(self) -> None:
        form = canonical(self.theta)
        check(form, format_theta(self.theta))
        object.__setattr__(self, "theta", form)

    @classmethod
    def parse(cls, text: str) -> Structure:
        """The structure that `text` names: a name of the catalogue, or seven exponents such as `(1/2|0|1/2|0|1/2|1/2|0)`.

        Raises:
            StructureError: quotes `text` and says which part of it is wrong and what is allowed.
        """
        stripped = text.strip()
        if re.search(r"[|,(]", stripped):
            return cls._feasible(_parse_theta(stripped), repr(text))
        label, colon, exponent = stripped.partition(":")
        name = label.lower().replace("-", "_")
        rho = _number(exponent, text, "rho") if colon else None
        theta = catalogue.theta_of(name, rho)
        if theta is None:
            raise StructureError(_unknown(text, name, rho))
        return cls._feasible(theta, f"{text!r} = {format_theta(theta)}")

    @classmethod
    def from_theta(cls, theta: Iterable[float | Fraction]) -> Structure:
        """The structure of seven numbers; floats within 1e-7 of a fraction with a small denominator become that fraction.

        Raises:
            StructureError: where theta is not feasible.
        """
        values = list(theta)
        given = "(" + "|".join(f"{v}" for v in values) + ")"
        if len(values) != len(EDGES):
            raise StructureError(_wrong_length(given, len(values)))
        return cls._feasible(tuple(_exact(v, given, s) for v, s in zip(values, SYMBOLS, strict=True)), given)

    @classmethod
    def _feasible(cls, theta: Theta, given: str) -> Structure:
        """The structure of theta; an error quotes `given`."""
        check(canonical(theta), given)
        return cls(theta)

    @property
    def is_dense(self) -> bool:
        """Whether this is the dense matrix."""
        return self.theta == DENSE_THETA

    @property
    def factors(self) -> int:
        """Number of factors: 1 for dense, else 2."""
        return 1 if self.is_dense else 2

    @property
    def omega(self) -> Fraction:
        """Parameter sharing: parameters / MACs = Theta(d ** -omega). 0 is best."""
        return Fraction(0) if self.is_dense else taxonomy.omega(self.theta)

    @property
    def psi(self) -> Fraction:
        """Rank: rank(W) = Theta(d ** psi). 1 is full."""
        return Fraction(1) if self.is_dense else taxonomy.psi(self.theta)

    @property
    def nu(self) -> Fraction:
        """Compute intensity: MACs / d = Theta(d ** nu). Dense has 1."""
        return Fraction(1) if self.is_dense else taxonomy.nu(self.theta)

    @property
    def key(self) -> str:
        """Canonical text that parses back to this structure: seven exponents, or `dense`."""
        return "dense" if self.is_dense else format_theta(self.theta)

    @property
    def name(self) -> str:
        """Name in the catalogue where there is one, else the key."""
        return catalogue.name_of(self.theta) or self.key

    @property
    def transposed(self) -> Structure:
        """The structure of the transposed matrix."""
        return self if self.is_dense else Structure(tuple(self.theta[i] for i in TRANSPOSED))

    def realize(self, d_in: int, d_out: int) -> Realization:
        """Integer sizes and exact cost for a layer from `d_in` to `d_out` (see `space.realization`).

        Raises:
            StructureError: where a width is not a positive integer.
        """
        return realize(self, d_in, d_out)

    def __str__(self) -> str:
        return self.name

    def __repr__(self) -> str:
        return f"Structure({self.name!r})"


def format_theta(theta: Iterable[Fraction]) -> str:
    """Theta as text, `(1/2|0|1/2|0|1/2|1/2|0)`."""
    return "(" + "|".join(map(str, theta)) + ")"


def _parse_theta(text: str) -> Theta:
    if text.startswith("(") != text.endswith(")"):
        raise StructureError(f"{text!r}: unbalanced parenthesis; write (alpha|beta|gamma|delta|epsilon|phi|rho)")
    parts = [part.strip() for part in re.split(r"[|,]", text.strip("()"))]
    if len(parts) != len(EDGES):
        raise StructureError(_wrong_length(repr(text), len(parts)))
    return tuple(_number(part, text, symbol) for part, symbol in zip(parts, SYMBOLS, strict=True))


def _number(part: str, text: str, symbol: str) -> Fraction:
    try:
        value = Fraction(part if _NUMBER.fullmatch(part) else "")
    except (ValueError, ZeroDivisionError):
        raise StructureError(f"{text!r}: {symbol} is {part!r}; write a number in [0, 1] such as 0.25 or 1/4") from None
    return _snap(value)


def _exact(value: float | Fraction, given: str, symbol: str) -> Fraction:
    try:
        return _snap(Fraction(value))
    except (ValueError, OverflowError, TypeError):
        raise StructureError(f"{given}: {symbol} is {value!r}; every entry of theta is a number in [0, 1]") from None


def _snap(value: Fraction) -> Fraction:
    near = value.limit_denominator(1000)
    return near if abs(near - value) < _NEAR else value


def _wrong_length(given: str, count: int) -> str:
    names = ", ".join(SYMBOLS)
    return f"{given}: {count} entries given; theta has {len(EDGES)}: {names}"


def _unknown(text: str, name: str, rho: Fraction | None) -> str:
    if rho is None and name in catalogue.FAMILIES:
        return f"{text!r}: {name} needs the exponent of its rank, such as {name}:1/2"
    if rho is not None and catalogue.theta_of(name) is not None:
        return f"{text!r}: {name} takes no exponent; write {name!r}"
    known = [*catalogue.FIXED, *catalogue.FAMILIES, *catalogue.PAPER]
    close = difflib.get_close_matches(name, known, n=1)
    hint = f"did you mean {close[0]!r}? " if close else ""
    return f"{text!r} is not a structure; {hint}known: {catalogue.spellings()}"
