"""Fitted laws, kept with the study under the settings they were fitted with."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from sqlalchemy import delete, select

from storage.database import Database
from storage.schema import Fit

LEVEL, DRAWS = 0.9, 200
"""Level of the intervals that people are shown, and the draws they are made of."""


@dataclass(frozen=True, slots=True)
class StoredFit:
    """A kept fit: its hash, kind, payload, and when it was kept (epoch seconds)."""

    hash: str
    kind: str
    payload: Any
    created: float


def save_fit(database: Database, study_id: int, kind: str, settings: Mapping[str, Any], payload: Any) -> str:
    """Keep a fit, as JSON, in place of an earlier one of the same kind and settings; return its hash.

    Raises:
        ValueError: the payload holds NaN or an infinity.
    """
    digest = settings_hash(settings)
    save_fits(database, study_id, kind, {digest: payload})
    return digest


def save_fits(database: Database, study_id: int, kind: str, payloads: Mapping[str, Any]) -> None:
    """Keep fits of one kind by their hashes, in one transaction, in place of those there are; see `save_fit`."""
    with database.session() as session:
        database.lock(session, study_id)
        now = database.now(session)
        hashes = sorted(payloads)
        for start in range(0, len(hashes), 500):
            some = Fit.settings_hash.in_(hashes[start : start + 500])
            session.execute(delete(Fit).where(Fit.study_id == study_id, Fit.kind == kind, some))
        for digest in hashes:
            session.add(Fit(study_id=study_id, kind=kind, settings_hash=digest, payload=payloads[digest], created=now))


def load_fit(database: Database, study_id: int, kind: str, settings: Mapping[str, Any]) -> Any | None:
    """The payload of a kept fit, None where there is none for these settings."""
    with database.reading() as session:
        query = select(Fit.payload).where(Fit.study_id == study_id, Fit.kind == kind)
        return session.scalar(query.where(Fit.settings_hash == settings_hash(settings)))


def stored_fits(database: Database, study_id: int, kind: str) -> list[StoredFit]:
    """All kept fits of one kind, oldest first."""
    with database.reading() as session:
        query = select(Fit.settings_hash, Fit.kind, Fit.payload, Fit.created)
        rows = session.execute(query.where(Fit.study_id == study_id, Fit.kind == kind).order_by(Fit.created, Fit.id))
        return [StoredFit(*row) for row in rows]


def settings_hash(settings: Mapping[str, Any]) -> str:
    """SHA-256 of settings as JSON, keys sorted."""
    return hashlib.sha256(json.dumps(dict(settings), sort_keys=True, allow_nan=False).encode()).hexdigest()


def packed(array: npt.NDArray[Any]) -> str:
    """Many numbers of a payload, NaN among them, as base64 of little-endian numbers of eight bytes: quick to write and read."""
    kind = "<i8" if array.dtype.kind == "i" else "<f8"
    return base64.b64encode(np.ascontiguousarray(array, kind).tobytes()).decode()


def unpacked(text: str, *shape: int, kind: str = "<f8") -> npt.NDArray[Any]:
    """What `packed` wrote."""
    return np.frombuffer(base64.b64decode(text), kind).reshape(shape)
