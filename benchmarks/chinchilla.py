"""A known answer: L(N, D) on digitised points of Hoffmann et al. (2022), from several starts.

    python -m benchmarks.chinchilla POINTS.csv

The points are Epoch AI's, digitised for Besiroglu et al. (2024, arXiv 2404.10102) and published in their repository
"epoch-research/analyzing-chinchilla" on GitHub; they are not part of this project. POINTS.csv has a line of names and a point a
line: `params` (N), `flops` (C = 6 N D) and `loss` (nats per token). The summed Huber objective with delta = 1e-3 has a known
optimum on all 245 of them, and on the 240 that are left without the five highest losses. Exit code 1 says that a fit missed it.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np

from storage.laws.chinchilla import FLOPS_PER_MAC, LossSurface, fit_surface
from storage.laws.run import Array

KNOWN = {240: 0.00101827402, 245: 0.0018260105}
"""The least value of the objective, by the number of points."""

PUBLISHED = (1.8172, 477.8, 2143.0, 0.3473, 0.3672)
"""E, A, B, alpha and beta there, on 240 points."""

CLOSE = 1e-6
STARTS = (None, (0.34, 0.28), (0.05, 0.05), (0.05, 1.5), (1.5, 0.05), (1.5, 1.5), (0.7, 0.7))
"""alpha and beta to begin at; None for the fit's own grid of them."""


def points(path: Path) -> Array:
    """N, C and L of all points by falling loss, (n, 3)."""
    table = np.genfromtxt(path, delimiter=",", names=True)
    columns = np.column_stack([table[name] for name in ("params", "flops", "loss")])
    return np.asarray(columns[np.argsort(-columns[:, 2])])


def line(name: str, objective: float, numbers: tuple[float, ...]) -> str:
    floor, size, data, *exponents = numbers
    return f"| {name} | {objective:.11f} | {floor:.4f} | {size:.1f} | {data:.0f} | {exponents[0]:.4f} | {exponents[1]:.4f} |"


def fitted(table: Array, start: tuple[float, float] | None) -> LossSurface:
    """The fit of some points, from a start (alpha, beta)."""
    params, flops, loss = table.T
    return fit_surface(params, flops / FLOPS_PER_MAC / params, loss, None if start is None else [start])


def main() -> None:
    """Print a table for each number of points."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("points", type=Path, metavar="POINTS.csv")
    table, missed = points(parser.parse_args().points), False
    for count, known in KNOWN.items():
        print(f"\n| {count} points, from alpha, beta | objective | E | A | B | alpha | beta |\n|---|---|---|---|---|---|---|")
        for start in STARTS:
            law = fitted(table[-count:], start)
            found = (law.floor, float(np.exp(law.log_a)), float(np.exp(law.log_b)), law.alpha, law.beta)
            missed = missed or abs(law.objective / known - 1) > CLOSE
            print(line("the fit's own grid" if start is None else f"{start[0]}, {start[1]}", law.objective, found), flush=True)
        if count == min(KNOWN):
            print(line("published", known, PUBLISHED))
        else:
            print(f"| published | {known} | | | | | |")
    sys.exit(int(missed))


if __name__ == "__main__":
    main()
