"""The trial table: filter, sort and page, over a snapshot. Columns come from a list, never from a request's text."""

from __future__ import annotations

from typing import Annotated, Any, Literal, NamedTuple
from urllib.parse import urlencode

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field

from dashboards.web.snapshot import Index, Mask, Snapshot
from storage.schema import TRIAL_KINDS, TRIAL_STATES, TrialKind, TrialState

Column = Literal[
    "number",
    "structure",
    "kind",
    "state",
    "rung",
    "width",
    "loss",
    "value",
    "flops",
    "tokens",
    "seconds",
    "omega",
    "psi",
    "nu",
    "attempts",
    "created",
    "finished",
]
"""What the table can be sorted by."""

MOST_ROWS = 100


class TrialQuery(BaseModel):
    """Which trials, in which order, which page of them. Empty filters let everything pass."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    sort: Column = "number"
    order: Literal["up", "down"] = "down"
    state: TrialState | Literal[""] = ""
    kind: TrialKind | Literal[""] = ""
    rung: Annotated[int, Field(ge=0, le=2**31 - 1)] | Literal[""] = ""
    width: Annotated[int, Field(ge=1, le=2**31 - 1)] | Literal[""] = ""
    structure: Annotated[str, Field(max_length=200, description="Part of the name of a structure, or its key.")] = ""
    page: Annotated[int, Field(ge=1, le=1_000_000)] = 1
    size: Annotated[int, Field(ge=1, le=MOST_ROWS)] = 50

    def link(self, **changes: object) -> str:
        """The query string with some parts changed; what is at its default is left out."""
        changed = self.model_copy(update=changes)
        given = {name: value for name, value in changed if value != type(self).model_fields[name].default}
        return "?" + urlencode(given)

    @property
    def filtered(self) -> bool:
        """Whether any filter is set."""
        return any(getattr(self, name) != "" for name in ("state", "kind", "rung", "width", "structure"))


class TrialPage(NamedTuple):
    """Rows of the snapshot on this page, how many match in all, and how many pages they fill."""

    rows: list[int]
    matching: int
    pages: int


def page(snapshot: Snapshot, query: TrialQuery) -> TrialPage:
    """The page of a query. A page beyond the last one is empty."""
    order = snapshot.remembered(("order", query.sort, query.order), lambda: _order(snapshot, query.sort, query.order))
    rows = order[_matching(snapshot, query)[order]] if query.filtered else order
    start = (query.page - 1) * query.size
    return TrialPage(rows[start : start + query.size].tolist(), len(rows), max(-(-len(rows) // query.size), 1))


def _order(snapshot: Snapshot, column: Column, order: str) -> npt.NDArray[np.int32]:
    """(T,) rows in the order of a column, equal ones by number, those without a value last."""
    down = order == "down"
    if column in ("structure", "omega", "psi", "nu"):
        keys = _ranks(snapshot, column, down)
    else:
        keys = sort_keys(snapshot, column)
        keys = -keys if down else keys
    return np.argsort(keys, kind="stable").astype(np.int32)


def sort_keys(snapshot: Snapshot, column: Column) -> npt.NDArray[Any]:
    """(T,) numbers that sort as the column does; NaN where a trial has none, which comes last either way."""
    if column == "structure":
        return np.where(snapshot.structure >= 0, _ranks(snapshot, column, False), np.nan)
    if column in ("kind", "state"):
        return snapshot.kind if column == "kind" else snapshot.state
    if column in ("omega", "psi", "nu"):
        return snapshot.place(column)
    return snapshot.numbers[column]


def _ranks(snapshot: Snapshot, column: Column, down: bool) -> npt.NDArray[Any]:
    """(T,) place of each trial's structure in the order of a column; trials without one come last.

    Integers of 16 bits, where they are wide enough: these are sorted several times as fast as the values.
    """
    structures = snapshot.structures
    values = structures.names if column == "structure" else structures.place[:, ("omega", "psi", "nu").index(column)]
    rank = np.unique(np.asarray(values), return_inverse=True)[1]
    ranks = np.append(rank.max(initial=0) - rank if down else rank, len(rank))
    return ranks.astype(np.int16 if len(rank) < 2**15 else np.int32)[snapshot.structure]


def _matching(snapshot: Snapshot, query: TrialQuery) -> Mask:
    found = np.ones(len(snapshot), dtype=np.bool_)
    if query.state:
        found &= snapshot.state == TRIAL_STATES.index(query.state)
    if query.kind:
        found &= snapshot.kind == TRIAL_KINDS.index(query.kind)
    for name in ("rung", "width"):
        if getattr(query, name) != "":
            found &= snapshot.numbers[name] == getattr(query, name)
    if query.structure:
        found &= np.isin(snapshot.structure, _structures(snapshot, query.structure))
    return found


def _structures(snapshot: Snapshot, text: str) -> Index:
    """Rows of the structures whose name holds the text, or whose key is the text."""
    wanted, both = text.strip().casefold(), zip(snapshot.structures.names, snapshot.structures.keys, strict=True)
    found = [row for row, (name, key) in enumerate(both) if wanted in name.casefold() or wanted == key.casefold()]
    return np.array(found, dtype=np.int64)
