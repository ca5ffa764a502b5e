"""The three numbers that govern how a structure trains (P1 §3, square case; signs as corrected in the project's theory).

    omega   parameter sharing   parameters / MACs = Theta(d ** -omega)   best 0
    psi     rank                rank(W) = Theta(d ** psi)                best 1
    nu      compute intensity   MACs / d = Theta(d ** nu)                dense has 1

For two factors there are closed forms, for a theta in canonical form. For more, with exp(F) the exponent of the MACs of the
best sequence of contractions and exp|A| that of the parameters of a factor A,

    omega = exp(F) - max over the factors of exp|A|
    nu    = exp(F) - 1
    psi   = min(1, the exponent of the smallest cut between X and Y), with more than two factors an upper bound

All are invariant when the factors trade names and under transposition. Inputs are `Fraction`s, so are the results: exact.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from fractions import Fraction
from functools import lru_cache

from space.contraction import Order, cuts, orders, step_values, steps, touching_factor
from space.edges import EDGES, LENGTHS

Theta = tuple[Fraction, ...]


def omega(theta: Theta) -> Fraction:
    """Exponent of parameter sharing, >= 0."""
    if len(theta) != len(EDGES):
        largest = max(_sum(theta, touching) for touching in touching_factor(LENGTHS[len(theta)]))
        return cost(theta) - largest
    alpha, beta, _, delta, epsilon, _, _ = theta
    return min(alpha + delta, beta + epsilon) - min(alpha, epsilon)


def psi(theta: Theta) -> Fraction:
    """Exponent of the rank, at most 1."""
    if len(theta) != len(EDGES):
        return min(Fraction(1), *(_sum(theta, crossing) for crossing in cuts(LENGTHS[len(theta)])))
    alpha, _, _, _, epsilon, _, rho = theta
    return min(Fraction(1), 2 + rho - alpha - epsilon)


def nu(theta: Theta) -> Fraction:
    """Exponent of the compute per dimension."""
    if len(theta) != len(EDGES):
        return cost(theta) - 1
    alpha, _, _, _, epsilon, _, rho = theta
    return 1 + rho - min(alpha, epsilon)


def cost(theta: Theta) -> Fraction:
    """exp(F): the exponent of the MACs of the best sequence of contractions, of any number of factors."""
    return min(costliest for (costliest, _), *_ in sequence_costs(theta, (1,) * len(theta)).values())


@lru_cache(maxsize=4096)
def sequence_costs(theta: Theta, constants: tuple[int, ...]) -> Mapping[Order, tuple[tuple[Fraction, int], ...]]:
    """What the steps of each sequence cost as the width grows, the costliest step first: exponent and constant.

    Args:
        theta: exponents of the edges.
        constants: the sizes of the edges whose size is fixed, 1 for the others.
    """
    factors = LENGTHS[len(theta)]
    values = step_values(factors, lambda at: (_sum(theta, at), math.prod(constants[i] for i in at)))
    return {order: tuple(sorted((values[s] for s in steps(order)), reverse=True)) for order in orders(factors)}


def _sum(theta: Theta, at: Iterable[int]) -> Fraction:
    return sum((theta[i] for i in at), Fraction(0))
