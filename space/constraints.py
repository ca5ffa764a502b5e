"""Which theta are structures, and the one name each of them has (P1 §2 and App. B).

simplex         alpha + beta + gamma = 1 and delta + epsilon + phi = 1, every entry in [0, 1]; likewise for more factors
canonical       two factors: min(alpha, epsilon) >= min(beta, delta); on a tie the lexicographically smaller vector.
                More: the factors are named so that A, B, C, ... is a cheapest sequence of contractions, compared by the
                exponents (then the fixed sizes) of its steps from the costliest on; on a tie the lexicographically
                smaller vector.
                A factor without any index is left out.
non-degenerate  nu < 1, else the structure costs as much as the dense matrix; for two factors rho < min(alpha, epsilon)
irreducible     no factor holds only indices of another, which could absorb it

Fixed sizes (`Fixed`) are integers that some edges have at every width. An edge of fixed size has the exponent 0, and the free
edges of its side share the rest of the width. Where every edge of a side that has an exponent is fixed, the exponents stay as
nominal values that only the taxonomy reads. With fixed sizes nu = 1 is allowed: the saving is then a constant factor.
"""

from __future__ import annotations

from fractions import Fraction

from space.contraction import orders
from space.edges import EDGES, EXCHANGED, FACTORS, LENGTHS, SYMBOLS, edge_names, positions, relabelling
from space.errors import StructureError
from space.taxonomy import Theta, nu, sequence_costs

Fixed = tuple[tuple[str, int], ...]
"""Edges of fixed size, each with its size, in the order of theta."""

DENSE_THETA: Theta = tuple(Fraction(x) for x in (1, 0, 0, 1, 0, 0, 0))
"""One factor A on {X, A} and {Y, A}; B and its edges are absent."""

LARGEST_WIDTH = 2**31 - 1
"""Widths beyond this are mistakes, and their divisors would take long to find."""


def permute(theta: Theta, order: tuple[int, ...]) -> Theta:
    """Theta with its entries taken in `order`."""
    return tuple(theta[i] for i in order)


def canonical(theta: Theta) -> Theta:
    """The one of a two-factor theta and its exchange (A and B relabelled) that names the structure."""
    other = permute(theta, EXCHANGED)
    if DENSE_THETA in (theta, other):
        return DENSE_THETA
    mine, theirs = _lead(theta), _lead(other)
    if mine != theirs:
        return theta if mine > theirs else other
    return min(theta, other)


def canonical_form(theta: Theta, fixed: Fixed) -> tuple[Theta, Fixed]:
    """Theta and fixed sizes under the names of the factors that make the form canonical.

    >>> third, sixth = Fraction(1, 3), Fraction(1, 6)
    >>> chain = dict.fromkeys("XA XB XC YA YB YC".split(), third) | {"AB": sixth, "AC": sixth}  # A is the middle
    >>> theta, _ = canonical_form(tuple(chain.get(edge, Fraction(0)) for edge in edge_names(3)), ())
    >>> " ".join(edge for edge, exponent in zip(edge_names(3), theta) if exponent == sixth)
    'AB BC'
    """
    if not fixed and len(theta) == len(EDGES):
        return canonical(theta), ()
    row = _sizes(theta, fixed)
    theta, row = _without_empty_factors(theta, row)
    if not any(row) and len(theta) == len(EDGES):
        return canonical(theta), ()
    theta, row = min(_relabelled(theta, row), key=lambda form: (_preference(form[0]), form))
    return theta, tuple((edge, size) for edge, size in zip(edge_names(LENGTHS[len(theta)]), row, strict=True) if size)


def check(theta: Theta, given: str, fixed: Fixed = ()) -> None:
    """Raise unless theta and the fixed sizes, however labelled, are a structure: dense, or an Einsum that saves compute.

    Raises:
        StructureError: with the constraint that is broken, the values that break it, and `given`, the person's own text.
    """
    names = edge_names(LENGTHS[len(theta)])
    for edge, value in zip(names, theta, strict=True):
        if not 0 <= value <= 1:
            raise StructureError(f"{given}: {_label(edge, len(names))} is {value}; every entry of theta lies in [0, 1]")
    for edge, size in fixed:
        if not 1 <= size <= LARGEST_WIDTH:
            raise StructureError(f"{given}: {edge} is fixed at {size}; a size is a positive integer up to {LARGEST_WIDTH}")
    held = {edge for edge, size in zip(names, _sizes(theta, fixed), strict=True) if size}
    count = (1 << LENGTHS[len(theta)]) - 1
    for side, at in (("input", slice(count)), ("output", slice(count, 2 * count))):
        if held or sum(theta[at]) != 1:
            _check_side(dict(zip(names[at], theta[at], strict=True)), held, f"{given}: ", side)
    for edge in held:
        if edge[0] not in "XY" and theta[positions(LENGTHS[len(theta)])[edge]]:
            raise StructureError(f"{given}: {edge} has a fixed size, so its exponent must be 0")
    if held or not _is_dense(theta):
        _check_degenerate(theta, given, bool(held))
        if held or len(theta) != len(EDGES):
            _check_absorbed(theta, given, held)


def _is_dense(theta: Theta) -> bool:
    if len(theta) != len(EDGES):
        return canonical_form(theta, ())[0] == DENSE_THETA
    return DENSE_THETA in (theta, permute(theta, EXCHANGED))


def _check_side(exponents: dict[str, Fraction], held: set[str], start: str, side: str) -> None:
    free = sum((t for edge, t in exponents.items() if edge not in held), Fraction(0))
    bound = sum((t for edge, t in exponents.items() if edge in held), Fraction(0))
    if {free, bound} == {0, 1}:
        return
    if fixed_here := sorted(held & exponents.keys()):
        raise StructureError(
            f"{start}the exponents of the {side}'s free edges sum to {_show(free)}; they must sum to exactly 1, with exponent 0"
            f" for {', '.join(fixed_here)} of fixed size (or fix every edge of the {side} that has an exponent)"
        )
    two = exponents.keys() <= set(EDGES)
    shown = [(SYMBOLS[EDGES.index(edge)] if two else edge, t) for edge, t in exponents.items() if two or t]
    raise StructureError(
        f"{start}{' + '.join(name for name, _ in shown)} = {' + '.join(str(t) for _, t in shown)} = {_show(free)}; the {side}"
        " exponents must sum to exactly 1 (write thirds as 1/3)"
    )


def _check_degenerate(theta: Theta, given: str, fixed: bool) -> None:
    if len(theta) == len(EDGES):
        bound, rho = max(_lead(theta), _lead(permute(theta, EXCHANGED))), theta[6]
        if rho > bound or (rho == bound and not fixed):
            raise StructureError(
                f"{given}: rho = {rho} must be below min(alpha, epsilon) = {bound}, else the structure costs as much as a dense"
                " matrix; lower rho, or write 'dense'"
            )
        return
    intensity = nu(theta)
    if intensity > 1 or (intensity == 1 and not fixed):
        raise StructureError(
            f"{given}: nu = {intensity} must be below 1, else the structure costs as much as a dense matrix; lower the"
            " exponents of the inner edges or share fewer input and output edges, or write 'dense'"
        )


def _check_absorbed(theta: Theta, given: str, held: set[str]) -> None:
    factors = LENGTHS[len(theta)]
    present = [e for e, t in zip(edge_names(factors), theta, strict=True) if t or e in held]
    letters = [f for f in FACTORS[:factors] if any(f in edge for edge in present)]
    for one in reversed(letters):
        for other in letters:
            if one != other and all(other in edge for edge in present if one in edge):
                raise StructureError(
                    f"{given}: factor {one} shares all its indices with {other}, which can absorb it; leave {one} out, or give"
                    " it an index of its own"
                )


def _sizes(theta: Theta, fixed: Fixed) -> tuple[int, ...]:
    """The fixed size of each edge, 0 where it is free; an edge without an exponent has the size 1 anyway."""
    sizes = dict(fixed)
    row = (sizes.get(edge, 0) for edge in edge_names(LENGTHS[len(theta)]))
    return tuple(0 if size == 1 and not exponent else size for size, exponent in zip(row, theta, strict=True))


def _without_empty_factors(theta: Theta, row: tuple[int, ...]) -> tuple[Theta, tuple[int, ...]]:
    """Only the factors that have an index; two at least, for dense has seven exponents too."""
    factors = LENGTHS[len(theta)]
    present = [e for e, t, size in zip(edge_names(factors), theta, row, strict=True) if t or size]
    kept = [i for i, f in enumerate(FACTORS[:factors]) if any(f in edge for edge in present)]
    if factors == 1:
        return (theta[0], Fraction(0), Fraction(0), theta[1], *[Fraction(0)] * 3), (row[0], 0, 0, row[1], 0, 0, 0)
    kept = (kept + [i for i in range(factors) if i not in kept])[: max(2, len(kept))]
    order = relabelling(tuple(kept), factors)
    return permute(theta, order), tuple(row[i] for i in order)


def _relabelled(theta: Theta, row: tuple[int, ...]) -> list[tuple[Theta, tuple[int, ...]]]:
    """The forms among which the canonical one is; of more than two factors those whose A, B, C, ... is a cheapest sequence."""
    factors = LENGTHS[len(theta)]
    sequences = list(orders(factors))
    if factors > 2:
        costs = sequence_costs(theta, tuple(max(1, size) for size in row))
        least = min(costs.values())
        sequences = [order for order in sequences if costs[order] == least]
    forms = [relabelling(order, factors) for order in sequences]
    return [(permute(theta, form), tuple(row[i] for i in form)) for form in forms]


def _preference(theta: Theta) -> Fraction:
    return -_lead(theta) if len(theta) == len(EDGES) else Fraction(0)


def _lead(theta: Theta) -> Fraction:
    return min(theta[0], theta[4])


def _label(edge: str, edges: int) -> str:
    return f"{SYMBOLS[EDGES.index(edge)]} ({edge})" if edges == len(EDGES) else edge


def _show(value: Fraction) -> str:
    return str(value) if value.denominator < 100 else f"{float(value):.6g}"
