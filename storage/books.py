"""The book of a study's laws, kept in the database: what each structure's runs say, so that a result costs one structure.

A row for each structure (kind `evidence` of the fits) holds its frontier and sums under the number and FLOPs of the
trials they are made of. Where these differ from the ledger's totals, the structure is read and reduced anew.
"""

from __future__ import annotations

import contextlib
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary

import numpy as np

from space.errors import DatabaseError
from storage.curves import by_chunks, measured
from storage.database import Database
from storage.fits import packed, save_fits, settings_hash, stored_fits, unpacked
from storage.laws import DENSE, Book
from storage.laws.book import Table
from storage.laws.evidence import SHARES, SUMS, Scale
from storage.laws.frontier import REASONS, Front, fronts
from storage.laws.run import AXES, by_structure
from storage.studies import StudyRecord

EVIDENCE = "evidence"
METHOD = 5
"""Version of the numerics. What another version kept is not used."""

Totals = dict[str, tuple[int, float]]


class Held(NamedTuple):
    """A book, and the number and FLOPs of the trials that it is made of, by structure."""

    totals: Totals
    book: Book


_HELD: WeakKeyDictionary[Database, dict[int, Held]] = WeakKeyDictionary()
"""The books that were last made of the studies of an open database, so that they are not read again after every result."""


def book(database: Database, study: StudyRecord, *, keep: bool = False, ledger: Totals | None = None) -> Book | None:
    """The book of the study as the ledger stands; None without a usable dense run.

    With `keep`, what had to be reduced anew is kept for the next time, where the database can be written. Who has just read
    what is `measured` gives it as `ledger`.
    """
    ledger = measured(database, study) if ledger is None else ledger
    held = _HELD.get(database, {}).get(study.id)
    if held is None or not held.totals.keys() <= ledger.keys():
        whole = _read(database, study, ledger, keep)
    else:
        whole, stale = held.book, [key for key, totals in ledger.items() if held.totals.get(key) != totals]
        for runs in by_chunks(database, study, stale):
            whole = whole.with_runs(runs)
        if keep and stale:
            _keep(database, study, whole, {key: ledger[key] for key in stale})
    if whole is not None:
        _HELD.setdefault(database, {})[study.id] = Held(ledger, whole)
    return whole


def _read(database: Database, study: StudyRecord, ledger: Totals, keep: bool) -> Book | None:
    """The book from what is kept in the database, and from the curves where these are newer."""
    known = {entry["structure"]: entry for entry in _entries(database, study) if entry["structure"] in ledger}
    stale = [key for key, totals in ledger.items() if key not in known or known[key]["trials"] != list(totals)]
    old = {key: known[key] for key in known if key not in set(stale) and known[key]["front"] is not None}
    found = {key: _front(entry["front"]) for key, entry in old.items()}
    fresh: dict[str, Front] = {}
    for runs in by_chunks(database, study, stale):
        fresh |= fronts(by_structure(runs))
    if DENSE not in found and DENSE not in fresh:
        return None
    whole = Book(found | fresh, {axis: {key: _table(entry["sums"][axis]) for key, entry in old.items()} for axis in AXES})
    if keep and stale:
        _keep(database, study, whole, {key: ledger[key] for key in stale})
    return whole


def _entries(database: Database, study: StudyRecord) -> list[dict[str, Any]]:
    return [fit.payload for fit in stored_fits(database, study.id, EVIDENCE) if fit.payload["method"] == METHOD]


def _keep(database: Database, study: StudyRecord, whole: Book, stale: Totals) -> None:
    """Keep what the book says of these structures, where the database can be written."""
    for axis in AXES:
        whole.prepare(axis)
    payloads = {}
    for key, totals in stale.items():
        entry: dict[str, Any] = {"method": METHOD, "structure": key, "trials": list(totals), "front": None}
        if key in whole.fronts:
            sums = {axis: _packed_table(whole.tables[axis][key]) for axis in AXES}
            entry |= {"front": _packed_front(whole.fronts[key]), "sums": sums}
        payloads[settings_hash({"structure": key})] = entry
    with contextlib.suppress(DatabaseError):
        save_fits(database, study.id, EVIDENCE, payloads)


def _packed_front(front: Front) -> dict[str, Any]:
    numbers = np.concatenate([*front.x, front.log_loss, *front.slope, front.low, front.high, [front.lowest]])
    return {"numbers": packed(numbers), "edge": front.edge, "runs": ",".join(front.run_ids), "points": packed(front.counts)}


def _front(kept: dict[str, Any]) -> Front:
    numbers = unpacked(kept["numbers"], -1)
    lines = numbers[:-5].reshape(5, -1)
    counts = unpacked(kept["points"], -1, len(REASONS), kind="<i8").astype(np.intp)
    low, high, lowest = numbers[-5:-3], numbers[-3:-1], float(numbers[-1])
    return Front(lines[:2], lines[2], lines[3:], low, high, lowest, kept["edge"], tuple(kept["runs"].split(",")), counts)


def _packed_table(table: Table) -> dict[str, Any]:
    scale, sums = table
    return {"unit": scale.unit, "x_0": scale.x_0, "table": packed(sums)}


def _table(kept: dict[str, Any]) -> Table:
    return Scale(kept["unit"], kept["x_0"]), unpacked(kept["table"], len(SUMS), SHARES.size)
