"""Coordinate checks of trials: how far activations moved in their first steps, by kind of layer and width.

What a driver says of one (`CoordinatesLike`), and what the database keeps and answers.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple, Protocol

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from storage.database import Database
from storage.proposals import insert_missing
from storage.schema import LAYER_KINDS, CoordinatesRow, StructureRow, Trial


class CoordinatesLike(Protocol):
    """A look at a run: root mean squares of how activations changed since its start. Zero steps have no look."""

    @property
    def step(self) -> int:
        """Optimiser steps taken."""

    @property
    def qkv(self) -> float:
        """Of queries, keys and values."""

    @property
    def out(self) -> float:
        """Of the attention output."""

    @property
    def up(self) -> float:
        """Of the feed-forward layer's hidden features."""

    @property
    def down(self) -> float:
        """Of the feed-forward output."""

    @property
    def head(self) -> float:
        """Of the logits."""


class Movement(NamedTuple):
    """Trials of one structure at one width after `step` steps: how many, and the root mean square of their changes.

    `changes` are in the order of `storage.schema.LAYER_KINDS`.
    """

    key: str
    name: str
    width: int
    step: int
    trials: int
    changes: tuple[float, ...]


def record_looks(session: Session, trial: int, looks: Sequence[CoordinatesLike]) -> None:
    """Enter looks at a trial that are not there yet, but for those at a run that had diverged by then, which its state says."""
    rows = [{"trial_id": trial, "step": look.step} | {kind: getattr(look, kind) for kind in LAYER_KINDS} for look in looks]
    insert_missing(session, CoordinatesRow, [row for row in rows if all(map(math.isfinite, row.values()))])


def movements(database: Database, study: int) -> list[Movement]:
    """All checks of a study by structure, width and step, in the order of its first trials, then by step and width."""
    squares = [func.avg(column * column) for column in (getattr(CoordinatesRow, kind) for kind in LAYER_KINDS)]
    place = (Trial.structure_id, Trial.width, CoordinatesRow.step)
    means = (
        select(*place, func.min(Trial.number).label("first"), func.count().label("trials"), *squares)
        .select_from(Trial)
        .join(CoordinatesRow, CoordinatesRow.trial_id == Trial.id)
        .where(Trial.study_id == study)
        .group_by(*place)
        .subquery()
    )
    columns = list(means.c)
    query = (
        select(StructureRow.key, StructureRow.name, *columns[1:3], means.c.trials, *columns[5:])
        .join(StructureRow, StructureRow.id == means.c.structure_id)
        .order_by(func.min(means.c.first).over(partition_by=means.c.structure_id), means.c.step, means.c.width)
    )
    with database.reading() as session:
        rows = session.execute(query).all()
    return [
        Movement(key, name, width, step, trials, tuple(map(math.sqrt, squares)))
        for key, name, width, step, trials, *squares in rows
    ]
