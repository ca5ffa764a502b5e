"""Studies with a known answer: every structure follows a power law, and laws and leaderboard are really
fitted.
"""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import numpy as np
import pandas as pd
import pytest

from dashboards.story import ReportBundle
from space.structure import Structure
from storage import results
from storage.coordinates import Movement
from storage.laws import LawSet, Run, laws, leaderboard
from storage.queries import POINT_COLUMNS, TRIAL_COLUMNS

TARGET = 1e13
FITTED = 150
"""Only the first trials of a large study are fitted here, to save time."""
KNOWN = ("dense", "monarch", "btt:1/4", "low_rank:1/2", "kronecker", "tensor_train:1/4", "generic")


def true_multiplier(structure: Structure) -> float:
    """What the made-up world pays: full rank without sharing is 1.6 times dense, each fault costs."""
    if structure.is_dense:
        return 1.0
    return 1.6 * np.exp(-1.4 * float(structure.omega) - 1.1 * (1 - float(structure.psi)) - 0.2 * float(structure.nu))


def proposals(count: int, rng: np.random.Generator) -> list[Structure]:
    """Structures in thirds to eighths that drift to full rank without sharing; after 100 they come again."""
    found: list[Structure] = []
    while len(found) < min(count, 100):
        den = int(rng.choice([3, 4, 5, 6, 8]))
        a, e, r = (int(v) for v in rng.integers(0, den + 1, 3))
        shared = rng.random() > 0.2 + 0.6 * len(found) / count
        b, d = (int(rng.integers(0, den - a + 1)), int(rng.integers(0, den - e + 1))) if shared else (0, 0)
        theta = [a, b, den - a - b, d, e, den - d - e, min(r, den // 4)]
        try:
            found.append(Structure.from_theta([value / den for value in theta]))
        except ValueError:
            continue
    return [found[i * len(found) // count] for i in range(count)]


class World:
    """The frames, laws and leaderboard of a study with `count` trials."""

    def __init__(self, count: int, evaluations: int = 10) -> None:
        self.rng = np.random.default_rng(count)
        self.evaluations = evaluations
        structures = [Structure.parse(name) for name in KNOWN]
        kinds = ["baseline"] * 3 + ["known"] * 6
        tried = [structures[0]] * 3 + structures[1:] + proposals(count - 9, self.rng)
        kinds += ["random" if self.rng.random() < 0.25 else "proposal" for _ in tried[9:]]
        trials, points = [], []
        for number, (structure, kind) in enumerate(list(zip(tried, kinds, strict=True))[:count]):
            rows, trial = self.trial(number, structure, kind)
            trials.append(trial)
            points += rows
        self.trials = pd.DataFrame(trials, columns=list(TRIAL_COLUMNS)).astype(TRIAL_COLUMNS)
        self.points = pd.DataFrame(points, columns=list(POINT_COLUMNS)).astype(POINT_COLUMNS)
        few = self.trials["number"] < FITTED
        self.laws, self.leaderboard = fitted(self.trials[few], self.points[self.points["number"] < FITTED])

    def trial(self, number: int, structure: Structure, kind: str) -> tuple[list[dict[str, Any]], dict[str, Any]]:
        rung, width = number % 3, 128 * 2 ** (number % 3)
        total = 4e11 * 4**rung
        luck = float(np.exp(self.rng.normal(0, 0.004)))
        flops = total * np.linspace(0.02, 1, self.evaluations)
        size = np.exp(0.12 * (np.log(flops / total)) ** 2 / 4)
        loss = (1.1 + 0.9 * (true_multiplier(structure) * flops / 1e11) ** -0.25) * luck * size
        names = {
            "number": number,
            "structure": structure.name,
            "key": structure.key,
            "rung": rung,
            "width": width,
        }
        rows = [
            {
                **names,
                "step": 40 * (i + 1),
                "tokens": f / 1e5,
                "flops": f,
                "loss": value,
                "train_loss": value * 0.98,
                "seconds": f / 2e10,
                "warmup": i == 0,
            }
            for i, (f, value) in enumerate(zip(flops.tolist(), loss.tolist(), strict=True))
        ]
        state = "diverged" if number % 23 == 17 else "truncated" if number % 19 == 13 else "completed"
        value = np.nan if state == "diverged" else np.log(true_multiplier(structure)) + self.rng.normal(0, 0.05)
        end = rows[-1]
        trial = {
            **names,
            **results.identify(structure),
            "kind": kind,
            "state": state,
            "attempts": 1,
            "steps": end["step"],
            "tokens": end["tokens"],
            "flops": end["flops"],
            "loss": end["loss"],
            "seconds": end["seconds"],
            "value": value,
            "optuna_number": number,
            "created": 1.8e9 + number,
            "finished": 1.8e9 + number + 60,
        }
        return rows, trial

    def predictions(self) -> pd.DataFrame:
        """A model of the search that knows the truth but for some noise."""
        known = self.trials[self.trials["value"].notna()]
        noise = np.random.default_rng(1).normal(0, 0.1, len(known))
        return pd.DataFrame({"number": known["number"], "mean": known["value"] + noise, "sd": 0.1})

    def movements(self) -> list[Movement]:
        """Activations that move a little less where the layer is wide."""
        tried = self.trials.groupby(["key", "structure", "width"], sort=False).size()
        return [
            Movement(key, name, int(width), 16, int(count), (0.9, 0.2, 1.3 * (width / 128) ** -0.1, 0.7, 1.1))
            for (key, name, width), count in tried.items()
        ]

    def bundle(self, study: str = "first-look", **more: Any) -> ReportBundle:
        settings = {"trials": len(self.trials), "depth": 3, "context": 128, "seed": 0, "corpus": "python"}
        return ReportBundle(
            study=study,
            trials=self.trials,
            points=self.points,
            leaderboard=self.leaderboard,
            laws=self.laws,
            target_compute=TARGET,
            flops_spent=float(self.trials["flops"].sum()),
            seconds=283.0,
            fingerprint="3f0c9a5e" * 8,
            created="2026-11-21 06:00 UTC",
            settings=settings,
            versions={"einsearch": "0.1.0", "torch": "2.13.0"},
            commands={
                "Run it again": ["einsearch search first-look --trials 25"],
                "Look at it": ["einsearch report first-look"],
            },
            provenance={"study": study, "data fingerprint (SHA-256)": "3f0c9a5e" * 8},
            timed=self.laws,
            predictions=self.predictions(),
            movements=self.movements(),
            **more,
        )


def fitted(trials: pd.DataFrame, points: pd.DataFrame) -> tuple[LawSet | None, pd.DataFrame]:
    """Laws and leaderboard as storage computes them."""
    clean = points[~points["warmup"]]
    runs = [
        Run(
            rows["key"].iloc[0],
            str(number),
            rows["flops"],
            rows["loss"],
            rows["seconds"],
            float(rows["width"].iloc[0]),
        )
        for number, rows in clean.groupby("number")
    ]
    if not any(run.structure == "dense" for run in runs):
        return None, results.empty_leaderboard()
    seconds, flops = (trials.groupby("key")[name].sum() for name in ("seconds", "flops"))
    rows = []
    for standing in leaderboard(runs, TARGET, draws=60):
        row = asdict(standing)
        spent = {"seconds": seconds[standing.key], "flops": flops[standing.key], "trials": standing.runs, "failed": 0}
        rows.append({**row, **results.identify(Structure.parse(standing.key)), **spent})
    return laws(runs, draws=60), pd.DataFrame(rows)[results.COLUMNS]


@pytest.fixture(scope="session")
def empty() -> World:
    return World(0)


@pytest.fixture(scope="session")
def single() -> World:
    return World(1)


@pytest.fixture(scope="session")
def small() -> World:
    return World(25)


@pytest.fixture(scope="session")
def large() -> World:
    return World(2000)
