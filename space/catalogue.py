"""The structures that have names (P1 App. A; P2 §3 and App. C; theta in the order of `space.edges`).

    dense             one factor
    low_rank:r        (1, 0, 0, 0, 1, 0, r)           rank d ** r
    kronecker         (1/2, 1/2, 0, 1/2, 1/2, 0, 0)
    tensor_train:r    Kronecker with rho = r
    monarch           (1/2, 0, 1/2, 0, 1/2, 1/2, 0)   sqrt(d) blocks
    btt:r             Monarch with rho = r            Block Tensor-Train
    generic[:r]       (1/2, 1/4, 1/4, 1/4, 1/2, 1/4, r)

A rank of fixed size is written `low_rank:rank=64`, `btt:rank=4`; Monarch with b blocks, whatever the width, `monarch:blocks=4`:
its two factors are block-diagonal with b blocks each, so gamma = phi = b, alpha and epsilon share the rest of the width, and
rho = d / b**2 (P2 §3).

With k = 3 to 6 factors, called cores in tensor networks, every exponent given is 1/k:

    kronecker3              XA XB XC, YA YB YC
    tensor_train3:r         the same, and AB = BC = r: a chain of cores
    monarch3                XA XAB XABC, YABC YBC YC: order-3 Monarch
    block_tensor_train3:r   the same, and AB = BC = r (P2 App. C, eq. 6; core t there is the factor k + 1 - t here)

`PAPER` holds the 23 structures of P1's language-model experiments by the names its scripts gave them: `btt3` there has two
factors. Two of them, btt8 and btt10, are called low rank there and are full rank.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from fractions import Fraction
from types import MappingProxyType

from space.constraints import DENSE_THETA, Fixed
from space.edges import EDGES, FACTORS, LENGTHS, edge_names
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
"""Names that take an exponent for rho, as in `btt:1/4`, or a rank, as in `btt:rank=4`."""

BLOCKS: Theta = _theta("1 0 0 0 1 0 1")
"""Monarch with a fixed number of blocks: the exponents of what that number leaves of the width."""

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

CORES = ("kronecker", "monarch", "tensor_train", "block_tensor_train")
"""Families of any number of factors, as in `kronecker3`; the last two take an exponent or a rank for the bonds of the chain."""

_CORES = re.compile(rf"({'|'.join(CORES)})([3-{len(FACTORS)}])")


def theta_of(name: str, rho: Fraction | None = None) -> Theta | None:
    """Theta of a name, with rho where the name is a family; None for a name that is not in the catalogue."""
    if match := _CORES.fullmatch(name):
        family, factors = match[1], int(match[2])
        chained = family.endswith("tensor_train")
        return _cores(family, factors, rho or Fraction(0)) if chained == (rho is not None) else None
    if rho is not None:
        base = FAMILIES.get(name)
        return (*base[:6], rho) if base is not None else None
    return FIXED.get(name) or PAPER.get(name)


def sized(name: str, option: str, size: int) -> tuple[Theta, Fixed] | None:
    """Theta and fixed sizes of a name with `blocks=size` or `rank=size`; None where the name takes no such option."""
    if (name, option) == ("monarch", "blocks"):
        return BLOCKS, (("XAB", size), ("YAB", size))
    theta = theta_of(name, Fraction(0))
    if theta is None or option != "rank":
        return None
    return theta, tuple((bond, size) for bond in bonds(LENGTHS[len(theta)]))


def bonds(factors: int) -> list[str]:
    """The edges that join each factor to the next: AB, BC, ..."""
    return [FACTORS[i : i + 2] for i in range(factors - 1)]


def name_of(theta: Theta, fixed: Fixed = ()) -> str | None:
    """The name of a canonical theta with its fixed sizes, None where it has none.

    >>> name_of(PAPER["btt11"])
    'btt:1/4'
    >>> name_of(FAMILIES["low_rank"], (("AB", 64),))
    'low_rank:rank=64'
    """
    if fixed:
        return _name_of_sized(theta, fixed)
    for name, alone in FIXED.items():
        if theta == alone:
            return name
    for name, base in FAMILIES.items():
        if len(theta) == len(EDGES) and theta[:6] == base[:6]:
            return f"{name}:{theta[6]}"
    return _name_of_cores(theta) if len(theta) > len(EDGES) else None


def spellings() -> str:
    """What may be written for a structure, for messages and help."""
    families = [f"{name}:RHO or {name}:rank=N" for name in FAMILIES]
    more = [f"{name}3{':RHO' if name.endswith('train') else ''}" for name in CORES]
    return (
        f"{', '.join([*FIXED, 'monarch:blocks=N', *families, *more])}, the papers' {', '.join(PAPER)},"
        " or (alpha|beta|gamma|delta|epsilon|phi|rho), fixed sizes behind it as in {XAB=4,YAB=4}"
    )


def _cores(family: str, factors: int, rho: Fraction) -> Theta:
    """Theta of a family of `factors` cores, the bonds of the chain with exponent rho."""
    letters = FACTORS[:factors]
    if family in ("kronecker", "tensor_train"):
        sides = {node + f for f in letters for node in "XY"}
    else:
        sides = {"X" + letters[: i + 1] for i in range(factors)} | {"Y" + letters[i:] for i in range(factors)}
    exponents = dict.fromkeys(sides, Fraction(1, factors)) | dict.fromkeys(bonds(factors), rho)
    return tuple(exponents.get(edge, Fraction(0)) for edge in edge_names(factors))


def _name_of_cores(theta: Theta) -> str | None:
    factors = LENGTHS[len(theta)]
    rho = theta[edge_names(factors).index("AB")]
    for family in CORES if not rho else CORES[2:]:
        if theta == _cores(family, factors, rho):
            return f"{family}{factors}:{rho}" if rho else f"{family}{factors}"
    return None


def _name_of_sized(theta: Theta, fixed: Fixed) -> str | None:
    size = fixed[0][1]
    if (theta, fixed) == (BLOCKS, (("XAB", size), ("YAB", size))):
        return f"monarch:blocks={size}"
    factors = LENGTHS[len(theta)]
    names = list(FAMILIES) if factors == 2 else [f"{family}{factors}" for family in CORES[2:]]
    return next((f"{name}:rank={size}" for name in names if sized(name, "rank", size) == (theta, fixed)), None)
