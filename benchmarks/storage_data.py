"""A large study, written into a database at once: the rows that the benchmark of the storage asks about."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any

import numpy as np
import optuna
from optuna.distributions import FloatDistribution, distribution_to_json
from optuna.storages import RDBStorage
from optuna.storages._rdb import models
from optuna.trial import TrialState
from sqlalchemy import insert, text

from benchmarks.synthetic import enter
from space.edges import EDGES
from space.sampling import sample_structure
from space.structure import Structure
from storage import queries
from storage.database import Database
from storage.proposals import Proposal, structure_id
from storage.schema import Driver
from storage.studies import StudyRecord, create_study, trial_seed

BATCH = 10_000
WIDTHS = (64, 128, 256, 512)
RUNGS = (1e12, 4e12, 1.6e13, 6.4e13)
_TIMES = {"datetime_start": datetime(2026, 1, 1), "datetime_complete": datetime(2026, 1, 2)}
CONFIG = {"lr": 0.003, "depth": 3, "context": 128, "batch_size": 64}


def structures(count: int, rng: np.random.Generator) -> list[Structure]:
    """Dense, and so many other structures, all different."""
    found = {"dense": Structure.parse("dense")}
    while len(found) < count:
        structure = sample_structure(rng)
        found.setdefault(structure.key, structure)
    return list(found.values())


def fill(database: Database, trials: int, count: int, points: int) -> StudyRecord:
    """A study of `trials` trials in `count` structures with `points` evaluations each; one in twenty failed or diverged."""
    rng = np.random.default_rng(0)
    recorded = {"seed": 7, "corpus_fingerprint": "ab12", "target_compute": RUNGS[-1]}
    settings = {"rungs": [{"flops": flops, "width": width} for flops, width in zip(RUNGS, WIDTHS, strict=True)]}
    study = create_study(database, "large", settings, trials + 1000, [], **recorded)  # type: ignore[arg-type]
    known = structures(count, rng)
    with database.session() as session:
        ids = [structure_id(session, structure) for structure in known]
        session.execute(insert(Driver).values(_driver(study)))
        plans = [[Proposal.of(structure, rung, width, CONFIG) for rung, width in enumerate(WIDTHS)] for structure in known]
        for start in range(0, trials, BATCH):
            numbers = range(start, min(start + BATCH, trials))
            rows = [_trial(study, number, ids[number % count], plans[number % count], rng) for number in numbers]
            enter(session, rows, [point for row in rows for point in _points(row, points)])
    settle(database)
    return study


def settle(database: Database) -> None:
    """What a PostgreSQL server does by itself in time, and its sequences, which know nothing of the ids that were given.

    A SQLite file has no such server, and is left without statistics.
    """
    if database.dialect == "postgresql":
        with database.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            for table in ("einsearch_trials", "einsearch_drivers"):
                connection.execute(text(f"SELECT setval(pg_get_serial_sequence('{table}', 'id'), max(id)) FROM {table}"))
            connection.execute(text("VACUUM ANALYZE"))


def _driver(study: StudyRecord) -> dict[str, Any]:
    lease = {"state": "closed", "joined": 1.0, "heartbeat": 1.0}
    return {"id": 1, "study_id": study.id, "host": "h", "machine": "m", "pid": 1, "process_start": "1", "versions": {}} | lease


def _trial(
    study: StudyRecord, number: int, structure: int, plans: Sequence[Proposal], rng: np.random.Generator
) -> dict[str, Any]:
    rung = int(rng.integers(len(RUNGS)))
    plan, which = plans[rung], structure - 1
    draw = rng.random()
    state = "failed" if draw < 0.03 else "diverged" if draw < 0.05 else "truncated" if draw < 0.25 else "completed"
    measured = state in ("completed", "truncated")
    flops = RUNGS[rung] * (1.0 if state == "completed" else float(rng.uniform(0.1, 0.9)))
    value = float(rng.normal(-0.1, 0.4)) - 0.0005 * which
    return {
        "id": number + 1,
        "study_id": study.id,
        "number": number,
        "kind": "baseline" if which == 0 else "known" if which < 20 else "random" if which % 7 == 0 else "proposal",
        "state": state,
        "structure_id": structure,
        "rung": rung,
        "width": plan.width,
        "config": CONFIG,
        "sizes": dict(plan.realization.sizes),
        "realised_omega": plan.realization.omega,
        "realised_psi": plan.realization.psi,
        "realised_nu": plan.realization.nu,
        "seed": trial_seed(study.seed, number),
        "driver_id": 1,
        "attempts": 1,
        "optuna_number": number,
        "told": True,
        "loss": 1.5 + 0.5 * (flops * float(np.exp(value)) / 1e12) ** -0.1 if measured else None,
        "value": value if measured else None,
        "flops": flops,
        "tokens": int(flops / 1e6),
        "steps": 1000,
        "seconds": flops / 6e11,
        "error": None if measured else f"CUDA error {number % 11}: out of memory" if state == "failed" else "the loss grew",
        "created": 1.7e9 + number,
        "started": 1.7e9 + number,
        "updated": 1.7e9 + number + 60,
        "finished": 1.7e9 + number + 60,
    }


def _points(row: dict[str, Any], count: int) -> Iterable[dict[str, Any]]:
    end = row["loss"] or 3.0
    for index in range(1, count + 1):
        share = index / count
        yield {
            "trial_id": row["id"],
            "step": 100 * index,
            "attempt": 1,
            "tokens": int(row["tokens"] * share),
            "flops": row["flops"] * share,
            "loss": end + 0.6 * (1 - share),
            "train_loss": end + 0.5 * (1 - share) if index > 1 else None,
            "seconds": row["seconds"] * share,
            "warmup": index == 1,
        }


def optuna_study(storage: RDBStorage, database: Database) -> optuna.Study:
    """The same trials in Optuna's tables, inserted at once, with seven parameters and one value each."""
    study = optuna.create_study(study_name="large", storage=storage, direction="maximize")
    frame = queries.trials_frame(database, "large")
    space = distribution_to_json(FloatDistribution(0.0, 1.0))
    trials, values, params = [], [], []
    for row in frame.to_dict("records"):
        trial, done = int(row["number"]) + 1, row["state"] == "completed"
        state = TrialState.COMPLETE if done else TrialState.FAIL
        trials.append({"trial_id": trial, "number": trial - 1, "study_id": 1, "state": state} | _TIMES)
        if done:
            values.append({"trial_id": trial, "objective": 0, "value": row["value"], "value_type": "FINITE"})
        theta = {f"theta_{edge}": row[f"theta_{edge}"] for edge in EDGES}
        params += [{"trial_id": trial, "param_name": k, "param_value": v, "distribution_json": space} for k, v in theta.items()]
    with storage.engine.begin() as connection:
        for model, rows in ((models.TrialModel, trials), (models.TrialValueModel, values), (models.TrialParamModel, params)):
            connection.execute(insert(model), rows)
    return study
