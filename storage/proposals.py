"""What a trial is to try: a structure at a rung and a width, with the sizes it realises to there."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from sqlalchemy import Insert
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import Session

from space.edges import EDGES
from space.realization import Realization
from space.structure import Structure
from storage import statements
from storage.schema import Base, StructureRow, Trial


@dataclass(frozen=True, slots=True)
class Proposal:
    """A structure at a rung and a width, the trial's configuration, the sizes on a width x width layer."""

    structure: Structure
    rung: int
    width: int
    config: Mapping[str, Any]
    realization: Realization

    @classmethod
    def of(cls, structure: Structure, rung: int, width: int, config: Mapping[str, Any]) -> Proposal:
        """The proposal, its structure realised. Raises StructureError where the width is not positive."""
        return cls(structure, rung, width, config, structure.realize(width, width))

    def columns(self, structure: int) -> dict[str, Any]:
        """What it is in a row of the ledger; `structure` is the id of its structure's row."""
        realised = {f"realised_{name}": getattr(self.realization, name) for name in ("omega", "psi", "nu")}
        plain = {"structure_id": structure, "rung": self.rung, "width": self.width}
        return plain | {"config": dict(self.config), "sizes": dict(self.realization.sizes)} | realised


def fill(trial: Trial, proposal: Proposal, structure: int) -> None:
    """Write a proposal into a row of the ledger; `structure` is the id of its structure's row."""
    for name, value in proposal.columns(structure).items():
        setattr(trial, name, value)


def structure_id(session: Session, structure: Structure) -> int:
    """The id of the structure's row, made where it is new; two studies that meet it at once share one row."""
    connection, key = session.connection(), {"key": structure.key}
    found = connection.scalar(statements.STRUCTURE, key)
    if found is None:
        insert_missing(session, StructureRow, [_row(structure)])
        found = connection.scalars(statements.STRUCTURE, key).one()
    return int(found)


def insert_missing(session: Session, model: type[Base], rows: list[dict[str, Any]]) -> None:
    """Insert rows, leaving alone those whose key is there already."""
    if not rows:
        return
    connection = session.connection()
    connection.execute(_missing(model, connection.dialect.name), rows)


@lru_cache
def _missing(model: type[Base], dialect: str) -> Insert:
    """The statement, made once."""
    table = statements.table(model)
    if dialect == "sqlite":
        return sqlite.insert(table).on_conflict_do_nothing()
    return postgresql.insert(table).on_conflict_do_nothing()


def _row(structure: Structure) -> dict[str, Any]:
    taxonomy = {name: float(getattr(structure, name)) for name in ("omega", "psi", "nu")}
    whole = {"factors": structure.factors, "theta": exponents(structure)}
    return {"key": structure.key, "name": structure.name} | whole | two_factor_columns(structure) | taxonomy


def exponents(structure: Structure) -> list[float]:
    """All exponents as they are stored: input edges, output edges, inner edges; two for the dense matrix."""
    return [1.0, 1.0] if structure.is_dense else [float(t) for t in structure.theta]


def two_factor_columns(structure: Structure) -> dict[str, float | None]:
    """The seven columns of theta: dense is all XA and YA, and structures of more factors leave them empty."""
    if structure.is_dense:
        values: list[float | None] = [float(edge in ("XA", "YA")) for edge in EDGES]
    else:
        values = list(map(float, structure.theta)) if structure.factors == 2 else [None] * len(EDGES)
    return {f"theta_{edge.lower()}": value for edge, value in zip(EDGES, values, strict=True)}
