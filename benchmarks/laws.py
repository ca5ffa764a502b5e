"""Do the laws' intervals cover the truth, and how fast are they.

    python -m benchmarks.laws [studies] [--seed N] [--only coverage | refits]

Studies with known truth (`benchmarks.laws_data`) are fitted, and each interval is compared with it. In the first row every
study has a world of its own, drawn from the ranges of `drawn_world`: an interval that is made with a prior can hold the truth
at its level over worlds, and not in each. In the other rows all studies share one world, which puts the method to the test at
a place of these ranges. In "best of 10", ten structures have one run each at a quarter of the target, and the one that leads
is looked at: the winner's curse.
"""

from __future__ import annotations

import argparse
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from functools import partial
from typing import NamedTuple

import numpy as np

from benchmarks.laws_data import TARGET, Truth, World, drawn_world, make_study
from storage.laws import DENSE, Book, Run, Standing, hold_out, rank


class Judged(NamedTuple):
    """Of one study: per structure, but dense and those that are given no number; then the leader, the favourite, the hold-out.

    prediction: of all structures; place: of those with a number, dense included. leader: first of the board that is not dense;
    favourite: the one most probably best, said: its probability; floor: L_inf.
    """

    multiplier: np.ndarray
    prediction: np.ndarray
    place: np.ndarray
    single: np.ndarray
    error: np.ndarray
    width: np.ndarray
    leader: bool | None
    said: float | None
    best: bool | None
    held_out: bool
    floor: bool


def judge(board: list[Standing], truth: Truth, held_out: bool, floor: bool) -> Judged:
    """Compare a leaderboard with the truth."""
    settled = [row for row in board if not np.isnan(row.multiplier_low)]
    order = sorted((row.key for row in settled), key=lambda key: -truth.multiplier[key])
    rows = [row for row in settled if row.key != DENSE]

    def inside(row: Standing) -> bool:
        high = np.inf if np.isnan(row.multiplier_high) else row.multiplier_high
        return bool(row.multiplier_low <= truth.multiplier[row.key] <= high)

    favourite = max(settled, key=lambda row: row.probability_best, default=None)
    return Judged(
        np.array([inside(row) for row in rows], dtype=bool),
        np.array([row.loss_low <= truth.loss[row.key] <= row.loss_high for row in board]),
        np.array([row.rank_low <= order.index(row.key) + 1 <= row.rank_high for row in settled], dtype=bool),
        np.array([row.runs == 1 for row in rows], dtype=bool),
        np.array([np.log(row.multiplier / truth.multiplier[row.key]) for row in rows]),
        np.array([np.log(row.multiplier_high / row.multiplier_low) for row in rows]),
        inside(rows[0]) if rows else None,
        favourite.probability_best if favourite else None,
        order[0] == favourite.key if favourite else None,
        held_out,
        floor,
    )


FAR = World(far=True, structures=10, spread=0.25, step=4.0)
SCENARIOS: dict[str, World | None] = {
    "every study its own world": None,
    "run effect 0.5 %": World(sigma=0.005),
    "run effect 0.75 %": World(),
    "run effect 1 %": World(sigma=0.010),
    "multiplier acts as size": World(size_share=1.0),
    "sizes far off": World(misfit=0.5, rounding=0.2),
    "exponents differ by 0.1": World(exponents=0.1),
    "best of 10": FAR,
    "best of 10, exponents differ": replace(FAR, exponents=0.1),
}


def study_of(world: World | None, number: int, seed: int = 1) -> tuple[Judged, float]:
    """Verdict on one study of a world, or of a world of its own; and the seconds its leaderboard took."""
    rng = np.random.default_rng([number, seed])
    world = world or drawn_world(rng)
    runs, truth = make_study(world, rng)
    start = time.perf_counter()
    book = Book.of(runs)
    fits = book.both(seed=number)
    board = rank(fits["compute"], fits["seconds"], TARGET)
    spent = time.perf_counter() - start
    check, (low, high) = hold_out(runs, seed=number), fits["compute"].l_inf_interval
    assert check is not None
    return judge(board, truth, check.low <= check.observed <= check.high, low <= world.l_inf <= high), spent


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
    leader, *rest = (_mean([getattr(row, field) for row in rows]) for field in Judged._fields[6:])
    numbers = [multiplier.mean(), multiplier[single].mean(), leader, loss.mean(), place.mean(), *rest]
    numbers += [error.mean(), np.sqrt(np.mean(error**2)), np.nanmean(width), np.mean([spent for _, spent in found])]
    return [float(number) for number in numbers]


def _mean(values: list[float | None]) -> float:
    """Over the studies that have the number."""
    return float(np.mean([value for value in values if value is not None]))


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
    """Runs of one structure at the three budgets of a world."""
    multiplier = 1.0 if key == "dense" else float(np.exp(rng.normal(-0.1, 0.4)))
    world, found = World(), []
    for number in range(count):
        budget = world.compute[number % world.budgets]
        compute = budget * np.geomspace(0.25, 1.0, 10)
        loss = world.l_inf + 0.9 * (compute * multiplier / TARGET) ** -0.32
        loss = loss * np.exp(0.01 * rng.standard_normal() + 0.002 * rng.standard_normal(10))
        found.append(Run(key, f"{key}-{number}-{rng.integers(2**31)}", compute, loss, compute / 6e10, world.best_size(budget)))
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
    parser.add_argument("--only", choices=("coverage", "refits"))
    given = parser.parse_args()
    if given.only != "refits":
        coverage(given.studies, given.seed)
    if given.only != "coverage":
        refits()


if __name__ == "__main__":
    main()
