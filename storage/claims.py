"""What the ledger hands to a driver, and what it takes from one."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from sqlalchemy import Row

from storage.schema import Trial


@dataclass(frozen=True, slots=True)
class Claim:
    """A trial that a driver holds, under one attempt.

    `structure` is its canonical key; it, `rung`, `width` and `config` are None together, for a reserved trial
    that waits for a proposal. `seed` stays the same over all attempts; earlier ones recorded evaluations up to `steps`.
    """

    trial_id: int
    number: int
    attempt: int
    driver: int
    kind: str
    structure: str | None
    rung: int | None
    width: int | None
    config: Mapping[str, Any] | None
    seed: int
    optuna_number: int | None
    steps: int = 0

    @classmethod
    def of(cls, trial: Trial | Row[Any], structure: str | None, attempt: int, driver: int) -> Claim:
        """The claim of a driver to an attempt at a trial, whose structure has this key."""
        return cls(
            trial_id=trial.id,
            number=trial.number,
            attempt=attempt,
            driver=driver,
            kind=trial.kind,
            structure=structure,
            rung=trial.rung,
            width=trial.width,
            config=trial.config,
            seed=trial.seed,
            optuna_number=trial.optuna_number,
            steps=trial.steps,
        )


@dataclass(frozen=True, slots=True)
class Wait:
    """Nothing to run now: the budget is reserved, but `running` trials may still come back."""

    running: int


@dataclass(frozen=True, slots=True)
class Finished:
    """All `trials` of the budget have ended."""

    trials: int


@dataclass(frozen=True, slots=True)
class Settled:
    """A finished trial of which the sampler's storage has not been told; `value` is None until computed."""

    trial_id: int
    number: int
    state: str
    structure: str | None
    rung: int | None
    width: int | None
    loss: float | None
    flops: float
    value: float | None
    optuna_number: int | None

    @classmethod
    def of(cls, trial: Trial, structure: str | None) -> Settled:
        """The end of a finished trial, whose structure has this key."""
        return cls(
            trial_id=trial.id,
            number=trial.number,
            state=trial.state,
            structure=structure,
            rung=trial.rung,
            width=trial.width,
            loss=trial.loss,
            flops=trial.flops,
            value=trial.value,
            optuna_number=trial.optuna_number,
        )


class PointLike(Protocol):
    """An evaluation along a trial. Losses in nats per token; all else counts from the trial's first step."""

    @property
    def step(self) -> int:
        """Optimiser steps taken."""

    @property
    def tokens(self) -> int:
        """Tokens trained on."""

    @property
    def flops(self) -> float:
        """FLOPs spent, in the study's convention."""

    @property
    def loss(self) -> float:
        """Validation loss."""

    @property
    def train_loss(self) -> float:
        """Training loss; NaN where there is none."""

    @property
    def seconds(self) -> float:
        """Training seconds, without evaluation."""

    @property
    def warmup(self) -> bool:
        """Taken during warmup, where a point is not legitimate for fits."""


def point_row(claim: Claim, point: PointLike) -> dict[str, Any]:
    """The columns of a point, taken by the claim's attempt; a training loss that is negative or not finite is none."""
    return {
        "trial_id": claim.trial_id,
        "attempt": claim.attempt,
        "step": point.step,
        "tokens": point.tokens,
        "flops": point.flops,
        "loss": point.loss,
        "train_loss": point.train_loss if 0 <= point.train_loss < math.inf else None,
        "seconds": point.seconds,
        "warmup": point.warmup,
    }
