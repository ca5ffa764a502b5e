"""Studies with known truth, for measuring and testing the laws.

A study resembles a small real one: loss E + A N^-alpha + B D^-beta at N MACs per token and D tokens, dense models of two
sizes at each budget, structures with one to a few runs at those budgets, correlated points along each run, a loss in
excess at the start, and a run effect. A structure turns its compute into lambda times as much dense compute.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from storage.laws import DENSE, Run

TARGET = 9.6e11
BEST_SIZE, BEST_LOSS = 4e5, 1.8
"""Compute-optimal size (MACs per token) at TARGET, and its loss (nats)."""


@dataclass(frozen=True, kw_only=True)
class World:
    """What a study's truth is, and how it was run.

    Attributes:
        sigma: run effect in log loss.
        floor: share of L_inf in the loss at the target. alpha, beta: exponents of size and of data.
        size_share: share of log lambda that acts as a larger model, the rest acts as more data.
        misfit: how far (log) the sizes of a study's budgets are off the best, the same for dense and structures.
        rounding: how far a structure's size is off that of its budget, since widths are integers.
        spread, exponents: spread of log lambda over structures, and of d log lambda / d log C.
        structures: how many beside dense. most_runs: each has one to so many.
        budgets, step: how many budgets of compute, each so many times the one before. beyond: target / largest budget.
        far: every structure has one run, at the budget nearest a quarter of the target.
    """

    sigma: float = 0.0075
    floor: float = 0.5
    alpha: float = 0.6
    beta: float = 0.7
    size_share: float = 0.5
    misfit: float = 0.2
    rounding: float = 0.1
    spread: float = 0.5
    exponents: float = 0.0
    structures: int = 11
    most_runs: int = 4
    budgets: int = 3
    step: float = 8**0.5
    beyond: float = 1.0
    far: bool = False

    @property
    def l_inf(self) -> float:
        """Nats."""
        return self.floor * BEST_LOSS

    @property
    def compute(self) -> list[float]:
        """The budgets, ascending, FLOPs."""
        return [float(TARGET / self.beyond / self.step**place) for place in reversed(range(self.budgets))]

    @property
    def quarter(self) -> float:
        """The budget nearest a quarter of the target, FLOPs."""
        return min(self.compute, key=lambda budget: abs(np.log(4 * budget / TARGET)))

    def reducible(self, size: np.ndarray | float, tokens: np.ndarray | float) -> np.ndarray:
        """A N^-alpha + B D^-beta, with its optimum at TARGET at BEST_SIZE and BEST_LOSS."""
        level, share = BEST_LOSS - self.l_inf, self.beta / (self.alpha + self.beta)
        by_size = level * share * (np.asarray(size) / BEST_SIZE) ** -self.alpha
        return by_size + level * (1 - share) * (np.asarray(tokens) / (TARGET / (6 * BEST_SIZE))) ** -self.beta

    def best_size(self, compute: float) -> float:
        """Compute-optimal N: it grows as C^(beta / (alpha + beta))."""
        return float(BEST_SIZE * (compute / TARGET) ** (self.beta / (self.alpha + self.beta)))

    def loss(self, multiplier: float, compute: np.ndarray | float, size: float) -> np.ndarray:
        """Mean loss of a run, nats."""
        by_size, by_data = multiplier**self.size_share, multiplier ** (1 - self.size_share)
        return self.l_inf + self.reducible(size * by_size, np.asarray(compute) / (6 * size) * by_data)


def drawn_world(rng: np.random.Generator) -> World:
    """A world of the ensemble: what a user's study may be like. The ranges hold those of all scenarios."""

    def between(low: float, high: float) -> float:
        return float(rng.uniform(low, high))

    def ratio(low: float, high: float) -> float:
        return float(np.exp(rng.uniform(np.log(low), np.log(high))))

    return World(
        sigma=ratio(0.003, 0.015),
        floor=between(0.1, 0.9),
        alpha=ratio(0.3, 1.0),
        beta=ratio(0.3, 1.0),
        size_share=between(0.0, 1.0),
        misfit=between(0.0, 0.5),
        rounding=between(0.0, 0.2),
        spread=between(0.2, 0.6),
        exponents=between(0.0, 0.1),
        structures=round(ratio(6, 40)),
        most_runs=int(rng.integers(1, 7)),
        budgets=int(rng.integers(3, 6)),
        step=ratio(2.0, 4.0),
        beyond=ratio(1.0, 4.0) if rng.random() < 0.5 else 1.0,
        far=bool(rng.random() < 0.25),
    )


class Sizes(NamedTuple):
    """Sizes of models at one budget, MACs per token: that of its structures and of a dense one, and of another dense one."""

    main: float
    other: float


class Truth(NamedTuple):
    """True multipliers at the target, and mean losses (nats) of runs of sizes as the study's there, by structure."""

    multiplier: dict[str, float]
    loss: dict[str, float]


def make_study(world: World, rng: np.random.Generator) -> tuple[list[Run], Truth]:
    """Runs of one study, and the truth."""
    sizes = {budget: _sizes(world, budget, rng) for budget in sorted({*world.compute, TARGET})}
    runs = [
        make_run(DENSE, f"dense-{size:.0f}-{budget:.3g}", 1.0, budget, size, world, rng)
        for budget in world.compute
        for size in sizes[budget]
    ]
    truth = Truth({DENSE: 1.0}, {DENSE: min(float(world.loss(1.0, TARGET, size)) for size in sizes[TARGET])})
    for number in range(world.structures):
        key, multiplier = f"s{number}", float(np.exp(np.clip(rng.normal(-0.1, world.spread), -1.6, 1.3)))
        truth.multiplier[key], truth.loss[key] = multiplier, float(world.loss(multiplier, TARGET, sizes[TARGET].main))
        drift = world.exponents * rng.standard_normal()
        for _ in range(1 if world.far else int(rng.integers(1, world.most_runs + 1))):
            budget = world.quarter if world.far else world.compute[int(rng.integers(world.budgets))]
            size = sizes[budget].main * float(np.exp(world.rounding * rng.standard_normal()))
            here = multiplier * (budget / TARGET) ** drift
            runs.append(make_run(key, f"{key}-{len(runs)}", here, budget, size, world, rng))
    return runs, truth


def _sizes(world: World, budget: float, rng: np.random.Generator) -> Sizes:
    main = world.best_size(budget) * float(np.exp(world.misfit * rng.standard_normal()))
    return Sizes(main, main * float(rng.choice([0.5, 2.0])))


def make_run(key: str, name: str, multiplier: float, budget: float, size: float, world: World, rng: np.random.Generator) -> Run:
    """One constant-rate run with 8-12 evaluations, the first tenth left out as warmup."""
    points = int(rng.integers(8, 13))
    compute = budget * np.linspace(0.1, 1.0, points)
    clean = world.loss(multiplier, compute, size) + 0.6 * np.exp(-compute / compute[0])
    wiggle = np.convolve(rng.standard_normal(points + 1), [0.8, 0.6], "valid") * 0.003
    loss = clean * np.exp(world.sigma * rng.standard_normal() + wiggle)
    seconds = compute / 6e10 * (size / BEST_SIZE) ** -0.1 * np.exp(0.03 * rng.standard_normal())
    return Run(key, name, compute, loss, seconds, size)
