"""`StudySettings`: what makes a study this study, as one JSON row."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from space.catalogue import STANDARD
from space.errors import ConfigError
from space.structure import Structure
from trainers.config import TrialConfig


@dataclass(frozen=True, slots=True, kw_only=True)
class Rung:
    """A level of compute: training FLOPs of a trial, and the width of the dense model that sets the cost per token there.

    A structured trial on the rung takes the width whose cost per token is closest to that dense model's, and spends the same
    FLOPs: equal compute, and equal tokens as nearly as widths allow.
    """

    flops: float
    width: int


LAPTOP = (Rung(flops=5e10, width=16), Rung(flops=1e11, width=24), Rung(flops=2e11, width=32))
"""Rungs of a study that takes minutes on two cores; the widths are near the optimum of each."""

BASELINE = ((0, 16), (1, 24), (2, 32), (1, 16), (2, 24), (1, 32))
"""Dense trials of such a study, as (rung, width): the diagonal, and its neighbours, which show that it is near the optimum."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StudySettings:
    """What makes two runs of a study the same study. The defaults take a few minutes on two cores.

    Attributes:
        rungs: levels of compute, ascending.
        baseline: dense trials, (rung, width) each; they give the dense frontier.
        known: structures tried before any is proposed.
        known_rung: the rung they are tried at.
        target_compute: FLOPs at which structures are compared; None for the highest rung's.
        explore: share of proposals drawn at random.
        seed: of the proposals, the initial weights and the batches.
        trial: everything else about a trial; its structure, width, budget and seed are set for each.

    Raises:
        ConfigError, StructureError: a setting is out of its range; names it, and says what is allowed.
    """

    rungs: tuple[Rung, ...] = LAPTOP
    baseline: tuple[tuple[int, int], ...] = BASELINE
    known: tuple[str, ...] = STANDARD
    known_rung: int = 1
    target_compute: float | None = None
    explore: float = 0.15
    seed: int = 0
    trial: TrialConfig = field(default_factory=lambda: TrialConfig(structure="dense", width=32, budget_flops=1.0))

    def __post_init__(self) -> None:
        costs = [rung.flops for rung in self.rungs]
        if not costs or not all(math.isfinite(c) and c > 0 for c in costs) or costs != sorted(set(costs)):
            raise ConfigError(f"rungs spend {costs} FLOPs; give at least one rung, each above 0 and above the one before")
        if not self.baseline:
            raise ConfigError("the baseline is empty; give at least one dense trial, or nothing can be compared")
        for rung in [*(r for r, _ in self.baseline), self.known_rung]:
            if not 0 <= rung < len(self.rungs):
                raise ConfigError(f"rung {rung} is not one of the {len(self.rungs)} rungs; they count from 0")
        if self.target_compute is not None and not (math.isfinite(self.target_compute) and self.target_compute > 0):
            raise ConfigError(f"target_compute is {self.target_compute}; give FLOPs above 0")
        if not 0 <= self.explore <= 1:
            raise ConfigError(f"explore is {self.explore}; give a share in [0, 1]")
        if isinstance(self.seed, bool) or not isinstance(self.seed, int) or self.seed < 0:
            raise ConfigError(f"seed is {self.seed!r}; give an integer of at least 0")
        for name in self.known:
            if Structure.parse(name).is_dense:
                raise ConfigError("dense is among the known structures; it is the baseline already")

    @property
    def target(self) -> float:
        """FLOPs at which structures are compared."""
        return self.rungs[-1].flops if self.target_compute is None else self.target_compute

    @property
    def planned(self) -> int:
        """Trials that the study begins with, before it proposes any."""
        return len(self.baseline) + len(self.known)

    def to_dict(self) -> dict[str, Any]:
        """A JSON-safe dictionary; `from_dict` undoes it."""
        return dataclasses.asdict(self) | {
            "rungs": [dataclasses.asdict(rung) for rung in self.rungs],
            "baseline": [list(pair) for pair in self.baseline],
            "known": list(self.known),
            "trial": self.trial.to_dict(),
        }

    @classmethod
    def from_dict(cls, row: Mapping[str, Any]) -> StudySettings:
        """The settings that `to_dict` wrote.

        Raises:
            ConfigError: an unknown key, or a setting out of its range.
        """
        known = {f.name for f in dataclasses.fields(cls)}
        if unknown := sorted(set(row) - known):
            raise ConfigError(f"unknown setting {unknown[0]!r} of a study; known are {', '.join(sorted(known))}")
        values = dict(row)
        values["rungs"] = tuple(Rung(**rung) for rung in row["rungs"])
        values["baseline"] = tuple((int(rung), int(width)) for rung, width in row["baseline"])
        values["known"] = tuple(row["known"])
        values["trial"] = TrialConfig.from_dict(row["trial"])
        return cls(**values)


OURS = ("structure", "width", "budget_flops", "seed", "corpus_fingerprint")
"""Settings of a trial that the study sets for each."""


def with_trial(settings: StudySettings, changes: Mapping[str, Any]) -> StudySettings:
    """The settings with fields of their trials changed.

    Raises:
        ConfigError: an unknown field, one that the study sets itself, or a value out of its range.
    """
    if taken := [key for key in changes if key in OURS]:
        raise ConfigError(
            f"{taken[0]} is set for each trial by the study; choose it with the rungs, the structures and the seed"
        )
    return dataclasses.replace(settings, trial=TrialConfig.from_dict(settings.trial.to_dict() | dict(changes)))
