"""Coverage of the intervals of the laws on synthetic studies with known truth: `python -m benchmarks.laws
[studies]`.

A study resembles a small real one: loss E + A N^-alpha + B D^-beta at N MACs per token and D tokens, dense
models of two sizes at three budgets, structures with one to four runs at those budgets, correlated points
along each run, a loss in excess at the start, and a run effect of 0.5-1 % in log loss. A structure turns its
compute into lambda times as much dense compute.
"""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass

import numpy as np

from storage.laws import Run, Standing, leaderboard

RUNGS = np.array([1.2e11, 3.4e11, 9.6e11])
TARGET = float(RUNGS[-1])
E, ALPHA, BETA = 0.9, 0.6, 0.7
BEST_SIZE, BEST_LOSS = 4e5, 1.8


@dataclass(frozen=True)
class World:
    """What varies between scenarios.

    sigma: run effect in log loss; size_share: share of log lambda that acts as a larger model, the rest acts
    as more data;
    misfit: how far (log) the sizes of a study's rungs are off the best, the same for dense and structures;
    rounding: how far a structure's size is off that of its rung, since widths are integers; exponents: spread
    of d log lambda / d log C.
    """

    sigma: float = 0.0075
    size_share: float = 0.5
    misfit: float = 0.2
    rounding: float = 0.1
    exponents: float = 0.0


def reducible(size: np.ndarray | float, tokens: np.ndarray | float) -> np.ndarray:
    """A N^-alpha + B D^-beta, with the optimum of the largest rung at BEST_SIZE and BEST_LOSS."""
    best_tokens = TARGET / (6 * BEST_SIZE)
    level = BEST_LOSS - E
    share = BETA / (ALPHA + BETA)
    by_size = level * share * (np.asarray(size) / BEST_SIZE) ** -ALPHA
    return by_size + level * (1 - share) * (np.asarray(tokens) / best_tokens) ** -BETA


def best_size(compute: float) -> float:
    """Compute-optimal N: it grows as C^(beta / (alpha + beta))."""
    return BEST_SIZE * (compute / TARGET) ** (BETA / (ALPHA + BETA))


def make_run(key: str, name: str, multiplier: float, budget: float, size: float, world: World, rng: np.random.Generator) -> Run:
    """One constant-rate run with 8-12 evaluations, the first tenth left out as warmup."""
    points = int(rng.integers(8, 13))
    compute = budget * np.linspace(0.1, 1.0, points)
    tokens = compute / (6 * size)
    clean = E + reducible(size * multiplier**world.size_share, tokens * multiplier ** (1 - world.size_share))
    clean += 0.6 * np.exp(-compute / compute[0])
    wiggle = np.convolve(rng.standard_normal(points + 1), [0.8, 0.6], "valid") * 0.003
    loss = clean * np.exp(world.sigma * rng.standard_normal() + wiggle)
    seconds = compute / 6e10 * (size / BEST_SIZE) ** -0.1 * np.exp(0.03 * rng.standard_normal())
    return Run(key, name, compute, loss, seconds, size)


def make_study(world: World, rng: np.random.Generator, structures: int | None = None) -> tuple[list[Run], dict[str, float]]:
    """Runs of one study, and the true multiplier of each structure at the target compute."""
    runs = []
    sizes = [best_size(float(budget)) * np.exp(world.misfit * rng.standard_normal()) for budget in RUNGS]
    for budget, size in zip(RUNGS, sizes, strict=True):
        for factor in (1.0, float(rng.choice([0.5, 2.0]))):
            runs.append(make_run("dense", f"dense-{len(runs)}", 1.0, float(budget), factor * size, world, rng))
    truth = {"dense": 1.0}
    for number in range(structures or int(rng.integers(8, 16))):
        key = f"s{number}"
        truth[key] = float(np.exp(np.clip(rng.normal(-0.1, 0.5), -1.6, 1.3)))
        drift = world.exponents * rng.standard_normal()
        for _ in range(int(rng.integers(1, 5))):
            rung = int(rng.integers(0, 3))
            budget = float(RUNGS[rung])
            here = truth[key] * (budget / TARGET) ** drift
            size = sizes[rung] * np.exp(world.rounding * rng.standard_normal())
            runs.append(make_run(key, f"{key}-{len(runs)}", here, budget, float(size), world, rng))
    return runs, truth


def judge(board: list[Standing], truth: dict[str, float]) -> np.ndarray:
    """Per structure, dense left out: covered, log error, log width, and whether it has one run. (S, 4)."""
    rows = []
    for row in board:
        value = truth[row.key]
        covered = row.multiplier_low <= value <= row.multiplier_high
        width = np.log(row.multiplier_high / row.multiplier_low)
        rows.append((covered, np.log(row.multiplier / value), width, row.runs == 1, row.key == "dense"))
    table = np.array(rows, dtype=float)
    return table[table[:, 4] == 0, :4]


SCENARIOS = {
    "run effect 0.5 %": World(sigma=0.005),
    "run effect 0.75 %": World(),
    "run effect 1 %": World(sigma=0.010),
    "multiplier acts as size": World(size_share=1.0),
    "sizes far off": World(misfit=0.5, rounding=0.2),
    "exponents differ by 0.1": World(exponents=0.1),
}


def main(studies: int = 200) -> None:
    """Print the coverage table."""
    print(f"{studies} studies, level 0.9")
    print(f"{'scenario':26s} coverage  one run   log bias  log rmse  log width  s/board")
    for name, world in SCENARIOS.items():
        rng = np.random.default_rng(0)
        rows, spent = [], 0.0
        for number in range(studies):
            runs, truth = make_study(world, rng)
            start = time.perf_counter()
            board = leaderboard(runs, TARGET, seed=number)
            spent += time.perf_counter() - start
            rows.append(judge(board, truth))
        table = np.concatenate(rows)
        covered, error, width, single = table.T
        print(
            f"{name:26s} {covered.mean():8.3f} {covered[single == 1].mean():8.3f} {error.mean():+10.3f} "
            f"{np.sqrt(np.mean(error**2)):9.3f} {width.mean():10.3f} {spent / studies:8.3f}"
        )


if __name__ == "__main__":
    main(*(int(argument) for argument in sys.argv[1:]))
