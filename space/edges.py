"""The index sets of an Einsum (theory: P1 §2, P1 App. E).

A structured layer is a network of nodes: the input X, k factors A, B, C, ..., the output Y. Its indices are the hyperedges, the
sets of at least two nodes that do not hold both X and Y. With two factors A and B these are

    edge   symbol    in the einsum   size
    XA     alpha     X A             d_in ** theta_alpha
    XB     beta      X B             d_in ** theta_beta
    XAB    gamma     X A B           d_in ** theta_gamma
    YA     delta     Y A             d_out ** theta_delta
    YB     epsilon   Y B             d_out ** theta_epsilon
    YAB    phi       Y A B           d_out ** theta_phi
    AB     rho       A B             min(d_in, d_out) ** theta_rho

With k factors there are 2**k - 1 input edges, as many output edges, and 2**k - 1 - k inner edges, those among the factors. An
edge is named by its nodes; theta lists the input edges, the output edges, then the inner edges, each by number of factors and
then alphabetically (`edge_names`).
"""

from __future__ import annotations

from functools import cache
from itertools import combinations

FACTORS = "ABCDEF"
"""Names of the factors, as many as a structure may have."""


@cache
def edge_names(factors: int) -> tuple[str, ...]:
    """The edges of an Einsum of `factors` factors, in the order of theta.

    >>> edge_names(1)
    ('XA', 'YA')
    >>> " ".join(edge_names(3))
    'XA XB XC XAB XAC XBC XABC YA YB YC YAB YAC YBC YABC AB AC BC ABC'
    """
    groups = ["".join(c) for size in range(1, factors + 1) for c in combinations(FACTORS[:factors], size)]
    return (*("X" + g for g in groups), *("Y" + g for g in groups), *(g for g in groups if len(g) > 1))


EDGES = edge_names(2)
"""The seven edges of a two-factor Einsum, in the order of theta."""

SYMBOLS = ("alpha", "beta", "gamma", "delta", "epsilon", "phi", "rho")
"""The papers' names of the edges, in the same order."""

EINSUM = "...abc,acdfr,bcefr->...def"
"""The equation over X (alpha, beta, gamma), A (alpha, gamma, delta, phi, rho), B (beta, gamma, epsilon, phi, rho)."""

LENGTHS = {len(edge_names(k)): k for k in range(1, len(FACTORS) + 1)}
"""Number of factors by the number of entries of theta: 2, 7, 18, 41, 88 and 183 entries for 1 to 6 factors."""


@cache
def positions(factors: int) -> dict[str, int]:
    """Where each edge stands in theta."""
    return {edge: i for i, edge in enumerate(edge_names(factors))}


@cache
def relabelling(kept: tuple[int, ...], factors: int) -> tuple[int, ...]:
    """Where each edge of the factors `kept` comes from when they are named A, B, ... in the order given.

    Args:
        kept: numbers of old factors, 0 for A; all of them for a permutation, fewer where the others are left out.
        factors: number of old factors.

    >>> relabelling((1, 0), 2) == EXCHANGED
    True
    """
    old = positions(factors)
    names = {FACTORS[i]: FACTORS[k] for i, k in enumerate(kept)}
    moved = (sorted(names.get(node, node) for node in edge) for edge in edge_names(len(kept)))
    return tuple(old["".join(sorted(nodes, key=lambda n: (n not in "XY", n)))] for nodes in moved)


EXCHANGED = relabelling((1, 0), 2)
"""Where each edge goes when the factors A and B trade names: alpha with beta, delta with epsilon."""


@cache
def mirrored(factors: int) -> tuple[int, ...]:
    """Where each edge comes from when X and Y trade places, the factors keeping their names."""
    at, swap = positions(factors), str.maketrans("XY", "YX")
    return tuple(at[edge.translate(swap)] for edge in edge_names(factors))


def hyperedges(factors: int) -> tuple[frozenset[str], ...]:
    """All edges of an Einsum of `factors` factors, from their definition.

    >>> [len(hyperedges(k)) for k in (1, 2, 3, 4)]
    [2, 7, 18, 41]
    """
    nodes = ["X", *(f"F{i + 1}" for i in range(factors)), "Y"]
    subsets = (frozenset(c) for size in range(2, len(nodes) + 1) for c in combinations(nodes, size))
    return tuple(s for s in subsets if not {"X", "Y"} <= s)
