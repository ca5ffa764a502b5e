from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from typing import Any

import pytest
import torch

from space.errors import CheckpointError, ConfigError, DataError
from trainers import checkpoint, flops
from trainers.config import TrialConfig
from trainers.corpus import Corpus
from trainers.run import TrainingRun

from .conftest import SMALL, finish, tiny_run


def tiny(corpus: Corpus, structure: str = "dense", steps: int = 24, **settings: Any) -> TrainingRun:
    return tiny_run(corpus, structure, steps, **settings)


def timeless(run: TrainingRun) -> list[dict[str, Any]]:
    return [dataclasses.asdict(point) | {"seconds": 0.0} for point in run.points]


def weights(run: TrainingRun) -> list[torch.Tensor]:
    return [parameter.detach() for parameter in run.model.parameters()]


def same(a: TrainingRun, b: TrainingRun) -> bool:
    equal = all(torch.equal(x, y) for x, y in zip(weights(a), weights(b), strict=True))
    return equal and timeless(a) == timeless(b)


@pytest.mark.parametrize("structure", ["dense", "monarch", "tensor_train:1/4"])
def test_a_resumed_run_equals_an_uninterrupted_one(python_corpus: Corpus, tmp_path: Path, structure: str) -> None:
    whole = finish(tiny(python_corpus, structure))
    run = tiny(python_corpus, structure)
    for stop, steps in enumerate((1, 4, 3, 6)):
        run.advance(max_steps=steps)
        path = checkpoint.path_at(tmp_path, stop)
        checkpoint.save(path, run.state_dict())
        torch.rand(5)
        run = tiny(python_corpus, structure)
        run.load_state_dict(checkpoint.load(path))
    assert same(finish(run), whole)
    assert run.flops == whole.flops


def test_the_same_configuration_gives_the_same_run(python_corpus: Corpus) -> None:
    first = finish(tiny(python_corpus))
    torch.rand(5)
    assert same(finish(tiny(python_corpus)), first)
    assert not same(finish(tiny(python_corpus, seed=1)), first)


def test_evaluation_does_not_touch_training(python_corpus: Corpus) -> None:
    few, many = (finish(tiny(python_corpus, evaluations=count)) for count in (1, 12))
    assert len(few.points) == 1
    assert len(many.points) > 8
    assert all(torch.equal(x, y) for x, y in zip(weights(few), weights(many), strict=True))
    assert few.points[-1].loss == many.points[-1].loss


def test_a_run_leaves_the_global_generator_alone(python_corpus: Corpus) -> None:
    before = torch.get_rng_state()
    finish(tiny(python_corpus))
    assert torch.equal(torch.get_rng_state(), before)


def test_a_shorter_run_is_a_prefix_of_a_longer_one(python_corpus: Corpus) -> None:
    short, long = finish(tiny(python_corpus, steps=12, evaluations=1)), tiny(python_corpus, steps=48, evaluations=3)
    long.advance()
    assert long.step == short.steps
    assert all(torch.equal(x, y) for x, y in zip(weights(short), weights(long), strict=True))


def test_the_loss_is_the_mean_over_the_fixed_windows(python_corpus: Corpus) -> None:
    run = finish(tiny(python_corpus, eval_windows=19))
    tokens, targets = python_corpus.validation_windows(19, 32)
    with torch.no_grad():
        logits = run.model.double()(tokens)
    expected = -torch.log_softmax(logits, -1).gather(-1, targets[..., None]).mean()
    assert run.points[-1].loss == pytest.approx(expected.item(), abs=1e-5)


def test_training_loss_is_the_mean_since_the_previous_evaluation(python_corpus: Corpus) -> None:
    run = finish(tiny(python_corpus, steps=4, evaluations=1))
    single = finish(tiny(python_corpus, steps=4, evaluations=4))
    assert [point.step for point in single.points] == [1, 2, 3, 4]
    losses = [point.train_loss for point in single.points]
    assert losses[0] == pytest.approx(math.log(96), abs=1e-5)
    assert run.points[-1].train_loss == pytest.approx(sum(losses) / 4, abs=1e-5)


@pytest.mark.parametrize("structure", ["dense", "monarch", "kronecker"])
def test_the_budget_is_spent_in_whole_steps(python_corpus: Corpus, structure: str) -> None:
    run = finish(tiny(python_corpus, structure, steps=7))
    last = run.points[-1]
    per_token = flops.count(run.model.config).total
    assert (last.step, last.tokens, last.flops) == (7, 7 * 8 * 32, 7 * 8 * 32 * per_token)
    assert last.flops <= run.config.budget_flops < last.flops + run.flops_per_step


def test_points_during_the_warmup_say_so(python_corpus: Corpus) -> None:
    run = finish(tiny(python_corpus, steps=8, evaluations=12))
    assert [point.warmup for point in run.points] == [point.step <= 3 for point in run.points]
    assert run.points[0].warmup
    assert not run.points[-1].warmup


def test_the_rate_warms_up_linearly_and_stays(python_corpus: Corpus) -> None:
    run = tiny(python_corpus, "monarch", steps=6)
    final = [float(group["lr"]) for group in run.optimizer.param_groups]
    assert len(set(final)) > 1
    for step in range(6):
        run.advance(max_steps=1)
        share = min(1.0, (step + 1) / 3)
        assert [group["lr"] for group in run.optimizer.param_groups] == pytest.approx([rate * share for rate in final])


@pytest.mark.parametrize("structure", ["dense", "monarch", "kronecker"])
def test_a_short_run_learns_more_than_frequencies(python_corpus: Corpus, structure: str) -> None:
    run = finish(tiny(python_corpus, structure, steps=150, batch_size=16, warmup_steps=20))
    losses = [point.loss for point in run.points]
    assert losses[-1] < python_corpus.unigram_entropy - 0.3
    assert losses == sorted(losses, reverse=True)


@pytest.mark.parametrize("lr", [1e38, 1e3])
def test_divergence_ends_the_run(python_corpus: Corpus, lr: float) -> None:
    run = tiny(python_corpus, steps=200, evaluations=3, lr=lr)
    points = [run.advance() for _ in range(3)]
    assert run.diverged
    assert run.done
    assert points == [None, None, None]
    assert run.step <= 20
    assert run.flops == run.step * run.flops_per_step


def test_a_diverged_run_stays_diverged_when_resumed(python_corpus: Corpus) -> None:
    run = finish(tiny(python_corpus, lr=1e38))
    again = tiny(python_corpus, lr=1e38)
    again.load_state_dict(run.state_dict())
    assert again.diverged
    assert again.advance() is None


def test_a_budget_within_the_warmup_is_refused(python_corpus: Corpus) -> None:
    config = TrialConfig(structure="dense", budget_flops=1e6, **SMALL)
    with pytest.raises(ConfigError, match=r"budget_flops = 1e\+06 pays for 0 steps.*at least 4"):
        TrainingRun(config, python_corpus)


def test_other_data_than_recorded_are_refused(python_corpus: Corpus) -> None:
    with pytest.raises(DataError, match="data differ"):
        tiny(python_corpus, corpus_fingerprint="0" * 64)
    tiny(python_corpus, corpus_fingerprint=python_corpus.fingerprint)


def test_a_checkpoint_of_another_run_is_refused(python_corpus: Corpus) -> None:
    run = tiny(python_corpus, seed=3, lr=0.5)
    with pytest.raises(CheckpointError, match=r"lr = 0\.5 instead of .*, seed = 3 instead of 0"):
        tiny(python_corpus).load_state_dict(run.state_dict())


@pytest.mark.parametrize("damage", [{"model": {}}, {"optimizer": {}}, {"corpus": "0"}, {"points": [{"step": 1}]}, {"rng": 3}])
def test_a_state_that_does_not_fit_is_refused(python_corpus: Corpus, damage: dict[str, Any]) -> None:
    run = tiny(python_corpus)
    with pytest.raises(CheckpointError, match="start the run afresh"):
        run.load_state_dict(run.state_dict() | damage)


def test_what_is_no_state_at_all_is_refused(python_corpus: Corpus) -> None:
    with pytest.raises(CheckpointError, match="not the state of such a run"):
        tiny(python_corpus).load_state_dict({"weights": 1})


def test_bf16_trains_too(python_corpus: Corpus) -> None:
    run = finish(tiny(python_corpus, "monarch", precision="bf16"))
    assert run.precision == "bf16"
    assert run.points[-1].loss == pytest.approx(finish(tiny(python_corpus, "monarch")).points[-1].loss, abs=0.05)
