"""The tables, the same on SQLite and PostgreSQL. Wrong states are refused by the database itself.

    einsearch_studies      one search: its settings, budget of trials, data, FLOP convention
    einsearch_structures   every structure ever tried, by its canonical key
    einsearch_drivers      processes that work on a study, each under a lease
    einsearch_trials       the ledger: one row per trial
    einsearch_attempts     what each attempt at a trial spent: compute is charged once
    einsearch_points       evaluations along a trial's run
    einsearch_fits         fitted laws, by the settings of the fit

Units: compute in FLOPs of the study's convention, losses in nats per token, times in epoch seconds of the
database's clock, durations in seconds. The views `einsearch_trial_view` and `einsearch_point_view` are made
by the migration.
"""

from __future__ import annotations

from typing import Any, Literal, get_args

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Double,
    ForeignKey,
    ForeignKeyConstraint,
    Index,
    MetaData,
    String,
    Text,
    UniqueConstraint,
    text,
)
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from storage.columns import JSONText, Message, amount, finite

REVISION = "0001"
"""The revision these models describe, the head of `storage.migrations`. Revisions are ordered as text."""

PREFIX = "einsearch_"
VERSION_TABLE = "einsearch_alembic_version"

TrialKind = Literal["baseline", "known", "proposal", "random"]
TrialState = Literal["queued", "running", "completed", "truncated", "diverged", "failed"]
FinalState = Literal["completed", "truncated", "diverged", "failed"]

TRIAL_STATES: tuple[TrialState, ...] = get_args(TrialState)
FINAL_STATES: tuple[FinalState, ...] = get_args(FinalState)
TRIAL_KINDS: tuple[TrialKind, ...] = get_args(TrialKind)

_NAMES = {
    "pk": "pk_%(table_name)s",
    "fk": "fk_%(table_name)s_%(column_0_name)s",
    "ck": "ck_%(table_name)s_%(constraint_name)s",
    "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    "ix": "ix_%(table_name)s_%(column_0_N_name)s",
}


class Base(DeclarativeBase):
    """Root of the models; its metadata holds our tables only."""

    metadata = MetaData(naming_convention=_NAMES)


class Study(Base):
    """One search. `budget` is the number of trials it may reserve in all; it can grow."""

    __tablename__ = PREFIX + "studies"
    __table_args__ = (CheckConstraint("budget >= 1", name="budget"), amount("target_compute"))

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(128), unique=True)
    settings: Mapped[dict[str, Any]] = mapped_column(JSONText)
    budget: Mapped[int]
    seed: Mapped[int] = mapped_column(BigInteger)
    corpus_fingerprint: Mapped[str] = mapped_column(Text)
    flop_convention: Mapped[str] = mapped_column(String(32))
    target_compute: Mapped[float] = mapped_column(Double)
    versions: Mapped[dict[str, str]] = mapped_column(JSONText)
    created: Mapped[float] = mapped_column(Double)


class StructureRow(Base):
    """A structure: `space.structure.Structure` as numbers, exponents in the order of `space.edges.EDGES`."""

    __tablename__ = PREFIX + "structures"
    __table_args__ = (
        *(
            CheckConstraint(f"{edge} >= 0 AND {edge} <= 1", name=edge)
            for edge in ("theta_xa", "theta_xb", "theta_xab", "theta_ya", "theta_yb", "theta_yab", "theta_ab")
        ),
        amount("omega"),
        CheckConstraint("psi >= 0 AND psi <= 1", name="psi"),
        amount("nu"),
    )

    id: Mapped[int] = mapped_column(primary_key=True)
    key: Mapped[str] = mapped_column(Text, unique=True)
    name: Mapped[str] = mapped_column(Text)
    theta_xa: Mapped[float] = mapped_column(Double)
    theta_xb: Mapped[float] = mapped_column(Double)
    theta_xab: Mapped[float] = mapped_column(Double)
    theta_ya: Mapped[float] = mapped_column(Double)
    theta_yb: Mapped[float] = mapped_column(Double)
    theta_yab: Mapped[float] = mapped_column(Double)
    theta_ab: Mapped[float] = mapped_column(Double)
    omega: Mapped[float] = mapped_column(Double)
    psi: Mapped[float] = mapped_column(Double)
    nu: Mapped[float] = mapped_column(Double)


class Driver(Base):
    """A process at work on a study, and its lease: alive, closed (it left), dead (a peer found it gone)."""

    __tablename__ = PREFIX + "drivers"
    __table_args__ = (
        CheckConstraint("state IN ('alive', 'closed', 'dead')", name="state"),
        Index(None, "study_id", "state"),
    )

    id: Mapped[int] = mapped_column(primary_key=True)
    study_id: Mapped[int] = mapped_column(ForeignKey(Study.id))
    host: Mapped[str] = mapped_column(Text)
    machine: Mapped[str] = mapped_column(Text)
    pid: Mapped[int] = mapped_column(BigInteger)
    process_start: Mapped[str] = mapped_column(Text)
    state: Mapped[str] = mapped_column(String(16))
    joined: Mapped[float] = mapped_column(Double)
    heartbeat: Mapped[float] = mapped_column(Double)


class Trial(Base):
    """One row of the ledger. `attempts` is the latest attempt's number; `told`: Optuna knows how it ended.

    flops, seconds, tokens and steps are what the trial's surviving attempts spent: the sum over its attempts.
    """

    __tablename__ = PREFIX + "trials"
    __table_args__ = (
        UniqueConstraint("study_id", "number"),
        UniqueConstraint("study_id", "optuna_number"),
        CheckConstraint("kind IN ('baseline', 'known', 'proposal', 'random')", name="kind"),
        CheckConstraint("state IN ('queued', 'running', 'completed', 'truncated', 'diverged', 'failed')", name="state"),
        CheckConstraint("state <> 'queued' OR driver_id IS NULL", name="queued_is_free"),
        CheckConstraint("state <> 'running' OR (driver_id IS NOT NULL AND attempts >= 1)", name="running_is_held"),
        CheckConstraint("(state IN ('queued', 'running')) = (finished IS NULL)", name="finished_has_an_end"),
        CheckConstraint("state NOT IN ('completed', 'truncated') OR (loss IS NOT NULL AND flops > 0)", name="measured"),
        CheckConstraint("state <> 'failed' OR error IS NOT NULL", name="failed_has_a_reason"),
        CheckConstraint(
            "(structure_id IS NULL) = (rung IS NULL) AND (structure_id IS NULL) = (width IS NULL)"
            " AND (structure_id IS NULL) = (config IS NULL) AND (structure_id IS NULL) = (sizes IS NULL)",
            name="proposed_as_a_whole",
        ),
        CheckConstraint(
            "structure_id IS NOT NULL OR (kind = 'proposal' AND state IN ('queued', 'running', 'failed'))",
            name="only_reservations_are_blank",
        ),
        CheckConstraint("NOT told OR finished IS NOT NULL", name="told_when_finished"),
        CheckConstraint(
            "number >= 0 AND attempts >= 0 AND tokens >= 0 AND steps >= 0 AND rung >= 0 AND width >= 1 AND optuna_number >= 0",
            name="counts",
        ),
        amount("flops"),
        amount("seconds"),
        finite("loss"),
        finite("value"),
        Index(None, "study_id", "state", "number"),
        Index(None, "structure_id"),
    )

    id: Mapped[int] = mapped_column(primary_key=True)
    study_id: Mapped[int] = mapped_column(ForeignKey(Study.id))
    number: Mapped[int]
    kind: Mapped[str] = mapped_column(String(16))
    state: Mapped[str] = mapped_column(String(16))
    structure_id: Mapped[int | None] = mapped_column(ForeignKey(StructureRow.id))
    rung: Mapped[int | None]
    width: Mapped[int | None]
    config: Mapped[dict[str, Any] | None] = mapped_column(JSONText)
    sizes: Mapped[dict[str, int] | None] = mapped_column(JSONText)
    realised_omega: Mapped[float | None] = mapped_column(Double)
    realised_psi: Mapped[float | None] = mapped_column(Double)
    realised_nu: Mapped[float | None] = mapped_column(Double)
    seed: Mapped[int] = mapped_column(BigInteger)
    driver_id: Mapped[int | None] = mapped_column(ForeignKey(Driver.id))
    attempts: Mapped[int] = mapped_column(default=0)
    optuna_number: Mapped[int | None]
    told: Mapped[bool] = mapped_column(default=False)
    loss: Mapped[float | None] = mapped_column(Double)
    value: Mapped[float | None] = mapped_column(Double)
    flops: Mapped[float] = mapped_column(Double, default=0.0)
    tokens: Mapped[int] = mapped_column(BigInteger, default=0)
    steps: Mapped[int] = mapped_column(BigInteger, default=0)
    seconds: Mapped[float] = mapped_column(Double, default=0.0)
    error: Mapped[str | None] = mapped_column(Message)
    created: Mapped[float] = mapped_column(Double)
    started: Mapped[float | None] = mapped_column(Double)
    updated: Mapped[float | None] = mapped_column(Double)
    finished: Mapped[float | None] = mapped_column(Double)


class Attempt(Base):
    """One attempt at a trial: from `start_flops` (its checkpoint; NULL until it says so) it spent `flops`."""

    __tablename__ = PREFIX + "attempts"
    __table_args__ = (
        CheckConstraint("state IN ('running', 'completed', 'truncated', 'diverged', 'failed', 'preempted')", name="state"),
        CheckConstraint("(state = 'running') = (ended IS NULL)", name="running_has_no_end"),
        CheckConstraint("attempt >= 1", name="attempt"),
        amount("start_flops"),
        amount("start_seconds"),
        amount("flops"),
        amount("seconds"),
        Index(
            "uq_einsearch_attempts_running",
            "trial_id",
            unique=True,
            sqlite_where=text("state = 'running'"),
            postgresql_where=text("state = 'running'"),
        ),
    )

    trial_id: Mapped[int] = mapped_column(ForeignKey(Trial.id), primary_key=True)
    attempt: Mapped[int] = mapped_column(primary_key=True)
    driver_id: Mapped[int] = mapped_column(ForeignKey(Driver.id))
    state: Mapped[str] = mapped_column(String(16))
    start_flops: Mapped[float | None] = mapped_column(Double)
    start_seconds: Mapped[float | None] = mapped_column(Double)
    flops: Mapped[float] = mapped_column(Double, default=0.0)
    seconds: Mapped[float] = mapped_column(Double, default=0.0)
    started: Mapped[float] = mapped_column(Double)
    ended: Mapped[float | None] = mapped_column(Double)
    error: Mapped[str | None] = mapped_column(Message)


class PointRow(Base):
    """One evaluation along a trial. tokens, flops and seconds are cumulative from the trial's first step."""

    __tablename__ = PREFIX + "points"
    __table_args__ = (
        ForeignKeyConstraint(["trial_id", "attempt"], [Attempt.trial_id, Attempt.attempt], name="fk_einsearch_points_attempt"),
        CheckConstraint("step >= 0 AND tokens >= 0", name="counts"),
        amount("flops"),
        amount("seconds"),
        finite("loss"),
        finite("train_loss"),
    )

    trial_id: Mapped[int] = mapped_column(primary_key=True)
    step: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    attempt: Mapped[int]
    tokens: Mapped[int] = mapped_column(BigInteger)
    flops: Mapped[float] = mapped_column(Double)
    loss: Mapped[float] = mapped_column(Double)
    train_loss: Mapped[float | None] = mapped_column(Double)
    seconds: Mapped[float] = mapped_column(Double)
    warmup: Mapped[bool]


class Fit(Base):
    """A fitted law, as JSON, under the hash of the settings it was fitted with."""

    __tablename__ = PREFIX + "fits"
    __table_args__ = (UniqueConstraint("study_id", "kind", "settings_hash"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    study_id: Mapped[int] = mapped_column(ForeignKey(Study.id))
    kind: Mapped[str] = mapped_column(String(64))
    settings_hash: Mapped[str] = mapped_column(String(64))
    payload: Mapped[Any] = mapped_column(JSONText)
    created: Mapped[float] = mapped_column(Double)
