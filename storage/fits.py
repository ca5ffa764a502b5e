"""Fitted laws, kept with the study under the settings they were fitted with."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from sqlalchemy import select

from storage.database import Database
from storage.schema import Fit


def save_fit(database: Database, study_id: int, kind: str, settings: Mapping[str, Any], payload: Any) -> None:
    """Keep a fit, as JSON, in place of an earlier one of the same kind and settings.

    Raises:
        ValueError: the payload holds NaN or an infinity.
    """
    with database.session() as session:
        database.lock(session, study_id)
        digest, now = _digest(settings), database.now(session)
        fit = session.scalar(_fit(study_id, kind, digest)) or Fit(study_id=study_id, kind=kind, settings_hash=digest)
        fit.payload, fit.created = payload, now
        session.add(fit)


def load_fit(database: Database, study_id: int, kind: str, settings: Mapping[str, Any]) -> Any | None:
    """The payload of a kept fit, None where there is none for these settings."""
    with database.reading() as session:
        fit = session.scalar(_fit(study_id, kind, _digest(settings)))
        return None if fit is None else fit.payload


def _fit(study_id: int, kind: str, digest: str) -> Any:
    return select(Fit).where(Fit.study_id == study_id, Fit.kind == kind, Fit.settings_hash == digest)


def _digest(settings: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(dict(settings), sort_keys=True, allow_nan=False).encode()).hexdigest()
