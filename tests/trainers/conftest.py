from __future__ import annotations

import dataclasses
from typing import Any

import pytest
import torch

from trainers import flops
from trainers.config import TrialConfig
from trainers.corpus import Corpus, load_corpus
from trainers.gpt_config import model_config
from trainers.run import TrainingRun

SMALL: dict[str, Any] = {
    "width": 32, "depth": 1, "context": 32, "batch_size": 8, "warmup_steps": 3, "evaluations": 4, "eval_windows": 16,
    "precision": "fp32",
}  # fmt: skip
"""Settings of a run that takes a blink."""


@pytest.fixture(scope="session")
def python_corpus(surroundings: None) -> Corpus:
    """The default corpus, prepared from what is installed."""
    return load_corpus("python")


@pytest.fixture(autouse=True)
def one_thread() -> None:
    """Small products gain nothing from threads, and results then do not depend on the machine."""
    torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def nothing_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Plans are chosen by estimate, the same every time; what a test of the autotuner times, it asks for."""
    monkeypatch.setenv("EINSEARCH_AUTOTUNE", "0")


def tiny_run(corpus: Corpus, structure: str, steps: int, **settings: Any) -> TrainingRun:
    """A run of exactly `steps` steps."""
    config = TrialConfig(structure=structure, budget_flops=1.0, **(SMALL | settings))
    per_step = flops.count(model_config(config, corpus.vocab_size)).total * config.tokens_per_step
    return TrainingRun(dataclasses.replace(config, budget_flops=(steps + 0.5) * per_step), corpus, "cpu")


def finish(run: TrainingRun) -> TrainingRun:
    """Run it to its end."""
    while not run.done:
        run.advance()
    return run
