"""The trial table: filter, sort and page, over a snapshot."""

from __future__ import annotations

from typing import Annotated, Literal, NamedTuple
from urllib.parse import urlencode

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from dashboards.web.ordering import Column, ordered
from dashboards.web.snapshot import Mask, Snapshot, Structures
from storage.schema import TRIAL_KINDS, TRIAL_STATES, TrialKind, TrialState

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
    order = ordered(snapshot, query.sort).towards(query.order)
    rows = order[_matching(snapshot, query)[order]] if query.filtered else order
    start = (query.page - 1) * query.size
    return TrialPage(rows[start : start + query.size].tolist(), len(rows), max(-(-len(rows) // query.size), 1))


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
        found &= _named(snapshot.structures, query.structure)[snapshot.structure]
    return found


def _named(structures: Structures, text: str) -> Mask:
    """(S + 1,) the structures whose name holds the text, or whose key is the text; at the end: none at all does not."""
    wanted = text.strip().casefold()
    return np.array([wanted in name or wanted == key for name, key in structures.folded] + [False])
