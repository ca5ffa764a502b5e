"""`Point`: one evaluation of a run, the unit that scaling laws are fitted to."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Point:
    """The state of a run at one evaluation; every count is cumulative from the start of the run.

    Attributes:
        step: optimizer steps taken.
        tokens: training tokens seen.
        flops: training FLOPs, convention `train_flops`.
        loss: validation loss, nats per token.
        train_loss: training loss averaged since the previous evaluation, nats per token.
        seconds: training time, without evaluation.
        warmup: taken before the learning rate became constant; not a legitimate point of a fit.
    """

    step: int
    tokens: int
    flops: float
    loss: float
    train_loss: float
    seconds: float
    warmup: bool
