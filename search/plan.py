"""From settings to trials: which a study begins with, and how a structure becomes a model at a rung."""

from __future__ import annotations

import dataclasses
from collections.abc import Hashable
from functools import lru_cache

from search.settings import StudySettings
from space.structure import Structure
from storage.schema import TrialKind
from storage.studies import PlannedTrial
from trainers import flops
from trainers.config import TrialConfig
from trainers.gpt_config import GPTConfig, model_config


@lru_cache(maxsize=16384)
def width_at(settings: StudySettings, structure: Structure, rung: int, vocab_size: int) -> int:
    """The width at which a structure's cost per token is closest to that of the rung's dense model."""
    dense = _dense(settings, rung, vocab_size)
    cost = flops.count(dense).total
    shape = {name: getattr(dense, name) for name in ("depth", "d_head", "context", "vocab_size")}
    return flops.matched_width(structure, cost, **shape)


def trial_config(settings: StudySettings, structure: Structure, rung: int, width: int, seed: int) -> TrialConfig:
    """The whole configuration of one trial."""
    budget = settings.rungs[rung].flops
    return dataclasses.replace(settings.trial, structure=structure.key, width=width, budget_flops=budget, seed=seed)


def identity(settings: StudySettings, structure: Structure, rung: int, vocab_size: int) -> Hashable:
    """What a structure really is at a rung: the integer sizes of every kind of layer. Equal identity, equal model."""
    width = width_at(settings, structure, rung, vocab_size)
    config = model_config(trial_config(settings, structure, rung, width, 0), vocab_size)
    return tuple(tuple(structure.realize(*widths).sizes.values()) for widths in config.layer_widths.values())


def planned_trials(settings: StudySettings, vocab_size: int) -> list[PlannedTrial]:
    """The trials a study begins with: dense at several sizes and levels of compute, then the known structures.

    Raises:
        ConfigError: a trial cannot be built, or its rung pays for no step after the warmup.
    """
    dense = Structure.parse("dense")
    plan = [_planned(settings, "baseline", dense, rung, width, vocab_size) for rung, width in settings.baseline]
    for name in settings.known:
        structure = Structure.parse(name)
        width = width_at(settings, structure, settings.known_rung, vocab_size)
        plan.append(_planned(settings, "known", structure, settings.known_rung, width, vocab_size))
    return plan


def _planned(
    settings: StudySettings, kind: TrialKind, structure: Structure, rung: int, width: int, vocab_size: int
) -> PlannedTrial:
    config = trial_config(settings, structure, rung, width, settings.seed)
    per_token = flops.count(model_config(config, vocab_size)).total
    flops.affordable_steps(config, float(per_token * config.tokens_per_step))
    return PlannedTrial(kind, structure, rung, width, config.to_dict())


def _dense(settings: StudySettings, rung: int, vocab_size: int) -> GPTConfig:
    width = settings.rungs[rung].width
    return model_config(trial_config(settings, Structure.parse("dense"), rung, width, 0), vocab_size)
