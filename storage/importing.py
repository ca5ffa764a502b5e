"""Studies of other labs, from the files that `storage.exchange` writes: all of them enter the database, or none does.

A file is taken for what it is only after its manifest and every row of it were checked. A study that is here already is
completed: trials that are the same here are passed over, new ones are added, planned ones that ended elsewhere are filled in,
and trials that ended otherwise here are a conflict, which is explained.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import delete, func, insert, select, update
from sqlalchemy.exc import DataError, IntegrityError
from sqlalchemy.orm import Session

from space.structure import Structure
from storage import studies
from storage.database import Database
from storage.exchange import LISTS, RECORDED, source_of
from storage.exported import Exported
from storage.proposals import Proposal, structure_id
from storage.schema import FINAL_STATES, Attempt, Driver, PointRow, StructureRow, Study, Trial

_SAME = ("kind", "state", "rung", "width", "seed", "loss", "flops", "tokens", "steps", "error")
"""What two records of one trial must agree on, beside its structure."""

_SHOWN = 3
_MAY_DIFFER = {"seed", "baseline", "known", "known_rung", "explore", "target_compute"}
"""Settings in which studies may differ whose trials are pooled: they choose trials, and change none."""


@dataclass(frozen=True, slots=True)
class Imported:
    """What became of a file: trials that are new here, that were planned here and ended there, and that were here already."""

    study: str
    added: int
    completed: int
    known: int


def import_files(
    database: Database, paths: Sequence[Path], *, name: str | None = None, into: str | None = None
) -> list[Imported]:
    """Bring studies into the database, in one transaction.

    Args:
        name: call the study so here, instead of what the file calls it.
        into: pool the finished trials of the files into this study, under new numbers; its budget grows by as many. Their
            values are left to be computed against its own baseline.

    Raises:
        ImportRefusedError: a file is not an export, or broken, or of another convention, or in conflict with what is here;
            nothing was changed.
        StudyError: there is no study `into`.
    """
    found = []
    with database.session() as session:
        database.lock(session, studies.CREATION_LOCK)
        for path in paths:
            with Exported(path) as file:
                try:
                    found.append(_Import(database, session, file, into or name, into is not None).run())
                except (IntegrityError, DataError) as error:
                    reason = " ".join(str(error.orig).split())
                    raise file.refusal(f"a row of it cannot be ({reason}); have it exported again") from error
    return found


class _Import:
    """One file on its way into one study."""

    def __init__(self, database: Database, session: Session, file: Exported, name: str | None, pool: bool) -> None:
        self._session, self._file, self._pool = session, file, pool
        self._now = database.now(session)
        self._conflicts: list[str] = []
        self._counts = {"added": 0, "completed": 0, "known": 0}
        self._drivers: dict[tuple[str, str], int] = {}
        self._structures: dict[str, tuple[Structure, int]] = {}
        given = dict(file.study) | {"name": name or file.study["name"]}
        self._check_convention(given)
        self._study = studies.find_study(database, session, str(name)) if pool else self._same_study(given)
        database.lock(session, self._study.id)
        if pool:
            self._check_poolable()
        self._number = session.scalar(select(func.max(Trial.number)).where(Trial.study_id == self._study.id))

    def run(self) -> Imported:
        """Read the file, and enter what is new."""
        for rows in self._file.rows():
            wanted = [row for row in rows if row["state"] in FINAL_STATES and row["key"]] if self._pool else rows
            self._enter([self._named(row) for row in wanted])
        if self._conflicts:
            more = f" and {len(self._conflicts) - _SHOWN} more" if len(self._conflicts) > _SHOWN else ""
            raise self._file.refusal(
                f"{len(self._conflicts)} of its trials are not what study {self._study.name!r} has here:"
                f" {'; '.join(self._conflicts[:_SHOWN])}{more}; import it as a study of its own with --as NAME"
            )
        if self._pool:
            self._study.budget += self._counts["added"]
        return Imported(self._study.name, **self._counts)

    def _check_convention(self, given: Mapping[str, Any]) -> None:
        others = set(self._session.scalars(select(Study.flop_convention).distinct())) - {given["flop_convention"]}
        if others:
            raise self._file.refusal(
                f"it counts FLOPs as {given['flop_convention']}, the studies here as {', '.join(sorted(others))}, and these"
                " never mix; import it into a database of its own"
            )

    def _same_study(self, given: Mapping[str, Any]) -> Study:
        """The study of that name, made where there is none."""
        study = self._session.scalar(select(Study).where(Study.name == given["name"]))
        if study is None:
            studies.check_study(given["name"], given["budget"], 0, given["seed"], given["target_compute"])
            study = Study(**given)
            self._session.add(study)
            self._session.flush()
            return study
        fixed = [key for key in RECORDED if key not in ("name", "budget", "versions")]
        mine = {key: getattr(study, key) for key in fixed}
        differences = list(studies.differences({key: given[key] for key in fixed}, mine))
        if differences:
            raise self._file.refusal(
                f"study {study.name!r} exists here with other settings: {'; '.join(differences[:_SHOWN])}; import it under"
                " another name with --as NAME"
            )
        study.budget = max(study.budget, given["budget"])
        return study

    def _check_poolable(self) -> None:
        mine = {"corpus_fingerprint": self._study.corpus_fingerprint} | self._study.settings
        theirs = {"corpus_fingerprint": self._file.study["corpus_fingerprint"]} | self._file.study["settings"]
        given, kept = ({key: side[key] for key in side if key not in _MAY_DIFFER} for side in (theirs, mine))
        differences = list(studies.differences(given, kept))
        if differences:
            raise self._file.refusal(
                f"its trials cannot be pooled with those of study {self._study.name!r}: {'; '.join(differences[:_SHOWN])};"
                " import it as a study of its own"
            )

    def _named(self, row: dict[str, Any]) -> dict[str, Any]:
        """The row, when pooling under its origin, or under its number where it comes from this very study."""
        if not self._pool:
            return row
        source, _, number = (row["origin"] or f"{self._file.source}/{row['number']}").partition("/")
        mine = {name: getattr(self._study, name) for name in (*RECORDED, "created")}
        if source == source_of(mine):
            return row | {"number": int(number), "origin": None}
        return row | {"number": None, "origin": f"{source}/{number}", "value": None}

    def _enter(self, rows: list[dict[str, Any]]) -> None:
        here = self._here(rows)
        new, old = [], []
        for row in rows:
            trial = here.get(row["origin"] if row["number"] is None else row["number"])
            if trial is None:
                new.append(row)
            elif trial.state == "queued" and row["state"] in FINAL_STATES and self._same_plan(trial, row):
                old.append((trial, row))
            else:
                self._compare(trial, row)
        for row in new:
            if row["number"] is None:
                self._number = row["number"] = 0 if self._number is None else self._number + 1
        if not self._conflicts:
            self._insert(new, old)
        self._counts["added"] += len(new)
        self._counts["completed"] += len(old)

    def _here(self, rows: list[dict[str, Any]]) -> dict[Any, Trial]:
        """Trials of these rows that are here, by number or by origin."""
        mine = select(Trial).where(Trial.study_id == self._study.id)
        numbers = [row["number"] for row in rows if row["number"] is not None]
        origins = [row["origin"] for row in rows if row["number"] is None]
        found: dict[Any, Trial] = {t.number: t for t in self._session.scalars(mine.where(Trial.number.in_(numbers)))}
        return found | {t.origin: t for t in self._session.scalars(mine.where(Trial.origin.in_(origins)))}

    def _same_plan(self, trial: Trial, row: Mapping[str, Any]) -> bool:
        plan = ("kind", "rung", "width", "seed")
        same = all(getattr(trial, name) == row[name] for name in plan) and self._key(trial) == row["key"]
        return trial.structure_id is None or same

    def _key(self, trial: Trial) -> str | None:
        return self._session.scalar(select(StructureRow.key).where(StructureRow.id == trial.structure_id))

    def _compare(self, trial: Trial, row: Mapping[str, Any]) -> None:
        """Note a conflict where both ended, and otherwise; what has not ended there says nothing new."""
        if row["state"] not in FINAL_STATES:
            self._counts["known"] += 1
            return
        if trial.state == "running":
            self._conflicts.append(f"trial {trial.number} is running here")
            return
        pairs = [(name, row[name], getattr(trial, name)) for name in _SAME if not self._pool or name != "kind"]
        pairs += [("structure", row["key"], self._key(trial)), ("evaluations", *self._curves(trial, row))]
        other = [f"{name} {theirs} in the file, {mine} here" for name, theirs, mine in pairs if not _equal(theirs, mine)]
        if other:
            self._conflicts.append(f"trial {trial.number}: {', '.join(other)}")
        else:
            self._counts["known"] += 1

    def _curves(self, trial: Trial, row: Mapping[str, Any]) -> tuple[Any, Any]:
        """The evaluations there and here; their numbers, where these differ."""
        mine = select(PointRow.step, PointRow.flops, PointRow.loss).where(PointRow.trial_id == trial.id)
        here = [tuple(point) for point in self._session.execute(mine.order_by(PointRow.step))]
        there = sorted((point["step"], point["flops"], point["loss"]) for point in row["points"])
        return (len(there), len(here)) if len(there) != len(here) else (there, here)

    def _insert(self, new: list[dict[str, Any]], old: list[tuple[Trial, dict[str, Any]]]) -> None:
        ids = []
        if new:
            made = insert(Trial).returning(Trial.id, sort_by_parameter_order=True)
            ids = list(self._session.scalars(made, [self._trial(row) | {"created": row["created"]} for row in new]))
        for trial, row in old:
            for model in (*(model for model, _ in LISTS.values()), Attempt):
                self._session.execute(delete(model).where(model.trial_id == trial.id))
            self._session.execute(update(Trial).where(Trial.id == trial.id).values(**self._trial(row)))
        entered = [*zip(ids, new, strict=True), *((trial.id, row) for trial, row in old)]
        attempts = [self._attempt(one, trial) for trial, row in entered for one in row["attempts"]]
        if attempts:
            self._session.execute(insert(Attempt), attempts)
        for name, (model, _) in LISTS.items():
            lines = [dict(one) | {"trial_id": trial} for trial, row in entered for one in row[name]]
            if lines:
                self._session.execute(insert(model), lines)

    def _trial(self, row: Mapping[str, Any]) -> dict[str, Any]:
        same = ("number", "kind", "state", "rung", "width", "seed", "loss", "value", "flops", "tokens", "steps", "seconds")
        values = {name: row[name] for name in (*same, "error", "origin", "started", "finished")}
        values |= {"study_id": self._study.id, "attempts": len(row["attempts"]), "updated": row["finished"], "told": False}
        return values | self._proposed(row)

    def _proposed(self, row: Mapping[str, Any]) -> dict[str, Any]:
        """The columns of the structure and its realised form; none for a reservation."""
        names = ("structure_id", "config", "sizes", "realised_omega", "realised_psi", "realised_nu")
        if row["key"] is None:
            return dict.fromkeys(names)
        if row["key"] not in self._structures:
            structure = Structure.parse(row["key"])
            self._structures[row["key"]] = structure, structure_id(self._session, structure)
        structure, stored = self._structures[row["key"]]
        config = json.loads(row["config"])
        form = Proposal.of(structure, row["rung"], row["width"], config).realization
        return dict(zip(names, (stored, config, dict(form.sizes), form.omega, form.psi, form.nu), strict=True))

    def _attempt(self, row: Mapping[str, Any], trial: int) -> dict[str, Any]:
        rest = {name: value for name, value in row.items() if name not in ("host", "versions")}
        return rest | {"trial_id": trial, "driver_id": self._driver(row["host"], row["versions"])}

    def _driver(self, host: str, versions: str) -> int:
        """A driver that stands for those of the other lab on one host, with one set of packages."""
        if (host, versions) not in self._drivers:
            process = {"host": host, "machine": "imported", "pid": 0, "process_start": "imported", "state": "closed"}
            driver = Driver(
                study_id=self._study.id, joined=self._now, heartbeat=self._now, versions=json.loads(versions), **process
            )
            self._session.add(driver)
            self._session.flush()
            self._drivers[host, versions] = driver.id
        return self._drivers[host, versions]


def _equal(one: Any, other: Any) -> bool:
    if isinstance(one, float) and isinstance(other, float):
        return math.isclose(one, other, rel_tol=1e-12)
    return bool(one == other)
