"""Learning rates of the maximal update parameterisation (muP) for structured layers (P1 section 6 and App. C; P2 section 3).

    eta        learning rate tuned on a dense layer of fan-in d_0
    d_0        fan-in of the same layer in that base model
    k          number of factors of a layer: 1 for dense, else 2
    in_i       fan-in of the i-th batched product

    eta_i   = eta d_0 / (k in_i)     Adam, for the weights of product i
    kappa_i = d_in / (k in_i)        the same relative to a dense layer of the same width

Embeddings, positions, norms, biases and scalar gains take eta itself. The head is a dense layer: eta d_0 / d.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from torch import nn

from space.errors import ConfigError
from space.realization import Realization
from trainers.layers import EinsumLinear
from trainers.products import FactorName, products


def adam_multipliers(realization: Realization, base_fan_in: float) -> dict[FactorName, float]:
    """Adam's learning rate of each factor over the base rate, d_0 / (k in_i).

    >>> from space.structure import Structure
    >>> adam_multipliers(Structure.parse("low_rank:1/2").realize(256, 256), base_fan_in=256)
    {'a': 0.5, 'b': 8.0}
    >>> adam_multipliers(Structure.parse("dense").realize(512, 512), base_fan_in=256)
    {'a': 0.5}
    """
    parts = products(realization)
    return {p.factor: base_fan_in / (len(parts) * p.fan_in) for p in parts}


@dataclass(slots=True)
class _Group:
    multiplier: float
    params: list[nn.Parameter] = field(default_factory=list)


def multipliers(model: nn.Module, width: int, base_width: int) -> dict[str, float]:
    """Learning-rate multiplier of every parameter of `model`, by name.

    A layer of fan-in d_in is taken to have fan-in d_in base_width / width in the base model, so that d_0 is base_width for
    most layers of a transformer and 4 base_width for the down projection.

    Args:
        model: its linear layers are `EinsumLinear` or `torch.nn.Linear`.
        width: width of the model, the number that stands for base_width in the base model.
        base_width: width of the dense model on which the base rate was tuned.
    """
    scales = {name: 1.0 for name, _ in model.named_parameters()}
    for prefix, module in model.named_modules():
        dot = f"{prefix}." if prefix else ""
        if isinstance(module, EinsumLinear):
            base_fan_in = module.d_in * base_width / width
            factors = adam_multipliers(module.realization, base_fan_in)
            scales |= {f"{dot}{factor}": scale for factor, scale in factors.items() if f"{dot}{factor}" in scales}
        elif isinstance(module, nn.Linear) and f"{dot}weight" in scales:
            scales[f"{dot}weight"] = base_width / width
    return scales


def parameter_groups(model: nn.Module, lr: float, base_width: int, width: int | None = None) -> list[dict[str, object]]:
    """Parameter groups for `torch.optim.Adam` and `AdamW`: one per distinct rate, each parameter in exactly one.

    Args:
        model: a `GPT`, or any model of `EinsumLinear` and `torch.nn.Linear` layers.
        lr: base learning rate, tuned on a dense model of width `base_width`.
        base_width: d_0, the width of that model.
        width: width of `model`; None takes `model.config.width`.

    Returns:
        Groups with the keys params, lr and multiplier (lr over the base rate), slowest first.

    Raises:
        ConfigError: where the width is not given and the model does not say it.
    """
    if width is None:
        width = getattr(getattr(model, "config", None), "width", None)
    if width is None:
        raise ConfigError(f"width: {type(model).__name__} has no config.width; give the width that {base_width} stands for")
    scales = multipliers(model, width, base_width)
    groups: dict[float, _Group] = {}
    for name, parameter in model.named_parameters():
        groups.setdefault(scales[name], _Group(scales[name])).params.append(parameter)
    assert sum(len(g.params) for g in groups.values()) == len(list(model.parameters()))
    ordered = sorted(groups.values(), key=lambda g: g.multiplier)
    return [{"params": g.params, "lr": lr * g.multiplier, "multiplier": g.multiplier} for g in ordered]
