"""The sizes of the edges of one side: integers whose product is exactly the width, near to what the exponents ask.

    targets   theta_i log(width), what the logarithms of the sizes should be
    nearest   the sizes that minimise sum (log d_i - theta_i log(width))**2, with d_i = 1 wherever theta_i = 0

The sizes are found edge by edge. For each divisor that the edges so far can multiply to, only the nearest way to reach it is
kept, so the work grows with the number of edges and not with the number of ways to share a width among them.
"""

from __future__ import annotations

import math
from functools import lru_cache
from itertools import count

TOLERANCE = math.log(2)
"""A width is padded until every size is within this factor (in logarithm) of what theta asks: a factor of two."""


@lru_cache(maxsize=4096)
def nearest_sizes(width: int, exponents: tuple[float, ...]) -> tuple[int, ...]:
    """The nearest sizes of the smallest width >= `width` that has some within the tolerance.

    Where the divisors of a width are too coarse (a prime, say), it is padded up to the next one that fits.

    >>> nearest_sizes(768, (0.5, 0.0, 0.5))
    (24, 1, 32)
    >>> nearest_sizes(257, (0.5, 0.0, 0.5))
    (13, 1, 20)
    """
    for padded in count(width):
        targets = tuple(t * math.log(padded) for t in exponents)
        if math.log(_largest_prime(padded)) > max(targets) + TOLERANCE + 1e-9:
            continue
        sizes = _nearest(padded, targets)
        if all(abs(math.log(d) - x) <= TOLERANCE for d, x in zip(sizes, targets, strict=True)):
            return sizes
    raise AssertionError("unreachable: a power of two always fits")


def _nearest(width: int, targets: tuple[float, ...]) -> tuple[int, ...]:
    """The nearest sizes whose product is `width`; of equally near ones the lexicographically smallest."""
    last = max(i for i, x in enumerate(targets) if x > 0) if width > 1 else -1
    ways: dict[int, tuple[float, tuple[int, ...]]] = {1: (0.0, ())}
    for i, target in enumerate(targets):
        found: dict[int, tuple[float, tuple[int, ...]]] = {}
        for used, (squares, sizes) in ways.items():
            rest = width // used
            for d in _choices(rest, target, i == last):
                way = (squares + (math.log(d) - target) ** 2, (*sizes, d))
                if used * d not in found or _rank(way) < _rank(found[used * d]):
                    found[used * d] = way
        ways = found
    return ways[width][1]


def _choices(rest: int, target: float, takes_all: bool) -> tuple[int, ...]:
    if target == 0:
        return (1,)
    return (rest,) if takes_all else divisors(rest)


def _rank(way: tuple[float, tuple[int, ...]]) -> tuple[float, tuple[int, ...]]:
    return round(way[0], 12), way[1]


@lru_cache(maxsize=4096)
def divisors(n: int) -> tuple[int, ...]:
    """All divisors of n, ascending.

    >>> divisors(12)
    (1, 2, 3, 4, 6, 12)
    """
    small = [i for i in range(1, math.isqrt(n) + 1) if n % i == 0]
    return tuple(sorted({*small, *(n // i for i in small)}))


def _largest_prime(n: int) -> int:
    """The largest prime factor of n, 1 for 1: one size is a multiple of it."""
    largest, d = 1, 2
    while d * d <= n:
        if n % d:
            d += 1
        else:
            largest, n = d, n // d
    return max(largest, n)
