"""The ledger of compute: what a model costs per token, by named parts.

One multiply-accumulate (MAC) is 2 FLOPs, and a training step costs three forward passes. Attention is counted with full rows
of `context` products (T, not the causal T / 2 of an ideal kernel): the same for every structure, and what P1 counts.

    train_flops    6 x MACs of everything in the forward pass: linear layers with their padding, attention, head
    paper_macs     forward MACs of linear layers + attention + 5 per element of each LayerNorm, without the head (P1's figures)
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Literal

from space.errors import ConfigError
from space.structure import Structure
from trainers.config import TrialConfig
from trainers.gpt_config import GPTConfig

Convention = Literal["train_flops", "paper_macs"]

LAYER_NORM_COST = 5
"""Operations per element of a LayerNorm in `paper_macs`."""


@dataclass(frozen=True, slots=True)
class FlopCount:
    """Cost per token by named parts, under one convention. `str` is a readable table."""

    convention: Convention
    parts: Mapping[str, int]

    @property
    def total(self) -> int:
        """Sum of the parts, per token."""
        return sum(self.parts.values())

    def __str__(self) -> str:
        total = self.total
        rows = [f"{name:<12} {cost:>16,} {cost / total:>6.1%}" for name, cost in self.parts.items()]
        return "\n".join([f"{self.convention} per token", *rows, f"{'total':<12} {total:>16,}"])


def count(config: GPTConfig, convention: Convention = "train_flops") -> FlopCount:
    """Cost per token of a model.

    A dense block of width d has 12 d**2 MACs in its layers and 2 T d in its attention:

    >>> config = GPTConfig(structure="dense", width=64, depth=1, context=128, vocab_size=96)
    >>> count(config).total == 6 * (12 * 64**2 + 2 * 128 * 64 + 64 * 96)
    True
    >>> count(config, "paper_macs").total == 12 * 64**2 + 2 * 128 * 64 + 5 * (2 + 2 + 1) * 64
    True
    """
    structure, d = Structure.parse(config.structure), config.width
    macs = {kind: config.depth * structure.realize(*widths).macs for kind, widths in config.layer_widths.items()}
    macs["attention"] = config.depth * 2 * config.context * d
    if convention == "paper_macs":
        macs["norms"] = LAYER_NORM_COST * (4 * config.depth + 1) * d
        return FlopCount(convention, MappingProxyType(macs))
    if convention != "train_flops":
        raise ConfigError(f"convention is {convention!r}; it must be 'train_flops' or 'paper_macs'")
    macs["head"] = d * config.vocab_size
    return FlopCount(convention, MappingProxyType({part: 6 * cost for part, cost in macs.items()}))


def matched_width(
    structure: Structure | str,
    target_flops_per_token: float,
    *,
    depth: int,
    d_head: int,
    context: int,
    vocab_size: int,
    max_width: int = 16384,
) -> int:
    """The width at which a structured model costs what is asked: the closest in log(`train_flops` per token).

    Only multiples of `d_head` up to `max_width` are considered; of two equally close, the smaller.

    >>> shape = dict(depth=3, d_head=16, context=128, vocab_size=96)
    >>> dense = count(GPTConfig(structure="dense", width=64, **shape)).total
    >>> matched_width("dense", dense, **shape)
    64

    Raises:
        ConfigError: where the target is not positive, or `max_width` is less than `d_head`.
    """
    if not target_flops_per_token > 0:
        raise ConfigError(f"target_flops_per_token is {target_flops_per_token!r}; it must be positive")
    if max_width < d_head:
        raise ConfigError(f"max_width is {max_width}; it must be at least d_head, which is {d_head}")
    text = structure.key if isinstance(structure, Structure) else structure
    base = GPTConfig(structure=text, width=d_head, depth=depth, d_head=d_head, context=context, vocab_size=vocab_size)
    best_distance, best = math.inf, d_head
    for width in range(d_head, max_width + 1, d_head):
        cost = count(replace(base, width=width))
        distance = abs(math.log(cost.total / target_flops_per_token))
        if distance < best_distance:
            best_distance, best = distance, width
        if math.log((cost.parts["attention"] + cost.parts["head"]) / target_flops_per_token) > best_distance:
            break
    return best


def affordable_steps(config: TrialConfig, flops_per_step: float) -> int:
    """Whole steps that the budget pays for.

    Raises:
        ConfigError: they do not reach beyond the warmup.
    """
    steps = int(config.budget_flops // flops_per_step)
    least = config.warmup_steps + 1
    if steps < least:
        raise ConfigError(
            f"budget_flops = {config.budget_flops:.4g} pays for {steps} steps of {flops_per_step:.4g} FLOPs, warmup_steps = "
            f"{config.warmup_steps} need at least {least}; give {least * flops_per_step:.4g} FLOPs, or a smaller model"
        )
    return steps
