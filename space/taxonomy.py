"""The three numbers that govern how a structure trains (P1 §3, square case; signs as corrected in the project's theory).

    omega   parameter sharing   parameters / MACs = Theta(d ** -omega)   best 0
    psi     rank                rank(W) = Theta(d ** psi)                best 1
    nu      compute intensity   MACs / d = Theta(d ** nu)                dense has 1

All are invariant when the factors trade names and under transposition. Inputs are `Fraction`s, so are the results: exact.
"""

from __future__ import annotations

from fractions import Fraction

Theta = tuple[Fraction, ...]


def omega(theta: Theta) -> Fraction:
    """Exponent of parameter sharing, >= 0."""
    alpha, beta, _, delta, epsilon, _, _ = theta
    return min(alpha + delta, beta + epsilon) - min(alpha, epsilon)


def psi(theta: Theta) -> Fraction:
    """Exponent of the rank, at most 1."""
    alpha, _, _, _, epsilon, _, rho = theta
    return min(Fraction(1), 2 + rho - alpha - epsilon)


def nu(theta: Theta) -> Fraction:
    """Exponent of the compute per dimension."""
    alpha, _, _, _, epsilon, _, rho = theta
    return 1 + rho - min(alpha, epsilon)
