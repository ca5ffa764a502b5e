"""The tables, the same on SQLite and PostgreSQL. Wrong states are refused by the database itself.

    einsearch_studies      one search: its settings, budget of trials, data, FLOP convention
    einsearch_structures   every structure ever tried, by its canonical key
    einsearch_drivers      processes that work on a study, each under a lease
    einsearch_trials       the ledger: one row per trial
    einsearch_attempts     what each attempt at a trial spent: compute is charged once
    einsearch_points       evaluations along a trial's run
    einsearch_decisions    at which of them a run was judged, and whether it was stopped early
    einsearch_coordinates  how far a trial's activations moved in its first steps, by kind of layer
    einsearch_fits         fitted laws, by the settings of the fit
    einsearch_totals       trials, FLOPs and seconds by study, structure, kind and state; triggers keep it

Units: compute in FLOPs of the study's convention, losses in nats per token, times in epoch seconds of the
database's clock, durations in seconds. Triggers and the documented views are made by the migrations.
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
)
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from storage.columns import JSONText, Message, amount, finite, partial_index

REVISION = "0004"
"""The revision these models describe, the head of `storage.migrations`. Revisions are ordered as text."""

PREFIX = "einsearch_"
VERSION_TABLE = "einsearch_alembic_version"

TrialKind = Literal["baseline", "known", "proposal", "random"]
TrialState = Literal["queued", "running", "completed", "truncated", "diverged", "failed"]
FinalState = Literal["completed", "truncated", "diverged", "failed"]

FlopConvention = Literal["train_flops", "paper_macs"]

FLOP_CONVENTIONS: tuple[FlopConvention, ...] = get_args(FlopConvention)
TRIAL_STATES: tuple[TrialState, ...] = get_args(TrialState)
FINAL_STATES: tuple[FinalState, ...] = get_args(FinalState)
TRIAL_KINDS: tuple[TrialKind, ...] = get_args(TrialKind)

MEASURED = "state IN ('completed', 'truncated')"
"""SQL: the trial has a loss that counts. Written out, for indexes of such trials serve only what says the same."""

WENT_WRONG = "error IS NOT NULL OR state IN ('failed', 'diverged')"
"""SQL: the attempt went wrong, and `error` says how."""

THETA = ("theta_xa", "theta_xb", "theta_xab", "theta_ya", "theta_yb", "theta_yab", "theta_ab")
"""Columns of the exponents of a structure of at most two factors."""

LAYER_KINDS = ("qkv", "out", "up", "down", "head")
"""Kinds of linear layers of a model: queries, keys and values; attention output; feed-forward in and out; logits."""

_SIMPLEX = (
    "factors > 2 OR ("
    + " AND ".join(
        [
            *(f"{edge} IS NOT NULL" for edge in THETA),
            "ABS(theta_xa + theta_xb + theta_xab - 1) < 1e-6",
            "ABS(theta_ya + theta_yb + theta_yab - 1) < 1e-6",
        ]
    )
    + ")"
)

_LEADERS = ("study_id", "structure_id")
_CHOSEN = ("number", "kind", "state", "rung", "width")

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
    """One search. `budget` is the number of trials it may reserve in all; it can grow.

    `checkpoints` is where they go, a folder or a URI; NULL where nobody said.
    """

    __tablename__ = PREFIX + "studies"
    __table_args__ = (
        CheckConstraint("budget >= 1", name="budget"),
        CheckConstraint("seed >= 0", name="seed"),
        CheckConstraint("flop_convention IN ('train_flops', 'paper_macs')", name="flop_convention"),
        CheckConstraint("target_compute > 0 AND target_compute < 1e300", name="target_compute"),
    )

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(128), unique=True)
    settings: Mapped[dict[str, Any]] = mapped_column(JSONText)
    budget: Mapped[int]
    seed: Mapped[int] = mapped_column(BigInteger)
    corpus_fingerprint: Mapped[str] = mapped_column(Text)
    flop_convention: Mapped[str] = mapped_column(String(32))
    target_compute: Mapped[float] = mapped_column(Double)
    versions: Mapped[dict[str, str]] = mapped_column(JSONText)
    code_commit: Mapped[str | None] = mapped_column(String(64))
    checkpoints: Mapped[str | None] = mapped_column(Text)
    created: Mapped[float] = mapped_column(Double)


class StructureRow(Base):
    """A structure: `space.structure.Structure` as numbers.

    `theta` holds all its exponents: input edges, output edges, inner edges. The seven columns of two factors stand
    beside it, in the order of `space.edges.EDGES`; they are NULL for more factors.
    """

    __tablename__ = PREFIX + "structures"
    __table_args__ = (
        CheckConstraint("factors >= 1", name="factors"),
        *(CheckConstraint(f"{edge} >= 0 AND {edge} <= 1", name=edge) for edge in THETA),
        CheckConstraint(_SIMPLEX, name="simplex"),
        amount("omega"),
        CheckConstraint("psi >= 0 AND psi <= 1", name="psi"),
        amount("nu"),
    )

    id: Mapped[int] = mapped_column(primary_key=True)
    key: Mapped[str] = mapped_column(Text, unique=True)
    name: Mapped[str] = mapped_column(Text)
    factors: Mapped[int]
    theta: Mapped[list[float]] = mapped_column(JSONText)
    theta_xa: Mapped[float | None] = mapped_column(Double)
    theta_xb: Mapped[float | None] = mapped_column(Double)
    theta_xab: Mapped[float | None] = mapped_column(Double)
    theta_ya: Mapped[float | None] = mapped_column(Double)
    theta_yb: Mapped[float | None] = mapped_column(Double)
    theta_yab: Mapped[float | None] = mapped_column(Double)
    theta_ab: Mapped[float | None] = mapped_column(Double)
    omega: Mapped[float] = mapped_column(Double)
    psi: Mapped[float] = mapped_column(Double)
    nu: Mapped[float] = mapped_column(Double)


class Driver(Base):
    """A process at work on a study, and its lease: alive, closed (it left), dead (a peer found it gone).

    `versions` are those of its packages: a study may be resumed with others than it began with. `place` is where its
    trials run, and what they wait for.
    """

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
    versions: Mapped[dict[str, str]] = mapped_column(JSONText, default=dict)
    place: Mapped[dict[str, Any] | None] = mapped_column(JSONText)


class Trial(Base):
    """One row of the ledger. `attempts` is the latest attempt's number; `told`: Optuna knows how it ended.

    flops, seconds, tokens and steps are what the trial's surviving attempts spent: the sum over its attempts.
    `origin` says where an imported trial comes from; NULL for the study's own.
    """

    __tablename__ = PREFIX + "trials"
    __table_args__ = (
        UniqueConstraint("study_id", "number"),
        UniqueConstraint("study_id", "optuna_number"),
        UniqueConstraint("study_id", "origin"),
        CheckConstraint("kind IN ('baseline', 'known', 'proposal', 'random')", name="kind"),
        CheckConstraint("state IN ('queued', 'running', 'completed', 'truncated', 'diverged', 'failed')", name="state"),
        CheckConstraint("state <> 'queued' OR driver_id IS NULL", name="queued_is_free"),
        CheckConstraint("state <> 'running' OR (driver_id IS NOT NULL AND attempts >= 1)", name="running_is_held"),
        CheckConstraint("(state IN ('queued', 'running')) = (finished IS NULL)", name="finished_has_an_end"),
        CheckConstraint("state NOT IN ('completed', 'truncated') OR (loss IS NOT NULL AND flops > 0)", name="measured"),
        CheckConstraint(f"value IS NULL OR {MEASURED}", name="only_measured_has_a_value"),
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
        amount("loss"),
        finite("value"),
        Index(None, "study_id", "state", "number"),
        Index(None, "structure_id", "study_id", "number"),
        Index("ix_einsearch_trials_filters", "study_id", "number", "structure_id", "kind", "state", "rung", "width"),
        partial_index("ix_einsearch_trials_value", "value IS NOT NULL", "study_id", "value", "structure_id"),
        partial_index("ix_einsearch_trials_best_value", "value IS NOT NULL", *_LEADERS, "value", *_CHOSEN),
        partial_index("ix_einsearch_trials_best_loss", MEASURED, *_LEADERS, "loss", *_CHOSEN),
        partial_index("ix_einsearch_trials_frontier", MEASURED, "study_id", "flops", "loss", "structure_id"),
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
    origin: Mapped[str | None] = mapped_column(Text)
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
        partial_index("uq_einsearch_attempts_running", "state = 'running'", "trial_id", unique=True),
        partial_index("ix_einsearch_attempts_wrong", WENT_WRONG, "trial_id"),
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
        amount("loss"),
        amount("train_loss"),
        {"sqlite_with_rowid": False},
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


class Decision(Base):
    """Whether a run may go on, judged once at an evaluation, with the evidence (`search.stopping`).

    At `flops` the loss was `loss`; at `budget`, the FLOPs that the run is to spend, it is `bound` at best, where the dense law
    says `frontier`.
    """

    __tablename__ = PREFIX + "decisions"
    __table_args__ = (
        CheckConstraint("stopped = (bound > frontier)", name="stopped_above_the_frontier"),
        CheckConstraint("step >= 0 AND flops <= budget", name="counts"),
        *(amount(column) for column in ("flops", "loss", "budget", "bound", "frontier")),
        partial_index("uq_einsearch_decisions_stopped", "stopped", "trial_id", unique=True),
        {"sqlite_with_rowid": False},
    )

    trial_id: Mapped[int] = mapped_column(ForeignKey(Trial.id), primary_key=True)
    step: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    flops: Mapped[float] = mapped_column(Double)
    loss: Mapped[float] = mapped_column(Double)
    budget: Mapped[float] = mapped_column(Double)
    bound: Mapped[float] = mapped_column(Double)
    frontier: Mapped[float] = mapped_column(Double)
    stopped: Mapped[bool]
    decided: Mapped[float] = mapped_column(Double)


class CoordinatesRow(Base):
    """The coordinate check of a trial after some steps (`trainers.coordinates`).

    Per kind of layer the root mean square of the change of what it writes for fixed tokens, in units of activations.
    """

    __tablename__ = PREFIX + "coordinates"
    __table_args__ = (
        CheckConstraint("step >= 1", name="counts"),
        *(amount(kind) for kind in LAYER_KINDS),
        {"sqlite_with_rowid": False},
    )

    trial_id: Mapped[int] = mapped_column(ForeignKey(Trial.id), primary_key=True)
    step: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    qkv: Mapped[float] = mapped_column(Double)
    out: Mapped[float] = mapped_column(Double)
    up: Mapped[float] = mapped_column(Double)
    down: Mapped[float] = mapped_column(Double)
    head: Mapped[float] = mapped_column(Double)


class Total(Base):
    """Trials, FLOPs and seconds of a study by structure, kind and state. Nobody writes it but the triggers on trials.

    structure_id is 0 for reservations without a structure. No row has zero trials.
    """

    __tablename__ = PREFIX + "totals"
    __table_args__ = (CheckConstraint("trials > 0", name="trials"), {"sqlite_with_rowid": False})

    study_id: Mapped[int] = mapped_column(ForeignKey(Study.id), primary_key=True)
    structure_id: Mapped[int] = mapped_column(primary_key=True)
    kind: Mapped[str] = mapped_column(String(16), primary_key=True)
    state: Mapped[str] = mapped_column(String(16), primary_key=True)
    trials: Mapped[int]
    flops: Mapped[float] = mapped_column(Double)
    seconds: Mapped[float] = mapped_column(Double)


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
