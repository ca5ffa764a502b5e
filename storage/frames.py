"""From rows to pandas frames: the columns of every answer, and reading one whole or in pieces.

Frames have the same columns everywhere (command line, web page, Parquet), also when they are empty. Compute
is in FLOPs of the study's convention, losses in nats per token, `seconds` a duration, `created`, `finished`
and `ended` epoch seconds, `value` the log compute multiplier.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sqlalchemy import Select

from space.edges import EDGES
from storage.database import Database
from storage.studies import find_study

if TYPE_CHECKING:
    import pandas as pd

PIECE = 10_000
"""Rows that are in memory at a time where an answer is read in pieces."""

_STUDY = {"study": "str"}
_STRUCTURE = {
    "structure": "str",
    "key": "str",
    **{f"theta_{edge}": "float64" for edge in EDGES},
    "omega": "float64",
    "psi": "float64",
    "nu": "float64",
}
TRIAL_COLUMNS: dict[str, str] = {
    "number": "int64",
    "kind": "str",
    **_STRUCTURE,
    "rung": "Int64",
    "width": "Int64",
    "state": "str",
    "attempts": "int64",
    "steps": "int64",
    "tokens": "int64",
    "flops": "float64",
    "loss": "float64",
    "seconds": "float64",
    "value": "float64",
    "optuna_number": "Int64",
    "created": "float64",
    "finished": "float64",
}
"""Columns of a trials frame and their types. What a reservation without a proposal lacks is missing, and so are the seven
exponents of a structure of more than two factors."""

SELECT_COLUMNS = _STUDY | TRIAL_COLUMNS
"""Columns of trials of several studies."""

BEST_COLUMNS: dict[str, str] = {**SELECT_COLUMNS, "trials": "int64", "total_flops": "float64", "total_seconds": "float64"}
"""Columns of the best trial of each structure; the last three are of all trials of the structure."""

POINT_COLUMNS: dict[str, str] = {
    "number": "int64",
    "structure": "str",
    "key": "str",
    "rung": "int64",
    "width": "int64",
    "step": "int64",
    "tokens": "int64",
    "flops": "float64",
    "loss": "float64",
    "train_loss": "float64",
    "seconds": "float64",
    "warmup": "bool",
}
"""Columns of a points frame and their types."""

ATTEMPT_COLUMNS: dict[str, str] = {
    **_STUDY,
    "number": "int64",
    "kind": "str",
    "structure": "str",
    "key": "str",
    "rung": "Int64",
    "width": "Int64",
    "trial_state": "str",
    "attempt": "int64",
    "state": "str",
    "start_flops": "float64",
    "flops": "float64",
    "seconds": "float64",
    "host": "str",
    "started": "float64",
    "ended": "float64",
    "error": "str",
}
"""Columns of attempts; `state` and `error` are the attempt's."""

STUDY_COLUMNS: dict[str, str] = {
    **_STUDY,
    "budget": "int64",
    "trials": "int64",
    "done": "int64",
    "flops": "float64",
    "seconds": "float64",
    "seed": "int64",
    "flop_convention": "str",
    "target_compute": "float64",
    "corpus_fingerprint": "str",
    "created": "float64",
}
"""Columns of the studies frame and their types; `trials` counts rows of the ledger, `done` those that ended."""

COST_COLUMNS: dict[str, str] = {"trials": "int64", "flops": "float64", "seconds": "float64"}
"""Columns of a cost frame, after the study and what the cost is by."""


@dataclass(frozen=True)
class Question:
    """A question to the database: what to ask, the columns of the answer, and the study it names, which has to exist."""

    statement: Select[*tuple[Any, ...]]
    columns: Mapping[str, str]
    study: str | None = None


def answer(database: Database, question: Question) -> pd.DataFrame:
    """The whole answer as one frame.

    Raises:
        StudyError: the question names a study that does not exist.
        DatabaseError: the database cannot be used.
    """
    with database.reading() as session:
        if question.study is not None:
            find_study(database, session, question.study)
        rows = session.connection().execute(question.statement).all()
    return frame(rows, question.columns)


def pieces(database: Database, question: Question, size: int = PIECE) -> Iterator[pd.DataFrame]:
    """The answer in frames of at most `size` rows, from one snapshot; one frame without rows where there are none.

    Memory does not grow with the answer. Raises as `answer`.
    """
    with database.reading() as session:
        if question.study is not None:
            find_study(database, session, question.study)
        result = session.connection().execute(question.statement.execution_options(yield_per=size))
        empty = True
        for rows in result.partitions():
            empty = False
            yield frame(rows, question.columns)
        if empty:
            yield frame([], question.columns)


def frame(rows: Sequence[Any], columns: Mapping[str, str]) -> pd.DataFrame:
    """Rows as a frame of exactly these columns and types; missing numbers are NaN."""
    import pandas as pd

    values = list(zip(*rows, strict=True)) if rows else [()] * len(columns)
    return pd.DataFrame({name: _column(values[i], kind) for i, (name, kind) in enumerate(columns.items())})


def _column(values: Sequence[Any], kind: str) -> Any:
    import numpy as np
    import pandas as pd

    if kind == "str":
        return pd.array(values, dtype="str")
    return pd.array(values, dtype="Int64") if kind == "Int64" else np.array(values, dtype=kind)
