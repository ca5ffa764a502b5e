"""The dense linear layers of any model: `torch.nn.Linear`, and Hugging Face's `Conv1D`, which holds the transposed matrix."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import cast

from torch import Tensor, nn


def is_linear(module: nn.Module) -> bool:
    """Whether a module holds the matrix of one dense linear map, subclasses included."""
    return isinstance(module, (nn.Linear, *_conv1d()))


def plain_linears(model: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """Name and module of each layer that is exactly one of those classes, its weight an ordinary parameter.

    A subclass, as of quantisation, adapters and parametrisation, or a weight that a hook computes does more than a linear map.
    """
    kinds = (nn.Linear, *_conv1d())
    for name, module in model.named_modules():
        if type(module) in kinds and type(module._parameters.get("weight")) is nn.Parameter:
            yield name, module


def matrix(module: nn.Module) -> Tensor:  # (d_out, d_in)
    """The weight of such a layer, as a view in the orientation of `torch.nn.Linear`."""
    weight = cast(Tensor, module.weight)
    return weight if isinstance(module, nn.Linear) else weight.t()


def widths(module: nn.Module) -> tuple[int, int]:
    """Widths of the input and output of such a layer; a subclass may hold its weight in another shape."""
    if isinstance(module, nn.Linear):
        return module.in_features, module.out_features
    d_in, d_out = cast(Tensor, module.weight).shape
    return d_in, d_out


def _conv1d() -> tuple[type[nn.Module], ...]:
    """Hugging Face's class where a model can have one: where its library has been imported, by whoever made the model."""
    found = getattr(sys.modules.get("transformers.pytorch_utils"), "Conv1D", None)
    return () if found is None else (found,)
