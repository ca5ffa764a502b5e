"""`TrainingRun`: one trial, from the first step to the last one its budget pays for."""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch.nn.utils import clip_grad_norm_

from space.errors import CheckpointError
from trainers import flops, mup, precision
from trainers.config import TrialConfig
from trainers.coordinates import STEPS, CoordinateCheck
from trainers.corpus import Corpus
from trainers.gpt import GPT
from trainers.gpt_config import GPTConfig, model_config
from trainers.plans.choice import estimated
from trainers.plans.native import library
from trainers.points import Coordinates, Point

EVALUATION_SPAN = 4
"""The first evaluation is at 1/4 of the run, the others follow at a constant ratio: earlier ones say how a model starts, not
how its loss scales."""

CHECK_EVERY = 10
"""Steps between two looks at the training loss: each one waits for the device."""

HOPELESS = 2.0
"""A training loss above this many times that of a uniform guess has diverged."""


class TrainingRun:
    """Trains `config` on `corpus`: AdamW without decay, clipping, linear warmup, then a constant learning rate.

    The outcome depends on the arguments alone: weights are drawn from the seed, batches from (seed, step), and evaluation
    draws nothing. On the CPU a run that was saved and resumed equals an uninterrupted one bit for bit.

    Attributes:
        steps: optimizer steps that the budget pays for.
        flops_per_step: training FLOPs of one step, convention `train_flops`.
        schedule: steps after which the run is evaluated, the last one `steps`.
        step: steps taken.
        seconds: time spent training, without evaluation.
        points: one per evaluation so far.
        coordinates: one per look of the coordinate check so far; it is charged nothing, neither FLOPs nor seconds.
        diverged: the loss is not finite, or hopeless; the run has ended.
        precision: "fp32" or "bf16", what "auto" came to.

    Args:
        device: where to train; None takes the GPU if there is one.

    Raises:
        ConfigError: the budget pays for no step after the warmup, or the model cannot be built.
        DataError: the corpus is not the one recorded, or too small for the context.
    """

    def __init__(self, config: TrialConfig, corpus: Corpus, device: torch.device | str | None = None) -> None:
        if config.corpus_fingerprint is not None:
            corpus.require(config.corpus_fingerprint)
        corpus.require_context(config.context)
        self.config, self.corpus = config, corpus
        self.device = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
        self.precision = precision.choose(config.precision, self.device)
        shape = model_config(config, corpus.vocab_size)
        self.flops_per_step = float(flops.count(shape).total * config.tokens_per_step)
        self.steps = flops.affordable_steps(config, self.flops_per_step)
        self.schedule = evaluation_steps(self.steps, config.evaluations)

        self.model = _build(shape, config.seed).to(self.device)
        groups = mup.parameter_groups(self.model, config.lr, config.base_width)
        self.optimizer = torch.optim.AdamW(groups, betas=config.betas, weight_decay=0.0, fused=True)
        self._rates = [group["lr"] for group in self.optimizer.param_groups]
        self._windows = corpus.validation_windows(config.eval_windows, config.context)

        library()  # compiled, once per machine, before any time is counted

        self.step = 0
        self.seconds = 0.0
        self.points: list[Point] = []
        self.coordinates: list[Coordinates] = []
        self._check = CoordinateCheck(self.model, self._windows[0])
        self.diverged = False
        self._losses = torch.zeros((), device=self.device)  # sum since the last evaluation
        self._summed = 0

    @property
    def done(self) -> bool:
        """Whether nothing is left to do: the budget is spent, or the run has diverged."""
        return self.diverged or len(self.points) == len(self.schedule)

    @property
    def flops(self) -> float:
        """Training FLOPs spent so far, what the run is charged."""
        return self.step * self.flops_per_step

    @property
    def tokens(self) -> int:
        """Training tokens seen so far."""
        return self.step * self.config.tokens_per_step

    def advance(self, max_steps: int | None = None) -> Point | None:
        """Trains to the next evaluation and evaluates there.

        Args:
            max_steps: most steps to take in this call.

        Returns:
            The new point; None if `max_steps` ran out before it, if the run diverged, or if it is done already.
        """
        if self.done:
            return None
        due = self.schedule[len(self.points)]
        stop = due if max_steps is None else min(due, self.step + max_steps)
        start = time.perf_counter()
        while self.step < stop and not self.diverged:
            self._train_step()
            self.step += 1
            if self.step in STEPS:
                start += self._look()
            if self.step % CHECK_EVERY == 0 or self.step == due:
                self.diverged = not self._train_loss() < HOPELESS * math.log(self.corpus.vocab_size)
        self.seconds += time.perf_counter() - start
        return self._evaluate() if self.step == due and not self.diverged else None

    def state_dict(self) -> dict[str, Any]:
        """All state of the loop, as tensors and plain values. The tensors are the run's own: save them before going on."""
        return {
            "config": self.config.to_dict(),
            "corpus": self.corpus.fingerprint,
            "torch": str(torch.__version__),
            "precision": self.precision,
            "step": self.step,
            "seconds": self.seconds,
            "points": [dataclasses.asdict(point) for point in self.points],
            "coordinates": [dataclasses.asdict(look) for look in self.coordinates],
            "diverged": self.diverged,
            "losses": self._losses.item(),
            "summed": self._summed,
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "rng": torch.get_rng_state(),
            "cuda_rng": torch.cuda.get_rng_state(self.device) if self.device.type == "cuda" else None,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continues where `state` was taken. The torch version may differ; equality bit for bit then is not promised.

        Raises:
            CheckpointError: `state` is of another configuration or corpus, or not the state of a run.
        """
        try:
            self._check_fits(state)
            self.model.load_state_dict(state["model"])
            self.optimizer.load_state_dict(state["optimizer"])
            self.points = [Point(**row) for row in state["points"]]
            self.coordinates = [Coordinates(**row) for row in state["coordinates"]]
            self.step, self.seconds = state["step"], state["seconds"]
            self.diverged, self._summed = state["diverged"], state["summed"]
            self._losses.fill_(state["losses"])
            torch.set_rng_state(state["rng"])
            if self.device.type == "cuda" and state["cuda_rng"] is not None:
                torch.cuda.set_rng_state(state["cuda_rng"], self.device)
        except (KeyError, TypeError, ValueError, RuntimeError) as error:
            raise CheckpointError(f"the checkpoint is not the state of such a run ({error}); start the run afresh") from error

    def _train_step(self) -> None:
        config = self.config
        warm = min(1.0, (self.step + 1) / config.warmup_steps) if config.warmup_steps else 1.0
        for group, rate in zip(self.optimizer.param_groups, self._rates, strict=True):
            group["lr"] = rate * warm
        tokens, targets = self.corpus.train_batch(self.step, config.batch_size, config.context, config.seed)
        loss = self._loss(tokens, targets)
        loss.backward()  # type: ignore[no-untyped-call]
        clip_grad_norm_(self.model.parameters(), config.clip)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self._losses += loss.detach()
        self._summed += 1

    def _loss(self, tokens: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        with precision.autocast(self.precision, self.device), estimated():  # a resumed run must take the same plans
            return self.model.loss(tokens.to(self.device), targets.to(self.device))

    def _look(self) -> float:
        """Look at the coordinates; return the seconds that took."""
        start = time.perf_counter()
        self.coordinates.append(self._check.look(self.step))
        return time.perf_counter() - start

    def _train_loss(self) -> float:
        return self._losses.item() / self._summed

    @torch.inference_mode()
    def _evaluate(self) -> Point | None:
        size = self.config.batch_size
        batches = zip(*(torch.split(half, size) for half in self._windows), strict=True)
        loss = sum(self._loss(tokens, targets).item() * len(tokens) for tokens, targets in batches) / len(self._windows[0])
        if not math.isfinite(loss):
            self.diverged = True
            return None
        warming = self.step <= self.config.warmup_steps
        point = Point(self.step, self.tokens, self.flops, loss, self._train_loss(), self.seconds, warming)
        self.points.append(point)
        self._losses.zero_()
        self._summed = 0
        return point

    def _check_fits(self, state: Mapping[str, Any]) -> None:
        ours, theirs = self.config.to_dict(), state["config"]
        if differing := [key for key in ours if ours[key] != theirs.get(key)]:
            pairs = ", ".join(f"{key} = {theirs.get(key)!r} instead of {ours[key]!r}" for key in differing)
            raise CheckpointError(f"the checkpoint is of another run ({pairs}); give the one of this run")
        if state["corpus"] != self.corpus.fingerprint:
            raise CheckpointError(f"the checkpoint was trained on other data than {self.corpus.name!r}; start the run afresh")


def evaluation_steps(steps: int, evaluations: int) -> list[int]:
    """Steps to evaluate after: at most `evaluations`, at a constant ratio from `steps` / 4 to `steps`.

    >>> evaluation_steps(160, 3)
    [40, 80, 160]
    >>> evaluation_steps(3, 5)
    [1, 2, 3]
    """
    first = max(1.0, steps / EVALUATION_SPAN)
    spaced = np.geomspace(first, steps, evaluations) if evaluations > 1 else np.array([steps])
    return [int(step) for step in np.unique(np.round(spaced))]


def _build(shape: GPTConfig, seed: int) -> GPT:
    """The model, drawn on the CPU from its own generator: the same weights on every device, torch's own untouched."""
    with torch.random.fork_rng(devices=[]):
        return GPT(shape, torch.Generator().manual_seed(seed))
