"""Versions timed in turns there and back, A B C D D C B A, so that what else the machine does falls on all of them.

A time is the least of all turns. A ratio is the median over turns of one turn's times: the two versions run one right after the
other there, at one speed of the processor. Where it is close to 1 and not sure, these two take more turns. Freed memory is kept
by the process, as a training loop's allocator does: which version faults in the pages of a large tensor would be chance.
"""

from __future__ import annotations

import ctypes
import time
from collections.abc import Callable
from contextlib import suppress
from statistics import median, quantiles

CLOSE, ERROR, ROUNDS = 0.1, 0.01, 3
"""A ratio to dense up to so far above 1 is measured in more turns until its error is this small, in so many rounds at most."""

M_MMAP_MAX, M_TRIM_THRESHOLD = -4, -1
"""Of glibc's `mallopt`."""


def keep_freed_memory() -> None:
    """Have the C library give no memory back to the system; one other than glibc stays as it is."""
    with suppress(AttributeError):
        ctypes.CDLL(None).mallopt(M_MMAP_MAX, 0)
        ctypes.CDLL(None).mallopt(M_TRIM_THRESHOLD, 2**31 - 1)


def timed(run: Callable[[], None]) -> float:
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def in_turns(runs: dict[str, Callable[[], None]], seconds: float, repetitions: int) -> dict[str, list[float]]:
    """Seconds of each version in each turn; at least one, then while there is time."""
    end = time.perf_counter() + seconds
    turns: list[dict[str, float]] = []
    while not turns or (len(turns) < repetitions and sum(turns[-1].values()) < end - time.perf_counter()):
        back = len(turns) % 2
        turns.append({name: timed(runs[name]) for name in (reversed(runs) if back else runs)})
    return {name: [turn[name] for turn in turns] for name in runs}


def ratios(times: dict[str, list[float]]) -> list[float]:
    """Dense's time over ours in each turn."""
    return [dense / ours for dense, ours in zip(times["dense"], times["ours"], strict=True)]


def to_dense(times: dict[str, list[float]]) -> float:
    """The median over turns."""
    return median(ratios(times))


def in_doubt(times: dict[str, list[float]]) -> bool:
    """Whether the ratio is close to 1 or below, and its standard error, from the middle half of the turns, above `ERROR`."""
    found = ratios(times)
    if median(found) > 1 + CLOSE:
        return False
    if len(found) < 4:
        return True
    low, _, high = quantiles(found, n=4)
    return (high - low) / len(found) ** 0.5 > ERROR


def until_sure(runs: dict[str, Callable[[], None]], seconds: float, repetitions: int) -> dict[str, list[float]]:
    """Like `in_turns`, after a run of ours that does not count, and then dense and ours alone for as long again, up to `ROUNDS`
    times, where their ratio is in doubt.
    """
    runs["ours"]()
    times = in_turns(runs, seconds, repetitions)
    for _ in range(ROUNDS):
        if not in_doubt(times):
            break
        for name, more in in_turns({name: runs[name] for name in ("dense", "ours")}, seconds, repetitions).items():
            times[name] += more
    return times
