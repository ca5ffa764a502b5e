"""The index sets of an Einsum (theory: P1 §2, P1 App. E).

A structured layer is a network of nodes: the input X, k factors, the output Y. Its indices are the hyperedges, the sets of at
least two nodes that do not hold both X and Y. With two factors A and B these are

    edge   symbol    in the einsum   size
    XA     alpha     X A             d_in ** theta_alpha
    XB     beta      X B             d_in ** theta_beta
    XAB    gamma     X A B           d_in ** theta_gamma
    YA     delta     Y A             d_out ** theta_delta
    YB     epsilon   Y B             d_out ** theta_epsilon
    YAB    phi       Y A B           d_out ** theta_phi
    AB     rho       A B             min(d_in, d_out) ** theta_rho
"""

from __future__ import annotations

from itertools import combinations

EDGES = ("XA", "XB", "XAB", "YA", "YB", "YAB", "AB")
"""The seven edges of a two-factor Einsum, in the order of theta."""

SYMBOLS = ("alpha", "beta", "gamma", "delta", "epsilon", "phi", "rho")
"""The papers' names of the edges, in the same order."""

EINSUM = "...abc,acdfr,bcefr->...def"
"""The equation over X (alpha, beta, gamma), A (alpha, gamma, delta, phi, rho), B (beta, gamma, epsilon, phi, rho)."""

EXCHANGED = (1, 0, 2, 4, 3, 5, 6)
"""Where each edge goes when the factors A and B trade names: alpha with beta, delta with epsilon."""

TRANSPOSED = (4, 3, 5, 1, 0, 2, 6)
"""Where each edge goes when X and Y trade places: (epsilon, delta, phi, beta, alpha, gamma, rho)."""


def hyperedges(factors: int) -> tuple[frozenset[str], ...]:
    """All edges of an Einsum of `factors` factors, from its definition.

    >>> [len(hyperedges(k)) for k in (1, 2, 3, 4)]
    [2, 7, 18, 41]
    """
    nodes = ["X", *(f"F{i + 1}" for i in range(factors)), "Y"]
    subsets = (frozenset(c) for size in range(2, len(nodes) + 1) for c in combinations(nodes, size))
    return tuple(s for s in subsets if not {"X", "Y"} <= s)
