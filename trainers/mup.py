"""Learning rates of the maximal update parameterisation (muP) for structured layers (P1 section 6 and App. C; P2 section 3).

    eta            learning rate tuned on a dense layer of fan-in d_0
    d_0            fan-in of the same layer in that base model
    k              number of factors of a layer: 1 for dense, else 2
    in_i           fan-in of the i-th batched product
    width_i        features that it writes, all its batches together: d_out for the last

    eta_i   = eta d_0 / (k in_i)                         Adam, for the weights of product i
    kappa_i = d_in / (k in_i)                            the same relative to a dense layer of the same width
    eta_i   = eta (width_i / in_i) d_in / (d_out k)      SGD, the same at every base width

P2 App. B and P1 App. C.2 have out_i of one batch in the place of width_i, and P1 divides by how often a weight is shared. Then
the gradient of a feature, 1 / width_i, counts as 1 / out_i: in a coordinate check, features move less in wider layers. The
two agree for low rank, and for dense.

Embeddings, positions, norms, biases and scalar gains take eta itself. The head is a dense layer: eta d_0 / d with Adam.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, get_args

from torch import nn

from space.errors import ConfigError, StructureError
from space.realization import Realization
from trainers.factors import products
from trainers.layers import EinsumLinear
from trainers.linears import is_linear
from trainers.products import Edges, FactorName

Optimizer = Literal["adamw", "sgd"]


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


def sgd_multipliers(realization: Realization) -> dict[FactorName, float]:
    """SGD's learning rate of each factor over that of the dense layer it replaces.

    >>> from space.structure import Structure
    >>> sgd_multipliers(Structure.parse("low_rank:1/2").realize(256, 256))
    {'a': 0.03125, 'b': 8.0}
    >>> sgd_multipliers(Structure.parse("kronecker").realize(256, 256))
    {'a': 8.0, 'b': 8.0}

    Raises:
        StructureError: over two factors, for which no rule is known.
    """
    parts = products(realization)
    if len(parts) == 1:
        return {parts[0].factor: 1.0}
    if len(parts) > 2:
        raise StructureError(f"{realization.structure}: SGD's rates are known for up to two factors; use adamw")
    e = Edges.of(realization)
    widths = e.gamma * e.x2 * parts[0].fan_out, e.phi * e.y1 * parts[1].fan_out
    dense = realization.d_out / realization.d_in
    return {p.factor: width / p.fan_in / dense / 2 for p, width in zip(parts, widths, strict=True)}


@dataclass(slots=True)
class _Group:
    multiplier: float
    weight_decay: float
    params: list[nn.Parameter] = field(default_factory=list)


def multipliers(model: nn.Module, width: int, base_width: int, optimizer: Optimizer = "adamw") -> dict[str, float]:
    """Learning-rate multiplier of every parameter of `model`, by name.

    A layer of fan-in d_in is taken to have fan-in d_in base_width / width in the base model, so that d_0 is base_width for
    most layers of a transformer and 4 base_width for the down projection. A weight that an embedding and the head share counts
    as the embedding's.

    Args:
        model: its linear layers are `EinsumLinear`, `torch.nn.Linear` or Hugging Face's `Conv1D`; other modules may be there.
        width: width of the model, the number that stands for base_width in the base model.
        base_width: width of the dense model on which the base rate was tuned.
        optimizer: whose rule; with "sgd" whatever is not an `EinsumLinear` keeps the base rate.
    """
    scales = {name: 1.0 for name, _ in model.named_parameters()}
    for prefix, module in model.named_modules():
        dot = f"{prefix}." if prefix else ""
        if isinstance(module, EinsumLinear):
            base_fan_in = module.d_in * base_width / width
            sgd = optimizer == "sgd"
            factors = sgd_multipliers(module.realization) if sgd else adam_multipliers(module.realization, base_fan_in)
            scales |= {f"{dot}{factor}": scale for factor, scale in factors.items() if f"{dot}{factor}" in scales}
        elif optimizer == "adamw" and is_linear(module) and f"{dot}weight" in scales:
            scales[f"{dot}weight"] = base_width / width
    return scales


def parameter_groups(
    model: nn.Module,
    lr: float,
    base_width: int,
    width: int | None = None,
    *,
    optimizer: Optimizer = "adamw",
    weight_decay: float = 0.0,
) -> list[dict[str, object]]:
    """Parameter groups for an optimizer of torch: one per distinct rate and decay, each parameter in exactly one.

    A step shrinks a parameter by its rate times its decay. The decay of each group makes a layer's matrix, the product of its
    k factors, shrink by `lr` times `weight_decay` as a dense one would: it is weight_decay / (k multiplier). Biases, norms and
    gains, all of less than two dimensions, do not shrink.

    Args:
        model: a `GPT`, or any model of the layers that `multipliers` takes.
        lr: base learning rate, tuned on a dense model of width `base_width`.
        base_width: d_0, the width of that model.
        width: width of `model`; None takes `model.config.width`.
        optimizer: "adamw" (also for `torch.optim.Adam` without decay), or "sgd".
        weight_decay: of a dense layer.

    Returns:
        Groups with the keys params, lr, weight_decay and multiplier (lr over the base rate), slowest first.

    Raises:
        ConfigError: where the width is not given and the model does not say it, or an argument is out of its range.
    """
    _check(lr, base_width, width, optimizer, weight_decay)
    if width is None:
        width = getattr(getattr(model, "config", None), "width", None)
    if width is None:
        raise ConfigError(f"width: {type(model).__name__} has no config.width; give the width that {base_width} stands for")
    scales = multipliers(model, width, base_width, optimizer)
    factors = _factors(model)
    groups: dict[tuple[float, float], _Group] = {}
    for name, parameter in model.named_parameters():
        scale = scales[name]
        decay = weight_decay / (factors.get(parameter, 1) * scale) if parameter.ndim >= 2 else 0.0
        groups.setdefault((scale, decay), _Group(scale, decay)).params.append(parameter)
    assert sum(len(g.params) for g in groups.values()) == len(list(model.parameters()))
    return [
        {"params": g.params, "lr": lr * g.multiplier, "weight_decay": g.weight_decay, "multiplier": g.multiplier}
        for _, g in sorted(groups.items(), key=lambda item: item[0])
    ]


def _factors(model: nn.Module) -> dict[nn.Parameter, int]:
    """Of each factor, how many there are in its layer."""
    layers = [m for m in model.modules() if isinstance(m, EinsumLinear)]
    return {layer.get_parameter(p.factor): len(layer.products) for layer in layers for p in layer.products}


def _check(lr: float, base_width: int, width: int | None, optimizer: str, weight_decay: float) -> None:
    if optimizer not in get_args(Optimizer):
        raise ConfigError(f"optimizer is {optimizer!r}; it must be one of {', '.join(get_args(Optimizer))}")
    for name, value in (("lr", lr), ("base_width", base_width), ("width", 1 if width is None else width)):
        if not value > 0:
            raise ConfigError(f"{name} is {value!r}; it must be positive")
    if not weight_decay >= 0:
        raise ConfigError(f"weight_decay is {weight_decay!r}; it must be 0 or more")
