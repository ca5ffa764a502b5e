"""The coordinate check of the maximal update parameterisation, on every run (Tensor Programs V, App. D.1; P1 section 6).

    h_t      what a layer writes for a fixed window of validation tokens after t optimizer steps
    change   root mean square of h_t - h_0 over tokens, features and the layers of one kind

Where the parameterisation is right, the change after a few steps does not depend on the width. The first factor that learns is
the head, which starts at zero; gradients reach all layers at the third step, so the first look is at the fourth.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from trainers.gpt import GPT
from trainers.layers import EinsumLinear
from trainers.plans.choice import estimated
from trainers.points import Coordinates

STEPS = (4, 8, 16)
"""Optimizer steps after which a run is looked at. At the same ones the rate of the warmup is the same at every width."""

WINDOWS = 1
"""Windows of validation tokens that a look takes. Three looks and the start cost a 24th of a training step of 32 windows."""

KINDS = {"query": "qkv", "key": "qkv", "value": "qkv", "out": "out", "up": "up", "down": "down", "head": "head"}
"""Kind of each linear layer of the model, by the end of its name."""


class CoordinateCheck:
    """Looks at a model beside its training: in float32, without gradients, and drawing nothing from any random stream.

    Args:
        model: as it was initialised; what it does now is h_0.
        tokens: (windows, T) int64, the fixed input.
    """

    def __init__(self, model: GPT, tokens: Tensor) -> None:
        self._model, self._tokens = model, tokens[:WINDOWS].to(model.embedding.weight.device)
        self._start = self._outputs()

    @torch.inference_mode()
    def look(self, step: int) -> Coordinates:
        """The change so far, after `step` steps."""
        squares: dict[str, list[Tensor]] = {}
        for name, now in self._outputs().items():
            kind = KINDS[name.rpartition(".")[2]]
            squares.setdefault(kind, []).append((now - self._start[name]).square().mean())
        kinds = list(squares)
        changes = torch.stack([torch.stack(squares[kind]).mean() for kind in kinds]).sqrt().tolist()
        return Coordinates(step, **dict(zip(kinds, changes, strict=True)))

    @torch.inference_mode()
    def _outputs(self) -> dict[str, Tensor]:  # (windows, T, d_out) each
        """What each linear layer writes, by name."""
        found: dict[str, Tensor] = {}
        hooks = [
            module.register_forward_hook(partial(_keep, found, name))
            for name, module in self._model.named_modules()
            if isinstance(module, EinsumLinear)
        ]
        try:
            with estimated():
                self._model(self._tokens)
        finally:
            for hook in hooks:
                hook.remove()
        return found


def _keep(found: dict[str, Tensor], name: str, module: nn.Module, given: tuple[Any, ...], output: Tensor) -> None:  # noqa: ARG001
    found[name] = output.float()
