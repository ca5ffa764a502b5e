"""Studies: created once with their planned trials, opened by name afterwards."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from space.errors import StudyError
from space.structure import Structure
from storage.database import Database
from storage.proposals import Proposal, fill, structure_id
from storage.provenance import code_commit
from storage.schema import Study, Trial, TrialKind

MOST_TRIALS = 2**31 - 1
CREATION_LOCK = 0
"""Lock of whoever makes studies."""

_LONGEST_NAME = 128
_SEEDS = 2**63


@dataclass(frozen=True, slots=True)
class PlannedTrial:
    """A trial that a study starts with, `baseline` or `known`; `config` is its configuration as JSON."""

    kind: TrialKind
    structure: Structure
    rung: int
    width: int
    config: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class StudyRecord:
    """A study as recorded. target_compute in FLOPs of `flop_convention`; created in epoch seconds.

    versions and code_commit are those it was created with; checkpoints is where they go, None where nobody said.
    """

    id: int
    name: str
    settings: Mapping[str, Any]
    budget: int
    seed: int
    corpus_fingerprint: str
    flop_convention: str
    target_compute: float
    versions: Mapping[str, str]
    code_commit: str | None
    checkpoints: str | None
    created: float


def create_study(
    database: Database,
    name: str,
    settings: Mapping[str, Any],
    trials: int,
    plan: Sequence[PlannedTrial],
    *,
    seed: int,
    corpus_fingerprint: str,
    target_compute: float,
    flop_convention: str = "train_flops",
    versions: Mapping[str, str] | None = None,
    changeable: Collection[str] = (),
    checkpoints: str | None = None,
) -> StudyRecord:
    """Create a study and queue its plan in one transaction; return the recorded one where it exists.

    Trials are numbered from 0 in the order of the plan. Of several callers at once, one creates and the others return what it
    recorded. Of an existing study the budget may grow; its plan and versions stay as recorded.

    Args:
        settings: JSON; what makes two runs of a study the same study.
        trials: budget, the number of trials in all, the plan included.
        changeable: settings, by their first name, in which an existing study may be given other values; it takes them over.
        checkpoints: where they go, a folder or a URI; None to leave it open, or as recorded.

    Raises:
        StudyError: the settings differ from the recorded ones (says which, given against recorded), the budget is below 1,
            below the plan or below the recorded one, the name is empty or too long, or a setting is not JSON.
    """
    check_study(name, trials, len(plan), seed, target_compute)
    conditions = {
        "seed": seed,
        "corpus_fingerprint": corpus_fingerprint,
        "flop_convention": flop_convention,
        "target_compute": float(target_compute),
    }
    proposals, plain = [Proposal.of(item.structure, item.rung, item.width, item.config) for item in plan], _plain(settings)
    with database.session() as session:
        database.lock(session, CREATION_LOCK)
        study = session.scalar(select(Study).where(Study.name == name))
        if study is not None:
            _check_same(study, plain | conditions, trials, changeable)
            study.budget, study.settings, study.target_compute = trials, plain, float(target_compute)
            study.checkpoints = checkpoints or study.checkpoints
            return _record(study)
        study = Study(
            name=name,
            settings=plain,
            budget=trials,
            **conditions,
            versions=dict(versions or {}),
            code_commit=code_commit(),
            checkpoints=checkpoints,
            created=database.now(session),
        )
        session.add(study)
        session.flush()
        _queue(session, study, [item.kind for item in plan], proposals)
        return _record(study)


def check_study(name: str, trials: int, planned: int, seed: int, target_compute: float) -> None:
    """Refuse what `create_study` would, before there is a database.

    Raises:
        StudyError: the name is empty or too long, the budget below 1 or below the plan, a number out of its range.
    """
    if not name.strip() or len(name) > _LONGEST_NAME or not name.isprintable():
        raise StudyError(f"{name!r} cannot name a study; give 1 to {_LONGEST_NAME} printable characters")
    if not 1 <= trials <= MOST_TRIALS:
        raise StudyError(f"study {name!r}: a budget of {trials} trials was given; give 1 to {MOST_TRIALS}")
    if trials < planned:
        raise StudyError(
            f"study {name!r}: a budget of {trials} trials was given, and its plan alone has {planned}; give at least {planned}"
        )
    if not 0 <= seed < _SEEDS:
        raise StudyError(f"study {name!r}: the seed is {seed}; give a whole number from 0 to {_SEEDS - 1}")
    if not 0 < target_compute < math.inf:
        raise StudyError(f"study {name!r}: the target compute is {target_compute} FLOPs; give a number above 0")


def open_study(database: Database, name: str) -> StudyRecord:
    """The study called `name`.

    Raises:
        StudyError: there is none; the message lists those there are.
    """
    with database.reading() as session:
        return _record(find_study(database, session, name))


def find_study(database: Database, session: Session, name: str) -> Study:
    """The row of the study called `name`; raises as `open_study`."""
    study = session.scalar(select(Study).where(Study.name == name))
    if study is None:
        raise unknown_study(database, session, name)
    return study


def unknown_study(database: Database, session: Session, name: str) -> StudyError:
    """The error that says which studies there are."""
    names = session.scalars(select(Study.name).order_by(Study.name)).all()
    known = f"it has {', '.join(map(repr, names))}" if names else "it has none yet"
    return StudyError(f"no study {name!r} in {database.url_shown}; {known}")


def read_study(session: Session, study_id: int) -> StudyRecord:
    """The study of an id that `create_study` or `open_study` gave."""
    return _record(session.get_one(Study, study_id))


def trial_seed(study_seed: int, number: int) -> int:
    """The seed of a trial, 32 bits: the same for every attempt at it, unrelated between trials."""
    return int.from_bytes(hashlib.sha256(f"{study_seed}/{number}".encode()).digest()[:4], "big")


def reserve(session: Session, study: Study, kind: TrialKind, state: str, now: float) -> Trial:
    """A new row of the ledger under the next number, not yet added to the session."""
    last = session.scalar(select(func.max(Trial.number)).where(Trial.study_id == study.id))
    number = 0 if last is None else last + 1
    seed = trial_seed(study.seed, number)
    return Trial(study_id=study.id, number=number, kind=kind, state=state, seed=seed, created=now)


def _queue(session: Session, study: Study, kinds: Sequence[TrialKind], proposals: Sequence[Proposal]) -> None:
    for kind, proposal in zip(kinds, proposals, strict=True):
        trial = reserve(session, study, kind, "queued", study.created)
        fill(trial, proposal, structure_id(session, proposal.structure))
        trial.config = dict(proposal.config) | {"seed": trial.seed}
        session.add(trial)
        session.flush()


def _check_same(study: Study, given: Mapping[str, Any], trials: int, changeable: Collection[str]) -> None:
    recorded = study.settings | {
        "seed": study.seed,
        "corpus_fingerprint": study.corpus_fingerprint,
        "flop_convention": study.flop_convention,
        "target_compute": study.target_compute,
    }
    fixed = {key: value for key, value in given.items() if key not in changeable}
    others = list(differences(fixed, {key: value for key, value in recorded.items() if key not in changeable}))
    if others:
        raise StudyError(
            f"study {study.name!r} exists with other settings: {'; '.join(others)}; give the recorded ones, or another name"
        )
    if trials < study.budget:
        raise StudyError(f"study {study.name!r} has a budget of {study.budget} trials, {trials} given; it can only grow")


def differences(given: Any, recorded: Any, key: str = "") -> Iterator[str]:
    """Every key, dotted, whose values differ, with both values."""
    if isinstance(given, dict) and isinstance(recorded, dict):
        for name in sorted({*given, *recorded}):
            dotted = f"{key}.{name}" if key else name
            yield from differences(given.get(name, _Missing()), recorded.get(name, _Missing()), dotted)
    elif given != recorded:
        yield f"{key}: given {given!r}, recorded {recorded!r}"


class _Missing:
    """A key that one side does not have; equal to nothing else."""

    def __repr__(self) -> str:
        return "nothing"


def _plain(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The settings as JSON gives them back."""
    for key, value in settings.items():
        try:
            json.dumps(value, allow_nan=False)
        except (TypeError, ValueError) as error:
            raise StudyError(f"setting {key!r} is {value!r}, which is not JSON ({error}); give numbers and text") from None
    plain: dict[str, Any] = json.loads(json.dumps(dict(settings)))
    return plain


def _record(study: Study) -> StudyRecord:
    names = StudyRecord.__dataclass_fields__
    return StudyRecord(**{name: getattr(study, name) for name in names})
