"""Which of many points are drawn: every frontier point, and a stratified sample of the others."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from dashboards.web.snapshot import Index, Mask

MOST_DRAWN = 6_000
"""Points drawn beside the frontier unless all are asked for."""
_SEED = 6
_BINS = 40
_PART = 50_000
LEFT_OUT = 255
"""The stratum of items that are not to be taken."""


def pareto(x: npt.NDArray[Any], y: npt.NDArray[Any], among: Mask) -> Mask:
    """(n,) True where no point that is as cheap or cheaper is as low: the frontier of (x, y), lower and left is better.

    Only the points `among` which are True count; of equal points one is taken. Many points are taken in parts, for the frontier
    is one of the parts' frontiers, which are short: so little memory is needed.
    """
    near = np.empty(0, dtype=np.int64)
    for at in range(0, len(x), _PART):
        part = np.flatnonzero(among[at : at + _PART]) + at
        near = np.concatenate([near, part[_pareto(x[part], y[part])]])
    found = np.zeros(len(y), dtype=np.bool_)
    found[near[_pareto(x[near], y[near])]] = True
    return found


def _pareto(x: npt.NDArray[Any], y: npt.NDArray[Any]) -> Mask:
    order = np.lexsort((y, x))
    best = np.ones(len(y), dtype=np.bool_)
    best[1:] = y[order][1:] < np.minimum.accumulate(y[order])[:-1]
    found = np.zeros(len(y), dtype=np.bool_)
    found[order[best]] = True
    return found


def sample(stratum: npt.NDArray[Any], limit: int) -> Index:
    """Places of at most `limit` of the items, in order, the same each time; small strata are kept whole.

    Args:
        stratum: (n,) group of each item, a small integer; items of group LEFT_OUT are not taken. Groups share the limit
            equally as far as they can fill their share.
    """
    groups, sizes = np.unique(stratum, return_counts=True)
    groups, sizes = groups[groups != LEFT_OUT], sizes[groups != LEFT_OUT]
    rng, share = np.random.default_rng(_SEED), _share(sizes, limit)
    members = (np.flatnonzero(stratum == group) for group in groups)
    kept = [mine if len(mine) <= share else rng.choice(mine, share, replace=False) for mine in members]
    return np.sort(np.concatenate([np.empty(0, dtype=np.int64), *kept]))


def _share(sizes: Index, limit: int) -> int:
    """The largest equal share of the groups with which all of them together stay within the limit."""
    low, high = 0, int(sizes.max(initial=0))
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if np.minimum(sizes, middle).sum() <= limit else (low, middle - 1)
    return low


def strata(values: npt.NDArray[Any]) -> npt.NDArray[np.uint8]:
    """(n,) bins of equal width over the logarithm of positive values."""
    bins = np.empty(len(values), dtype=np.uint8)
    if len(values):
        low, high = np.log(values.min()), np.log(values.max())
        for at in range(0, len(values), _PART):
            logs = np.log(values[at : at + _PART]) - low
            bins[at : at + _PART] = np.clip(logs * (_BINS / max(high - low, 1e-6)), 0, _BINS - 1)
    return bins
