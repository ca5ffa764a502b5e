"""The actor that Ray Tune runs trials in. It imports what training needs and nothing of the search, so that it starts fast."""

from __future__ import annotations

import contextlib
from typing import Any

import torch
from ray import tune

from search.report import Report, failure
from search.trial import AttemptRunner
from space.errors import EinsearchError

SLICE = 5.0
"""Seconds after which a worker looks up from its training: whoever stops it waits no longer."""


class TrialActor(tune.Trainable):  # type: ignore[misc]  # Ray has no types
    """A worker of Tune's: one attempt at a time, reused for the next."""

    def setup(self, config: dict[str, Any]) -> None:
        """Take a new task; a failure is reported by the first step, so that its reason reaches the ledger."""
        torch.set_num_threads(max(1, int(config["threads"])))
        self._runner: AttemptRunner | None = None
        self._last = Report("running")
        try:
            self._runner = AttemptRunner(config["config"], config["place"], config["attempt"])
        except Exception as error:  # noqa: BLE001 - the boundary of a worker: whatever happened belongs in the ledger
            self._last = failure(error, self._last)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Tune's question whether the actor can be reused: always."""
        self.setup(new_config)
        return True

    def step(self) -> dict[str, Any]:
        """Train to the next evaluation, or for a slice of time."""
        try:
            self._last = self._runner.advance(SLICE) if self._runner is not None else self._last
        except Exception as error:  # noqa: BLE001 - as in setup
            self._last = failure(error, self._last)
        return {"report": self._last.to_json(), "flops": self._last.flops, "done": self._last.state != "running"}

    def cleanup(self) -> None:
        """Tune stops this actor: keep what was done since the last checkpoint."""
        with contextlib.suppress(EinsearchError):
            if self._runner is not None and self._last.state == "running":
                self._runner.save()

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        """Nothing for Tune to keep: checkpoints are written by `step`, before its report."""

    def load_checkpoint(self, checkpoint: Any) -> None:
        """Nothing to load: a task says where its checkpoints are."""
