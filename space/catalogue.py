"""The structures that have names (P1 App. A; theta in the order of `space.edges.EDGES`).

    dense             one factor
    low_rank:r        (1, 0, 0, 0, 1, 0, r)           rank d ** r
    kronecker         (1/2, 1/2, 0, 1/2, 1/2, 0, 0)
    tensor_train:r    Kronecker with rho = r
    monarch           (1/2, 0, 1/2, 0, 1/2, 1/2, 0)   sqrt(d) blocks
    btt:r             Monarch with rho = r            Block Tensor-Train
    generic[:r]       (1/2, 1/4, 1/4, 1/4, 1/2, 1/4, r)

`PAPER` holds the 23 structures of P1's language-model experiments by the names its scripts gave them. Two of them, btt8 and
btt10, are called low rank there and are full rank.
"""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction
from types import MappingProxyType

from space.constraints import DENSE_THETA
from space.taxonomy import Theta


def _theta(text: str) -> Theta:
    return tuple(Fraction(part) for part in text.split())


FIXED: Mapping[str, Theta] = MappingProxyType(
    {
        "dense": DENSE_THETA,
        "monarch": _theta("1/2 0 1/2 0 1/2 1/2 0"),
        "kronecker": _theta("1/2 1/2 0 1/2 1/2 0 0"),
        "generic": _theta("1/2 1/4 1/4 1/4 1/2 1/4 0"),
    }
)
"""Names that stand for one theta."""

FAMILIES: Mapping[str, Theta] = MappingProxyType(
    {
        "low_rank": _theta("1 0 0 0 1 0 0"),
        "btt": FIXED["monarch"],
        "tensor_train": FIXED["kronecker"],
        "generic": FIXED["generic"],
    }
)
"""Names that take an exponent for rho, as in `btt:1/4`."""

PAPER: Mapping[str, Theta] = MappingProxyType(
    {
        "btt1": _theta("1/2 0 1/2 0 1/2 1/2 0"),
        "btt2": _theta("1/3 0 2/3 0 2/3 1/3 0"),
        "btt3": _theta("1/4 0 3/4 0 3/4 1/4 0"),
        "btt5": _theta("2/3 0 1/3 0 1/3 2/3 0"),
        "btt6": _theta("3/4 0 1/4 0 1/4 3/4 0"),
        "btt7": _theta("2/3 0 1/3 0 2/3 1/3 0"),
        "btt8": _theta("1/3 0 2/3 0 1/3 2/3 0"),
        "btt9": _theta("3/4 0 1/4 0 3/4 1/4 0"),
        "btt10": _theta("1/4 0 3/4 0 1/4 3/4 0"),
        "btt11": _theta("1/2 0 1/2 0 1/2 1/2 1/4"),
        "btt12": _theta("1/2 0 1/2 0 1/2 1/2 1/3"),
        "btt13": _theta("1/3 0 2/3 0 2/3 1/3 1/4"),
        "btt14": _theta("2/3 0 1/3 0 1/3 2/3 1/4"),
        "btt15": _theta("2/3 0 1/3 0 2/3 1/3 1/4"),
        "btt16": _theta("1/3 0 2/3 0 1/3 2/3 1/4"),
        "tt1": _theta("1/2 1/2 0 1/2 1/2 0 0"),
        "tt2": _theta("1/3 2/3 0 1/3 2/3 0 0"),
        "tt3": _theta("1/2 1/2 0 1/2 1/2 0 1/4"),
        "tt4": _theta("1/3 2/3 0 1/3 2/3 0 1/4"),
        "l1": _theta("1 0 0 0 1 0 3/4"),
        "l2": _theta("1 0 0 0 1 0 1/2"),
        "g1": _theta("1/2 1/4 1/4 1/4 1/2 1/4 0"),
        "g2": _theta("1/2 1/4 1/4 1/4 1/2 1/4 1/4"),
    }
)
"""The 23 structures of P1's experiments on language."""

STANDARD = ("monarch", "btt:1/4", "low_rank:1/2", "kronecker", "tensor_train:1/4", "generic", "btt2")
"""What a study tries, after dense, before it proposes anything of its own."""


def theta_of(name: str, rho: Fraction | None = None) -> Theta | None:
    """Theta of a name, with rho where the name is a family; None for a name that is not in the catalogue."""
    if rho is not None:
        base = FAMILIES.get(name)
        return (*base[:6], rho) if base is not None else None
    return FIXED.get(name) or PAPER.get(name)


def name_of(theta: Theta) -> str | None:
    """The name of a canonical theta, None where it has none.

    >>> name_of(PAPER["btt11"])
    'btt:1/4'
    """
    for name, fixed in FIXED.items():
        if theta == fixed:
            return name
    for name, base in FAMILIES.items():
        if theta[:6] == base[:6]:
            return f"{name}:{theta[6]}"
    return None


def spellings() -> str:
    """What may be written for a structure, for messages and help."""
    families = [f"{name}:RHO" for name in FAMILIES]
    return ", ".join([*FIXED, *families]) + f", the papers' {', '.join(PAPER)}, or (alpha|beta|gamma|delta|epsilon|phi|rho)"
