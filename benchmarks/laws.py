"""Do the laws' intervals cover the truth, and how fast are they: `python -m benchmarks.laws [studies] [--seed N]`.

A study resembles a small real one: loss E + A N^-alpha + B D^-beta at N MACs per token and D tokens, dense
models of two sizes at three budgets, structures with one to four runs at those budgets, correlated points
along each run, a loss in excess at the start, and a run effect of 0.5-1 % in log loss. A structure turns its
compute into lambda times as much dense compute. In the studies called "best of 10", ten structures have one run each
at a quarter of the target, and the one that leads is looked at: the winner's curse.
"""

from __future__ import annotations

import argparse
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import numpy as np

from storage.laws import Book, Run, Standing, hold_out, rank

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
    of d log lambda / d log C;
    far: ten structures with one run each at a quarter of the target.
    """

    sigma: float = 0.0075
    size_share: float = 0.5
    misfit: float = 0.2
    rounding: float = 0.1
    exponents: float = 0.0
    far: bool = False


def reducible(size: np.ndarray | float, tokens: np.ndarray | float) -> np.ndarray:
    """A N^-alpha + B D^-beta, with the optimum of the largest rung at BEST_SIZE and BEST_LOSS."""
    best_tokens = TARGET / (6 * BEST_SIZE)
    level = BEST_LOSS - E
    share = BETA / (ALPHA + BETA)
    by_size = level * share * (np.asarray(size) / BEST_SIZE) ** -ALPHA
    return by_size + level * (1 - share) * (np.asarray(tokens) / best_tokens) ** -BETA


def best_size(compute: float) -> float:
    """Compute-optimal N: it grows as C^(beta / (alpha + beta))."""
    return float(BEST_SIZE * (compute / TARGET) ** (BETA / (ALPHA + BETA)))


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


class Truth(NamedTuple):
    """True multipliers at the target, and mean losses (nats) of runs of the study's sizes there, by structure."""

    multiplier: dict[str, float]
    loss: dict[str, float]


def make_study(world: World, rng: np.random.Generator, structures: int | None = None) -> tuple[list[Run], Truth]:
    """Runs of one study, and the truth."""
    runs: list[Run] = []
    sizes = [best_size(float(budget)) * np.exp(world.misfit * rng.standard_normal()) for budget in RUNGS]
    for budget, size in zip(RUNGS, sizes, strict=True):
        for factor in (1.0, float(rng.choice([0.5, 2.0]))):
            runs.append(make_run("dense", f"dense-{len(runs)}", 1.0, float(budget), factor * size, world, rng))
    truth = {"dense": 1.0}
    for number in range(10 if world.far else structures or int(rng.integers(8, 16))):
        key = f"s{number}"
        truth[key] = float(np.exp(np.clip(rng.normal(-0.1, 0.25 if world.far else 0.5), -1.6, 1.3)))
        drift = world.exponents * rng.standard_normal()
        for _ in range(1 if world.far else int(rng.integers(1, 5))):
            rung = int(rng.integers(0, 3))
            budget = TARGET / 4 if world.far else float(RUNGS[rung])
            here = truth[key] * (budget / TARGET) ** drift
            size = best_size(budget) if world.far else sizes[rung]
            size *= float(np.exp(world.rounding * rng.standard_normal()))
            runs.append(make_run(key, f"{key}-{len(runs)}", here, budget, size, world, rng))
    top = best_size(TARGET) if world.far else sizes[-1]
    losses = {key: loss_at(value, TARGET, top, world) for key, value in truth.items()}
    losses["dense"] = min(loss_at(1.0, TARGET, run.size, world) for run in runs[4:6])
    return runs, Truth(truth, losses)


def loss_at(multiplier: float, compute: float, size: float, world: World) -> float:
    """Mean loss of a run, nats."""
    by_size, by_data = multiplier**world.size_share, multiplier ** (1 - world.size_share)
    return E + float(reducible(size * by_size, compute / (6 * size) * by_data))


class Judged(NamedTuple):
    """Of one study: per structure but dense, (S,); then the leader, the favourite and the hold-out.

    leader: first of the board that is not dense; favourite: the one most probably best, said: its probability; floor: L_inf.
    """

    multiplier: np.ndarray
    prediction: np.ndarray
    place: np.ndarray
    single: np.ndarray
    error: np.ndarray
    width: np.ndarray
    leader: bool
    said: float
    best: bool
    held_out: bool
    floor: bool


def judge(board: list[Standing], truth: Truth, held_out: bool, floor: bool) -> Judged:
    """Compare a leaderboard with the truth."""
    order = sorted(truth.multiplier, key=lambda key: -truth.multiplier[key])
    rows = [row for row in board if row.key != "dense"]

    def inside(row: Standing) -> bool:
        high = np.inf if np.isnan(row.multiplier_high) else row.multiplier_high
        return bool(row.multiplier_low <= truth.multiplier[row.key] <= high)

    favourite = max(board, key=lambda row: row.probability_best)
    return Judged(
        np.array([inside(row) for row in rows]),
        np.array([row.loss_low <= truth.loss[row.key] <= row.loss_high for row in board]),
        np.array([row.rank_low <= order.index(row.key) + 1 <= row.rank_high for row in board]),
        np.array([row.runs == 1 for row in rows]),
        np.array([np.log(row.multiplier / truth.multiplier[row.key]) for row in rows]),
        np.array([np.log(row.multiplier_high / row.multiplier_low) for row in rows]),
        inside(rows[0]),
        favourite.probability_best,
        order[0] == favourite.key,
        held_out,
        floor,
    )


SCENARIOS = {
    "run effect 0.5 %": World(sigma=0.005),
    "run effect 0.75 %": World(),
    "run effect 1 %": World(sigma=0.010),
    "multiplier acts as size": World(size_share=1.0),
    "sizes far off": World(misfit=0.5, rounding=0.2),
    "exponents differ by 0.1": World(exponents=0.1),
    "best of 10": World(far=True),
    "best of 10, exponents differ": World(far=True, exponents=0.1),
}


def study_of(world: World, number: int, seed: int = 1) -> tuple[Judged, float]:
    """Verdict on one study, and the seconds its leaderboard took."""
    runs, truth = make_study(world, np.random.default_rng([number, seed]))
    start = time.perf_counter()
    book = Book.of(runs)
    fits = book.both(seed=number)
    board = rank(fits["compute"], fits["seconds"], TARGET)
    spent = time.perf_counter() - start
    check, (low, high) = hold_out(runs, seed=number), fits["compute"].l_inf_interval
    assert check is not None
    return judge(board, truth, check.low <= check.observed <= check.high, low <= E <= high), spent


HEADER = (
    "multiplier",
    "one run",
    "leader",
    "loss",
    "rank",
    "p(best)",
    "was best",
    "held out",
    "L_inf",
    "bias",
    "rmse",
    "width",
    "s/board",
)


def coverage(studies: int, seed: int, processes: int = 2) -> None:
    """Print how often 90 % intervals hold the truth, of what; p(best) against how often; log errors of multipliers."""
    print(f"{studies} studies for each row, seed {seed}, level 0.9\n")
    print(f"| {'':28s} | {' | '.join(HEADER)} |\n|{'-' * 30}|{'|'.join('-' * (len(name) + 2) for name in HEADER)}|")
    errors = {}
    with ProcessPoolExecutor(processes) as pool:
        for name, world in SCENARIOS.items():
            found = list(pool.map(partial(study_of, world, seed=seed), range(studies), chunksize=5))
            errors[name] = np.concatenate([row.error for row, _ in found])
            cells = [f"{number:{len(title)}.3f}" for number, title in zip(_numbers(found), HEADER, strict=True)]
            print(f"| {name:28s} | {' | '.join(cells)} |", flush=True)
    alike, unlike = (np.abs(errors[name]) for name in SCENARIOS if name.startswith("best of 10"))
    held = np.mean(unlike <= np.quantile(alike, 0.97))
    print(
        f"\nAn interval as wide for all as 97 % of the errors in 'best of 10' holds {held:.3f} of them where exponents differ."
    )


def _numbers(found: list[tuple[Judged, float]]) -> list[float]:
    """A row of the table, in the order of HEADER."""
    rows = [row for row, _ in found]
    multiplier, loss, place, single, error, width = (
        np.concatenate([getattr(row, field) for row in rows]) for field in Judged._fields[:6]
    )
    leader, *rest = (float(np.mean([getattr(row, field) for row in rows])) for field in Judged._fields[6:])
    numbers = [multiplier.mean(), multiplier[single].mean(), leader, loss.mean(), place.mean(), *rest]
    numbers += [error.mean(), np.sqrt(np.mean(error**2)), np.nanmean(width), np.mean([spent for _, spent in found])]
    return [float(number) for number in numbers]


def refits(structures: int = 1000, runs_each: int = 100, repeats: int = 5) -> None:
    """Print the time of a full fit, and of one after a new result, at 100 000 runs of 1 000 structures."""
    rng = np.random.default_rng(0)
    keys = ["dense", *(f"s{number}" for number in range(1, structures))]
    many = [many_runs(key, runs_each, rng) for key in keys]
    start = time.perf_counter()
    book = Book.of([run for group in many for run in group])
    boards(book)
    full = time.perf_counter() - start
    spent = []
    for number in range(repeats):
        group = many[-1 - number]
        start = time.perf_counter()
        book = book.with_runs([*group, *many_runs(group[0].structure, 1, rng)])
        boards(book)
        spent.append(time.perf_counter() - start)
    print(f"\n{structures} structures, {structures * runs_each} runs of 10 points, 200 draws, both axes and the leaderboard:")
    ratio = full / np.median(spent)
    print(f"full fit {full:.2f} s; after one new result {1e3 * np.median(spent):.0f} ms, {ratio:.0f} times faster")


def many_runs(key: str, count: int, rng: np.random.Generator) -> list[Run]:
    """Runs of one structure at the three budgets."""
    multiplier = 1.0 if key == "dense" else float(np.exp(rng.normal(-0.1, 0.4)))
    found = []
    for number in range(count):
        budget = float(RUNGS[number % 3])
        compute = budget * np.geomspace(0.25, 1.0, 10)
        loss = E + 0.9 * (compute * multiplier / TARGET) ** -0.32
        loss = loss * np.exp(0.01 * rng.standard_normal() + 0.002 * rng.standard_normal(10))
        found.append(Run(key, f"{key}-{number}-{rng.integers(2**31)}", compute, loss, compute / 6e10, best_size(budget)))
    return found


def boards(book: Book) -> list[Standing]:
    """Laws on both axes, and the leaderboard."""
    fits = book.both()
    return rank(fits["compute"], fits["seconds"], TARGET)


def main() -> None:
    """Print everything."""
    parser = argparse.ArgumentParser()
    parser.add_argument("studies", type=int, nargs="?", default=200)
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    coverage(given.studies, given.seed)
    refits()


if __name__ == "__main__":
    main()
