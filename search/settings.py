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

    A structured trial on the rung spends the same FLOPs, at the width whose cost per token is closest to that dense model's. So
    compute is equal; tokens and size are as nearly as multiples of d_head and divisors allow.
    """

    flops: float
    width: int

    def __post_init__(self) -> None:
        _check_positive("rungs: flops", self.flops)
        _check_integer("rungs: width", self.width, 1)


def _is_number(given: object) -> bool:
    return isinstance(given, int | float) and not isinstance(given, bool) and math.isfinite(given)


def _is_integer(given: object) -> bool:
    return isinstance(given, int) and not isinstance(given, bool)


def _check_positive(name: str, given: float) -> None:
    if not (_is_number(given) and given > 0):
        raise ConfigError(f"{name} is {given!r}; give a finite number of FLOPs above 0")


def _check_integer(name: str, given: int, least: int) -> None:
    if not _is_integer(given) or given < least:
        raise ConfigError(f"{name} is {given!r}; give an integer of at least {least}")


LAPTOP = (Rung(flops=4e10, width=16), Rung(flops=8e10, width=24), Rung(flops=1.6e11, width=24))
"""Rungs of a study that takes minutes on two cores; the widths are near the optimum of each."""

BASELINE = ((2, 24), (2, 32), (1, 16), (1, 24), (0, 16))
"""Dense trials of such a study, as (rung, width): the sizes of its rungs and of their neighbours."""


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
        early_stopping: end a run that cannot reach the dense frontier at its own budget (`search.stopping`).
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
    early_stopping: bool = False
    seed: int = 0
    trial: TrialConfig = field(default_factory=lambda: TrialConfig(structure="dense", width=32, budget_flops=1.0))

    def __post_init__(self) -> None:
        costs = [rung.flops for rung in self.rungs]
        if not costs or costs != sorted(set(costs)):
            raise ConfigError(f"rungs spend {costs} FLOPs; give at least one rung, each above the one before")
        if not self.baseline:
            raise ConfigError("baseline is empty; give at least one dense trial, or nothing can be compared")
        for rung, width in self.baseline:
            self._check_rung("baseline", rung)
            _check_integer("baseline: width", width, 1)
        self._check_rung("known_rung", self.known_rung)
        if self.target_compute is not None:
            _check_positive("target_compute", self.target_compute)
        if not (_is_number(self.explore) and 0 <= self.explore <= 1):
            raise ConfigError(f"explore is {self.explore!r}; give a share in [0, 1]")
        if not isinstance(self.early_stopping, bool):
            raise ConfigError(f"early_stopping is {self.early_stopping!r}; give true or false")
        _check_integer("seed", self.seed, 0)
        self._check_known()

    def _check_rung(self, name: str, rung: int) -> None:
        if not _is_integer(rung) or not 0 <= rung < len(self.rungs):
            raise ConfigError(f"{name}: rung {rung!r} is not one of the {len(self.rungs)} rungs; they count from 0")

    def _check_known(self) -> None:
        structures = [Structure.parse(name) for name in self.known]
        for index, structure in enumerate(structures):
            if structure.is_dense:
                raise ConfigError("known: dense is among the known structures; it is the baseline already")
            if not structure.searchable:
                raise ConfigError(f"known: {structure} has fixed sizes or over two factors; give structures of seven exponents")
            if structure in structures[:index]:
                raise ConfigError(f"known: {structure} is there twice; give each structure once")

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
        try:
            values = dict(row)
            values["rungs"] = tuple(Rung(**rung) for rung in row["rungs"])
            values["baseline"] = tuple((rung, width) for rung, width in row["baseline"])
            values["known"] = tuple(row["known"])
            values["trial"] = TrialConfig.from_dict(row["trial"])
        except (KeyError, TypeError, AttributeError) as error:
            raise ConfigError(f"the settings are not those of a study ({error}); give what `to_dict` wrote") from error
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
