"""Replace the linear layers of any model by structured ones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

from torch import nn

from space.errors import ConfigError, StructureError
from space.structure import Structure
from trainers.layers import EinsumLinear


@dataclass(frozen=True, slots=True)
class ReplacedLayer:
    """One replaced layer: its qualified name, widths, and MACs per input vector and parameters (with bias) before and after."""

    name: str
    d_in: int
    d_out: int
    macs_before: int
    macs_after: int
    params_before: int
    params_after: int


@dataclass(frozen=True, slots=True)
class Replacement:
    """What `structure_linears` replaced. `str` is a readable table."""

    structure: Structure
    layers: tuple[ReplacedLayer, ...]

    def __str__(self) -> str:
        width = max(5, *(len(layer.name) for layer in self.layers))
        head = f"{'layer':<{width}} {'d_in':>7} {'d_out':>7} {'MACs':>25} {'parameters':>25}"
        return "\n".join([f"{len(self.layers)} layers -> {self.structure}", head, *(_row(x, width) for x in self.layers)])


def _row(layer: ReplacedLayer, width: int) -> str:
    macs = f"{layer.macs_before:,} -> {layer.macs_after:,}"
    params = f"{layer.params_before:,} -> {layer.params_after:,}"
    return f"{layer.name:<{width}} {layer.d_in:>7} {layer.d_out:>7} {macs:>25} {params:>25}"


def structure_linears(
    model: nn.Module, structure: Structure | str, skip: Sequence[str] = (), *, weight_norm: bool = False
) -> Replacement:
    """Replace each `torch.nn.Linear` of `model`, in place, by an `EinsumLinear` of one structure, freshly initialised.

    A layer keeps its widths, device, dtype and mode, and has a bias where it had one. A layer that several modules share stays
    shared. Subclasses of `torch.nn.Linear` are left alone: what they do is their own. On an error nothing is replaced.

    Args:
        model: any module that contains linear layers.
        structure: a `Structure`, or text that `Structure.parse` takes.
        skip: shell-style patterns of qualified names to leave, such as "lm_head" or "*.gate".
        weight_norm: as in `EinsumLinear`.

    Raises:
        StructureError: names the layer that cannot take the structure, or whose weight another module shares.
        ConfigError: where a pattern matches no layer, or no layer is left to replace.
    """
    parsed = Structure.parse(structure) if isinstance(structure, str) else structure
    chosen = _choose(model, skip)
    _refuse_tied(model, chosen)
    new = {old: _structured(name, old, parsed, weight_norm) for name, old in chosen.items()}
    for module in list(model.modules()):
        for child_name, child in list(module._modules.items()):
            if isinstance(child, nn.Linear) and child in new:
                setattr(module, child_name, new[child])
    return Replacement(parsed, tuple(_report(name, old, new[old]) for name, old in chosen.items()))


def _choose(model: nn.Module, skip: Sequence[str]) -> dict[str, nn.Linear]:
    """The layers to replace, by their first name."""
    linears = {name: module for name, module in model.named_modules() if type(module) is nn.Linear}
    for pattern in skip:
        if not any(fnmatchcase(name, pattern) for name in linears):
            raise ConfigError(f"skip: {pattern!r} matches no linear layer; there are {', '.join(linears) or 'none'}")
    chosen = {name: layer for name, layer in linears.items() if not any(fnmatchcase(name, p) for p in skip)}
    if not chosen:
        raise ConfigError(f"model: {type(model).__name__} has no torch.nn.Linear left to replace; {len(linears)} are skipped")
    if "" in chosen:
        raise ConfigError("model: it is itself a torch.nn.Linear, which cannot be replaced in place; use EinsumLinear")
    return chosen


def _refuse_tied(model: nn.Module, chosen: Mapping[str, nn.Linear]) -> None:
    """Raise where a weight to be replaced is also a parameter of another module, such as an embedding."""
    names = {layer.weight: name for name, layer in chosen.items()}
    replaced = set(chosen.values())
    for owner, module in model.named_modules():
        for parameter in module.parameters(recurse=False):
            if parameter in names and module not in replaced:
                name = names[parameter]
                raise StructureError(f"layer {name!r}: its weight is shared with {owner!r}; untie them, or add it to skip")


def _structured(name: str, old: nn.Linear, structure: Structure, weight_norm: bool) -> EinsumLinear:
    """The layer that takes the place of `old`."""
    weight = old.weight
    try:
        new = EinsumLinear(
            old.in_features,
            old.out_features,
            structure,
            old.bias is not None,
            weight_norm=weight_norm,
            device=weight.device,
            dtype=weight.dtype,
        )
    except StructureError as error:
        raise StructureError(f"layer {name!r}: {error}") from None
    return new.train(old.training)


def _report(name: str, old: nn.Linear, new: EinsumLinear) -> ReplacedLayer:
    before, after = (sum(p.numel() for p in layer.parameters()) for layer in (old, new))
    macs = old.in_features * old.out_features
    return ReplacedLayer(name, old.in_features, old.out_features, macs, new.realization.macs, before, after)
