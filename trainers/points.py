"""What a run says of itself: `Point`, one evaluation, the unit that scaling laws are fitted to, and `Coordinates`."""

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


@dataclass(frozen=True, slots=True)
class Coordinates:
    """How far activations have moved since the start of a run, by kind of layer: root mean squares, in units of activations.

    Attributes:
        step: optimizer steps taken.
        qkv: of queries, keys and values, before their norms.
        out: of the attention output.
        up: of the feed-forward layer's hidden features, before the GELU.
        down: of the feed-forward output.
        head: of the logits.
    """

    step: int
    qkv: float
    out: float
    up: float
    down: float
    head: float
