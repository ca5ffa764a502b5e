"""Which trials a question is about."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, exists, select
from sqlalchemy.orm import aliased

from space.errors import ConfigError
from space.structure import Structure
from storage.schema import TRIAL_KINDS, TRIAL_STATES, StructureRow, Study, Trial

_SLACK = 1e-9  # exponents are fractions rounded to binary
_EXPONENTS = ("omega", "psi", "nu")
_OF_TRIALS = ("kind", "state", "width", "rung")


@dataclass(frozen=True, slots=True, kw_only=True)
class Filters:
    """Which trials: all conditions that are set must hold; ranges include both ends.

    omega, psi and nu are nominal (those of the structure's theta); `structure` is any text that
    `Structure.parse` reads.
    """

    study: str | None = None
    structure: str | None = None
    kind: str | None = None
    state: str | None = None
    width: int | None = None
    rung: int | None = None
    omega: tuple[float, float] | None = None
    psi: tuple[float, float] | None = None
    nu: tuple[float, float] | None = None

    def __post_init__(self) -> None:
        """Raises ConfigError for a state, kind or range that cannot be, StructureError for no structure."""
        for name, given, allowed in (("state", self.state, TRIAL_STATES), ("kind", self.kind, TRIAL_KINDS)):
            if given is not None and given not in allowed:
                raise ConfigError(f"{name} is {given!r}; allowed: {', '.join(allowed)}")
        for name in _EXPONENTS:
            bounds = getattr(self, name)
            if bounds is not None and not bounds[0] <= bounds[1]:
                raise ConfigError(f"{name} is {bounds[0]} to {bounds[1]}; give a range, the lower end first")
        for name, number in (("width", self.width), ("rung", self.rung)):
            if number is not None and not 0 <= number < 2**31:
                raise ConfigError(f"{name} is {number}; give an integer from 0 to {2**31 - 1}")
        if self.structure is not None:
            Structure.parse(self.structure)

    def given(self) -> list[str]:
        """Names of the conditions that are set."""
        return [name for name in self.__slots__ if getattr(self, name) is not None]

    def of_structures(self) -> Filters:
        """The conditions that all trials of a structure in a study meet, or none does."""
        return Filters(**{name: getattr(self, name) for name in ("study", "structure", *_EXPONENTS)})

    def met(self, trial: Any) -> list[ColumnElement[bool]]:
        """The other conditions, asked of each trial that is met: an index that is read in its order is not searched by them."""
        given = [(getattr(trial, name), getattr(self, name)) for name in _OF_TRIALS if getattr(self, name) is not None]
        return [(column.concat("") if isinstance(value, str) else column + 0) == value for column, value in given]

    def conditions(self, trial: Any = Trial, *, each: bool = False) -> list[ColumnElement[bool]]:
        """The conditions on a trial (the model, or an alias of it), as SQL.

        Args:
            each: ask the exponents of each trial that is met, where another index than that of structures is to be followed.
        """
        found = [getattr(trial, name) == getattr(self, name) for name in _OF_TRIALS if getattr(self, name) is not None]
        if self.study is not None:
            study = aliased(Study)
            found.append(trial.study_id == select(study.id).where(study.name == self.study).scalar_subquery())
        one = aliased(StructureRow)
        if self.structure is not None:
            key = Structure.parse(self.structure).key
            found.append(trial.structure_id == select(one.id).where(one.key == key).scalar_subquery())
        ranges = self._ranges(one)
        if ranges and each:
            found.append(exists().where(one.id == trial.structure_id, *ranges))
        elif ranges:
            found.append(trial.structure_id.in_(select(one.id).where(*ranges)))
        return found

    def _ranges(self, structure: Any) -> list[ColumnElement[bool]]:
        """The conditions on a structure's exponents."""
        given = {name: getattr(self, name) for name in _EXPONENTS if getattr(self, name) is not None}
        return [getattr(structure, name).between(low - _SLACK, high + _SLACK) for name, (low, high) in given.items()]
