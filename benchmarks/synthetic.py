"""Made-up studies of any size, for measuring and testing what shows them. Written in bulk, past the ledger's protocol.

Every structure follows a power law of its own; full rank without parameter sharing is better than dense.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from sqlalchemy import insert
from sqlalchemy.orm import Session

from space.structure import Structure
from storage.database import Database
from storage.proposals import structure_id
from storage.schema import LAYER_KINDS, Attempt, CoordinatesRow, Driver, PointRow, Study, Trial
from storage.studies import create_study, trial_seed

NAMED = ("dense", "monarch", "btt:1/4", "low_rank:1/2", "kronecker", "tensor_train:1/4", "generic")
TARGET = 3.2e12
WIDTHS = (64, 128, 256)
LOOKS = (4, 8, 16)
"""Steps of the coordinate checks."""
_BATCH, _ROWS = 5000, 10_000


def true_multiplier(structure: Structure) -> float:
    """The compute multiplier that a structure has in this world."""
    if structure.is_dense:
        return 1.0
    return 1.6 * math.exp(-1.4 * float(structure.omega) - 1.1 * (1 - float(structure.psi)) - 0.2 * float(structure.nu))


def structures(count: int, rng: np.random.Generator) -> list[Structure]:
    """The named ones, then distinct others in halves to twelfths."""
    found = {structure.key: structure for structure in map(Structure.parse, NAMED)}
    while len(found) < count:
        den = int(rng.choice([4, 6, 8, 12]))
        a, e, r = (int(v) for v in rng.integers(0, den + 1, 3))
        shared = rng.random() > 0.5
        b, d = (int(rng.integers(0, den - a + 1)), int(rng.integers(0, den - e + 1))) if shared else (0, 0)
        try:
            one = Structure.from_theta([v / den for v in (a, b, den - a - b, d, e, den - d - e, min(r, den // 4))])
        except ValueError:
            continue
        found[one.key] = one
    return list(found.values())[:count]


def write_study(
    database: Database, name: str = "made-up", trials: int = 100_000, evaluations: int = 10, kinds: int = 2000
) -> int:
    """Write a finished study of `trials` trials with `evaluations` points each and `kinds` structures. Returns its id."""
    rng = np.random.default_rng(trials)
    settings = {"rungs": [{"flops": TARGET / 16 * 4**rung, "width": width} for rung, width in enumerate(WIDTHS)], "seed": 0}
    settings |= {"trial": {"depth": 3, "context": 128, "corpus": "python", "lr": 0.003, "base_width": 64}}
    versions = {"einsearch": "0.1.0", "torch": "2.13.0"}
    more = {"seed": 0, "corpus_fingerprint": "3f" * 32, "target_compute": TARGET, "versions": versions}
    study = create_study(database, name, settings, max(trials, 1), [], **more)  # type: ignore[arg-type]
    tried = structures(min(kinds, max(trials, 1)), rng)
    with database.session() as session:
        ids = [structure_id(session, structure) for structure in tried]
        driver = Driver(study_id=study.id, host="box", machine="made up", pid=1, process_start="1", state="closed")
        driver.joined = driver.heartbeat = study.created
        session.add(driver)
        session.flush()
        first = (session.query(Trial.id).order_by(Trial.id.desc()).limit(1).scalar() or 0) + 1
        session.get_one(Study, study.id).created -= 60.0 * trials
        for start in range(0, trials, _BATCH):
            rows = [
                _trial(number, first + number, study.id, driver.id, tried, ids, rng, study.created - 60.0 * (trials - number))
                for number in range(start, min(start + _BATCH, trials))
            ]
            points = [point for row in rows for point in _points(row, evaluations)]
            looks = [look for row in rows for look in _looks(row)]
            enter(session, rows, points)
            session.execute(insert(CoordinatesRow), looks)
    return study.id


def enter(session: Session, rows: Sequence[dict[str, Any]], points: Sequence[dict[str, Any]]) -> None:
    """Trials with one attempt each, and their evaluations."""
    session.execute(insert(Trial), rows)
    session.execute(insert(Attempt), [_attempt(row) for row in rows])
    for start in range(0, len(points), _ROWS):
        session.execute(insert(PointRow), points[start : start + _ROWS])


def _trial(
    number: int,
    row: int,
    study: int,
    driver: int,
    tried: list[Structure],
    ids: list[int],
    rng: np.random.Generator,
    when: float,
) -> dict[str, Any]:
    planned = number < 12
    which = (0 if number < 6 else number - 5) % len(tried) if planned else int(rng.integers(len(tried)))
    rung = number % len(WIDTHS)
    luck = rng.random()
    state = "completed" if planned or luck < 0.9 else "truncated" if luck < 0.95 else "diverged" if luck < 0.98 else "failed"
    kind = ("baseline" if number < 6 else "known") if planned else "random" if rng.random() < 0.2 else "proposal"
    flops = TARGET / 16 * 4**rung * float(rng.uniform(0.97, 1.0)) * (0.5 if state == "truncated" else 1)
    multiplier = true_multiplier(tried[which]) * float(np.exp(rng.normal(0, 0.05)))
    measured = state in ("completed", "truncated")
    error = {"diverged": "loss is nan at step 40", "failed": "RuntimeError: out of memory on device 0"}.get(state)
    size = WIDTHS[rung]
    config = {"structure": tried[which].key, "lr": 0.003, "depth": 3, "width": size, "seed": trial_seed(0, number)}
    return {
        "id": row,
        "study_id": study,
        "number": number,
        "kind": kind,
        "state": state,
        "structure_id": ids[which],
        "rung": rung,
        "width": size,
        "config": config,
        "sizes": dict(tried[which].realize(size, size).sizes),
        "realised_omega": float(tried[which].omega),
        "realised_psi": float(tried[which].psi),
        "realised_nu": float(tried[which].nu),
        "seed": trial_seed(0, number),
        "driver_id": driver,
        "attempts": 1,
        "told": False,
        "loss": _loss(multiplier * flops) if measured else None,
        "value": math.log(multiplier) if measured else None,
        "flops": flops,
        "tokens": int(flops / 1e5),
        "steps": int(flops / 1e8),
        "seconds": flops / 2e10,
        "error": error,
        "created": when,
        "started": when + 1,
        "updated": when + 59,
        "finished": when + 59,
    }


def _loss(effective: float) -> float:
    return 1.1 + 0.9 * (effective / 1e11) ** -0.25


def _attempt(row: dict[str, Any]) -> dict[str, Any]:
    same = {name: row[name] for name in ("driver_id", "state", "flops", "seconds", "started", "error")}
    return same | {"trial_id": row["id"], "attempt": 1, "start_flops": 0.0, "start_seconds": 0.0, "ended": row["finished"]}


def _points(row: dict[str, Any], evaluations: int) -> Iterator[dict[str, Any]]:
    if row["state"] == "failed":
        return
    multiplier = math.exp(row["value"] or -0.5)
    for place in range(evaluations):
        share = (place + 1) / evaluations
        flops = row["flops"] * share
        loss = _loss(multiplier * flops) * math.exp(0.03 * math.log(share) ** 2)
        yield {
            "trial_id": row["id"],
            "step": max(int(row["steps"] * share), place + 1),
            "attempt": 1,
            "tokens": int(row["tokens"] * share),
            "flops": flops,
            "loss": loss,
            "train_loss": loss * 0.98,
            "seconds": row["seconds"] * share,
            "warmup": place == 0,
        }
    if row["loss"] is not None:
        row["loss"] = loss


def _looks(row: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Changes that do not depend on the width, but for the luck of each trial."""
    luck = 1 + 0.1 * math.sin(row["number"])
    for step in LOOKS:
        yield {"trial_id": row["id"], "step": step} | {
            kind: luck * 0.1 * (place + 1) * math.log(step) for place, kind in enumerate(LAYER_KINDS)
        }


def made(url: str, trials: int, **more: Any) -> int:
    """A new database with one such study. Returns the study's id."""
    with Database.open(url, create=True) as database:
        return write_study(database, trials=trials, **more)
