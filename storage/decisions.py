"""Decisions whether a run may go on: what a driver says of one, and what the database keeps.

Points, the decisions they led to and the end that follows from one are recorded in one transaction (`Ledger.record`,
`Ledger.finish`), so a point is judged once, and a run that was to be stopped is over.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from sqlalchemy import select

from storage import schema
from storage.database import Database
from storage.schema import StructureRow, Study, Trial

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True, slots=True)
class Decision:
    """What was judged at an evaluation: FLOPs and loss there, the budget, the least loss possible there, the dense loss there.

    Losses in nats per token, compute in FLOPs.
    """

    step: int
    flops: float
    loss: float
    budget: float
    bound: float
    frontier: float

    @property
    def stopped(self) -> bool:
        """Whether the run is to end: it cannot reach the frontier."""
        return self.bound > self.frontier

    def row(self, trial: int, now: float) -> dict[str, Any]:
        """The columns of `schema.Decision`."""
        return asdict(self) | {"trial_id": trial, "stopped": self.stopped, "decided": now}


def decisions_frame(database: Database, study: str) -> pd.DataFrame:
    """Every decision of a study, by trial and step.

    Columns: number (of the trial), key (of its structure), rung, step, flops, loss, budget, bound, frontier, stopped, decided
    (epoch seconds of the database's clock).
    """
    import pandas as pd

    table = schema.Decision
    names = ("step", "flops", "loss", "budget", "bound", "frontier", "stopped", "decided")
    rows = (
        select(Trial.number, StructureRow.key, Trial.rung, *(getattr(table, name) for name in names))
        .join(Trial, Trial.id == table.trial_id)
        .join(StructureRow, StructureRow.id == Trial.structure_id)
        .join(Study, Study.id == Trial.study_id)
        .where(Study.name == study)
        .order_by(Trial.number, table.step)
    )
    with database.reading() as session:
        return pd.DataFrame(session.execute(rows).all(), columns=["number", "key", "rung", *names])
