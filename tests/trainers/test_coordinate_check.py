"""The coordinate check of a run: what it says is true, and training does not notice it."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch

from trainers import checkpoint, coordinates, run
from trainers.config import TrialConfig
from trainers.corpus import Corpus
from trainers.gpt import GPT
from trainers.run import TrainingRun

from .conftest import finish, tiny_run


def tiny(corpus: Corpus, structure: str = "monarch", steps: int = 17, depth: int = 2) -> TrainingRun:
    return tiny_run(corpus, structure, steps, depth=depth, context=16, batch_size=4, evaluations=2, eval_windows=4)


def curve(one: TrainingRun) -> list[tuple[int, float, float, float]]:
    return [(point.step, point.flops, point.loss, point.train_loss) for point in one.points]


@pytest.mark.parametrize("structure", ["dense", "monarch", "tensor_train:1/4"])
def test_training_does_not_notice_the_check(python_corpus: Corpus, monkeypatch: pytest.MonkeyPatch, structure: str) -> None:
    checked, before = tiny(python_corpus, structure), torch.get_rng_state()
    assert [look.step for look in finish(checked).coordinates] == [4, 8, 16]
    assert torch.equal(torch.get_rng_state(), before)
    monkeypatch.setattr(run, "STEPS", ())
    unchecked = finish(tiny(python_corpus, structure))
    assert unchecked.coordinates == [] and curve(unchecked) == curve(checked)
    pairs = zip(checked.model.parameters(), unchecked.model.parameters(), strict=True)
    assert all(torch.equal(one, other) for one, other in pairs)


def test_changes_are_those_of_what_the_layers_write(python_corpus: Corpus) -> None:
    """Against the logits of the model before and after, and the first block's projections by their materialised matrices."""
    before, after = tiny(python_corpus, steps=4, depth=1).model, finish(tiny(python_corpus, steps=4, depth=1))
    (look,) = after.coordinates
    tokens = python_corpus.validation_windows(4, 16)[0][:1]
    with torch.no_grad():
        logits, moved = [model(tokens) for model in (before, after.model)], []
        for name in ("query", "key", "value"):
            written = [_first_attention(model, tokens, name) for model in (before, after.model)]
            moved.append(_rms(written[1] - written[0]))
    assert look.head == pytest.approx(_rms(logits[1] - logits[0]), rel=1e-5)
    assert look.qkv == pytest.approx(math.sqrt(sum(change**2 for change in moved) / 3), rel=1e-4)


def _first_attention(model: GPT, tokens: torch.Tensor, name: str) -> torch.Tensor:
    block: Any = model.blocks[0]
    inputs = block.attention_norm(model.embedding(tokens) + model.positions.weight[: tokens.shape[1]])
    written: torch.Tensor = inputs @ getattr(block.attention, name).dense_weight().T
    return written


def _rms(values: torch.Tensor) -> float:
    return float(values.square().mean().sqrt())


def test_a_resumed_run_is_looked_at_from_its_first_start(python_corpus: Corpus, tmp_path: Path) -> None:
    whole, broken = finish(tiny(python_corpus)), tiny(python_corpus)
    broken.advance(max_steps=5)
    path = checkpoint.path_at(tmp_path, 5)
    checkpoint.save(path, broken.state_dict())
    again = tiny(python_corpus)
    again.load_state_dict(checkpoint.load(path))
    assert finish(again).coordinates == whole.coordinates


def test_the_check_costs_less_than_half_a_percent_of_the_shortest_run() -> None:
    """FLOPs for each weight: 2 a token of the forward passes of the check, 6 a token of training."""
    config = TrialConfig(structure="dense", width=32, budget_flops=1e12)
    looks = 1 + len(coordinates.STEPS)
    check = looks * coordinates.WINDOWS * config.context * 2
    assert check < 0.005 * (config.warmup_steps + 1) * config.tokens_per_step * 6
