"""Which theta are searchable, and the one name each of them has (P1 §2 and App. B).

simplex         alpha + beta + gamma = 1 and delta + epsilon + phi = 1, every entry in [0, 1]
canonical       min(alpha, epsilon) >= min(beta, delta); on a tie the lexicographically smaller vector
non-degenerate  rho < min(alpha, epsilon), else the structure costs as much as the dense matrix
"""

from __future__ import annotations

from fractions import Fraction

from space.edges import EDGES, EXCHANGED, SYMBOLS
from space.errors import StructureError
from space.taxonomy import Theta

DENSE_THETA: Theta = tuple(Fraction(x) for x in (1, 0, 0, 1, 0, 0, 0))
"""One factor A on {X, A} and {Y, A}; B and its edges are absent."""


def permute(theta: Theta, order: tuple[int, ...]) -> Theta:
    """Theta with its entries taken in `order`."""
    return tuple(theta[i] for i in order)


def canonical(theta: Theta) -> Theta:
    """The one of theta and its exchange (A and B relabelled) that names the structure."""
    other = permute(theta, EXCHANGED)
    if DENSE_THETA in (theta, other):
        return DENSE_THETA
    mine, theirs = _lead(theta), _lead(other)
    if mine != theirs:
        return theta if mine > theirs else other
    return min(theta, other)


def check(theta: Theta, given: str) -> None:
    """Raise unless theta, in canonical form, is dense or a searchable two-factor structure.

    Raises:
        StructureError: with the constraint that is broken, the values that break it, and `given`, the person's own text.
    """
    for edge, symbol, value in zip(EDGES, SYMBOLS, theta, strict=True):
        if not 0 <= value <= 1:
            raise StructureError(f"{given}: {symbol} ({edge}) is {value}; every entry of theta lies in [0, 1]")
    for side, part in (("input", slice(0, 3)), ("output", slice(3, 6))):
        if (total := sum(theta[part], Fraction(0))) != 1:
            names = " + ".join(SYMBOLS[part])
            raise StructureError(
                f"{given}: {names} = {_sum(theta[part])} = {_show(total)}; the {side} exponents must sum to exactly 1"
                " (write thirds as 1/3)"
            )
    if theta == DENSE_THETA:
        return
    alpha, epsilon, rho = theta[0], theta[4], theta[6]
    if rho >= min(alpha, epsilon):
        raise StructureError(
            f"{given}: rho = {rho} must be below min(alpha, epsilon) = {min(alpha, epsilon)}, else the structure costs as"
            " much as a dense matrix; lower rho, or write 'dense'"
        )


def _lead(theta: Theta) -> Fraction:
    return min(theta[0], theta[4])


def _sum(values: Theta) -> str:
    return " + ".join(map(str, values))


def _show(value: Fraction) -> str:
    return str(value) if value.denominator < 100 else f"{float(value):.6g}"
