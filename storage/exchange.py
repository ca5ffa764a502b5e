"""Whole studies as Parquet files, for other labs: what such a file holds, and writing one.

One file is one study. A row is a trial, with its attempts, evaluations, coordinate checks and decisions to stop as lists in it.
The file's metadata hold a manifest under the key `einsearch`: the study, the order of theta, the FLOP convention, the versions
of what wrote it. `storage.importing` reads it back.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from typing import IO, TYPE_CHECKING, Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from space.edges import EDGES
from storage.database import Database
from storage.provenance import versions
from storage.schema import (
    LAYER_KINDS,
    REVISION,
    Attempt,
    CoordinatesRow,
    Decision,
    Driver,
    PointRow,
    StructureRow,
    Study,
    Trial,
)
from storage.studies import find_study

if TYPE_CHECKING:
    import pyarrow as pa

FORMAT = 2
"""Version of the file's layout."""

ADDED = ("coordinates", "decisions")
"""Columns that a file of format 1 does not have."""

MANIFEST = b"einsearch"
RECORDED = ("name", "settings", "budget", "seed", "corpus_fingerprint", "flop_convention", "target_compute", "versions")
"""What the manifest says of the study, with the commit of the code and the time it was created."""

TRIALS = 2_000
"""Trials that are in memory at a time."""

_TRIAL = {
    "number": "int64",
    "kind": "string",
    "state": "string",
    "key": "string",
    "structure": "string",
    "factors": "int64",
    "omega": "float64",
    "psi": "float64",
    "nu": "float64",
    "rung": "int64",
    "width": "int64",
    "config": "string",
    "seed": "int64",
    "loss": "float64",
    "value": "float64",
    "flops": "float64",
    "tokens": "int64",
    "steps": "int64",
    "seconds": "float64",
    "error": "string",
    "origin": "string",
    "created": "float64",
    "started": "float64",
    "finished": "float64",
}
_ATTEMPT = {
    "attempt": "int64",
    "state": "string",
    "start_flops": "float64",
    "start_seconds": "float64",
    "flops": "float64",
    "seconds": "float64",
    "started": "float64",
    "ended": "float64",
    "error": "string",
    "host": "string",
    "versions": "string",
}
_POINT = {
    "attempt": "int64",
    "step": "int64",
    "tokens": "int64",
    "flops": "float64",
    "loss": "float64",
    "train_loss": "float64",
    "seconds": "float64",
    "warmup": "bool",
}
_DECISION = {
    "step": "int64",
    "flops": "float64",
    "loss": "float64",
    "budget": "float64",
    "bound": "float64",
    "frontier": "float64",
    "stopped": "bool",
    "decided": "float64",
}
_COORDINATES = {"step": "int64"} | dict.fromkeys(LAYER_KINDS, "float64")

LISTS: dict[str, tuple[Any, dict[str, str]]] = {
    "points": (PointRow, _POINT),
    "coordinates": (CoordinatesRow, _COORDINATES),
    "decisions": (Decision, _DECISION),
}
"""Lists of a trial beside its attempts: the model, and the columns of the file."""


def schema() -> pa.Schema:
    """The columns of a file."""
    import pyarrow as pa

    def fields(columns: Mapping[str, str]) -> list[pa.Field]:
        return [pa.field(name, pa.type_for_alias(kind)) for name, kind in columns.items()]

    columns = {"attempts": _ATTEMPT} | {name: columns for name, (_, columns) in LISTS.items()}
    lists = {name: pa.struct(fields(kinds)) for name, kinds in columns.items()}
    theta = pa.field("theta", pa.list_(pa.float64()))
    return pa.schema([*fields(_TRIAL), theta, *(pa.field(name, pa.list_(kind)) for name, kind in lists.items())])


def export_study(database: Database, name: str, file: IO[bytes]) -> int:
    """Write a study to a file, from one snapshot; return the number of its trials.

    A trial under way is written as queued: another lab goes on with it from its last evaluation's cost, without its checkpoint.

    Raises:
        StudyError: there is no such study.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    with database.reading() as session:
        study = find_study(database, session, name)
        now, count = database.now(session), 0
        text = json.dumps(manifest(study), sort_keys=True)
        columns = schema().with_metadata({MANIFEST: text.encode()})
        with pq.ParquetWriter(file, columns) as writer:
            for rows in _rows(session, study, now):
                writer.write_table(pa.Table.from_pylist(rows, columns))
                count += len(rows)
    return count


def manifest(study: Study) -> dict[str, Any]:
    """What a file says of its study and of itself."""
    recorded = {name: getattr(study, name) for name in (*RECORDED, "code_commit", "created")}
    return {
        "format": FORMAT,
        "schema": REVISION,
        "theta_order": list(EDGES),
        "flop_convention": study.flop_convention,
        "source": source_of(recorded),
        "written_by": versions(),
        "study": recorded,
    }


def source_of(study: Mapping[str, Any]) -> str:
    """A short name of a study that is the same in every database, and different for studies that differ."""
    # not the settings and the budget, which may change while it goes on
    identity = {name: study[name] for name in ("seed", "corpus_fingerprint", "flop_convention", "created")}
    return hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:16]


def _rows(session: Session, study: Study, now: float) -> Iterator[list[dict[str, Any]]]:
    """The rows of the file, some trials at a time."""
    last = -1
    while trials := session.execute(_trials(study, last)).all():
        last = trials[-1][0].number
        ids = [trial.id for trial, _ in trials]
        attempts = _by_trial(session, select(Attempt, Driver).join(Driver, Driver.id == Attempt.driver_id), Attempt, ids)
        lists = {name: _lines(session, name, ids) for name in LISTS}
        yield [
            _trial_row(trial, structure)
            | {"attempts": [_attempt_row(attempt, driver, now) for attempt, driver in attempts.get(trial.id, [])]}
            | {name: lines.get(trial.id, []) for name, lines in lists.items()}
            for trial, structure in trials
        ]
        session.expunge_all()
        session.add(study)


def _trials(study: Study, after: int) -> Any:
    rows = select(Trial, StructureRow).outerjoin(StructureRow, StructureRow.id == Trial.structure_id)
    return rows.where(Trial.study_id == study.id, Trial.number > after).order_by(Trial.number).limit(TRIALS)


def _by_trial(session: Session, rows: Any, model: Any, ids: Sequence[int]) -> dict[int, list[Any]]:
    found = session.execute(rows.where(model.trial_id.in_(ids)).order_by(*model.__table__.primary_key.columns)).all()
    return {trial: list(group) for trial, group in groupby(found, key=lambda row: int(row[0].trial_id))}


def _lines(session: Session, name: str, ids: Sequence[int]) -> dict[int, list[dict[str, Any]]]:
    """One of `LISTS` of these trials, by their ids."""
    model, columns = LISTS[name]
    found = _by_trial(session, select(model), model, ids)
    return {trial: [{column: getattr(row, column) for column in columns} for (row,) in rows] for trial, rows in found.items()}


def _trial_row(trial: Trial, structure: StructureRow | None) -> dict[str, Any]:
    named = {name: getattr(structure, name, None) for name in ("key", "factors", "omega", "psi", "nu", "theta")}
    named["structure"] = structure.name if structure else None
    row = {name: getattr(trial, name) for name in _TRIAL if name not in named} | named
    row["config"] = None if trial.config is None else json.dumps(trial.config, sort_keys=True)
    row["state"] = "queued" if trial.state == "running" else trial.state
    return row


def _attempt_row(attempt: Attempt, driver: Driver, now: float) -> dict[str, Any]:
    row = {name: getattr(attempt, name) for name in _ATTEMPT if name not in ("host", "versions")}
    if attempt.state == "running":
        row |= {"state": "preempted", "ended": now}
    return row | {"host": driver.host, "versions": json.dumps(driver.versions, sort_keys=True)}
