"""Replace the linear layers of any model by structured ones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase

from torch import nn

from space.errors import ConfigError, StructureError
from space.structure import Structure
from trainers import mup
from trainers.layers import EinsumLinear
from trainers.linears import matrix, plain_linears
from trainers.project import project, relative_error


@dataclass(frozen=True, slots=True)
class ReplacedLayer:
    """One replaced layer, before and after.

    Attributes:
        name: qualified name; the first one, where a layer has several.
        structure: what took its place.
        d_in: width of the input.
        d_out: width of the output.
        macs_before: multiply-accumulates per input vector; a FLOP count is twice that.
        macs_after: the same.
        params_before: parameters, with the bias.
        params_after: the same.
        relative_error: of the new matrix in the Frobenius norm; None where it was drawn afresh.
    """

    name: str
    structure: Structure
    d_in: int
    d_out: int
    macs_before: int
    macs_after: int
    params_before: int
    params_after: int
    relative_error: float | None = None


@dataclass(frozen=True, slots=True)
class Replacement:
    """What `structure_linears` replaced, and in which model. `str` is a readable table."""

    layers: tuple[ReplacedLayer, ...]
    model: nn.Module = field(repr=False)

    def parameter_groups(
        self,
        lr: float,
        base_width: int | None = None,
        *,
        width: int | None = None,
        optimizer: mup.Optimizer = "adamw",
        weight_decay: float = 0.0,
    ) -> list[dict[str, object]]:
        """Parameter groups of the whole model with a learning rate for each factor of each layer (see `mup.parameter_groups`).

        Without `base_width`, `lr` is a rate that suits the model as it was before. With it, a rate that was tuned on a dense
        model of that width, when `width` is that of this one: by default the commonest input width of the replaced layers.
        """
        widths = [layer.d_in for layer in self.layers]
        width = width if width is not None else max(sorted(set(widths)), key=widths.count)
        return mup.parameter_groups(
            self.model,
            lr,
            base_width if base_width is not None else width,
            width,
            optimizer=optimizer,
            weight_decay=weight_decay,
        )

    def __str__(self) -> str:
        names = [str(layer.structure) for layer in self.layers]
        wide, wider = (max(9, *map(len, column)) for column in ([x.name for x in self.layers], names))
        head = f"{'layer':<{wide}} {'structure':<{wider}} {'d_in':>7} {'d_out':>7} {'MACs':>25} {'parameters':>25}"
        body = [
            f"{x.name:<{wide}} {name:<{wider}} {x.d_in:>7} {x.d_out:>7} {_counts(x)}"
            + (f" {x.relative_error:>8.2%}" if x.relative_error is not None else "")
            for x, name in zip(self.layers, names, strict=True)
        ]
        errors = any(x.relative_error is not None for x in self.layers)
        total = f"{_plural(len(self.layers)):<{wide}} {'':<{wider}} {'':>15} {_totals(self.layers)}"
        return "\n".join([head + " error".rjust(9) * errors, *body, total])


def _plural(count: int) -> str:
    return f"{count} layer" + "s" * (count != 1)


def _counts(x: ReplacedLayer) -> str:
    macs, params = f"{x.macs_before:,} -> {x.macs_after:,}", f"{x.params_before:,} -> {x.params_after:,}"
    return f"{macs:>25} {params:>25}"


def _totals(layers: Sequence[ReplacedLayer]) -> str:
    macs = f"{sum(x.macs_before for x in layers):,} -> {sum(x.macs_after for x in layers):,}"
    params = f"{sum(x.params_before for x in layers):,} -> {sum(x.params_after for x in layers):,}"
    return f"{macs:>25} {params:>25}"


def structure_linears(
    model: nn.Module,
    structure: Structure | str | Mapping[str, Structure | str],
    skip: Sequence[str] = (),
    *,
    weight_norm: bool = False,
    from_weights: bool = False,
) -> Replacement:
    """Replace each `torch.nn.Linear` and each `Conv1D` of Hugging Face in `model`, in place, by an `EinsumLinear`.

    A layer keeps its widths, device, dtype and mode, and has a bias where it had one. A layer that several modules share stays
    shared. Subclasses, such as quantised layers and adapters, and layers whose weight is no ordinary parameter are left alone:
    what they do is their own. On an error nothing is replaced.

    Args:
        model: any module that contains linear layers.
        structure: a `Structure`, or text that `Structure.parse` takes; or those by shell-style patterns of qualified names, of
            which a layer takes the first that matches and is left alone where none does.
        skip: patterns of names to leave, such as "lm_head" or "*.gate".
        weight_norm: as in `EinsumLinear`.
        from_weights: start from the closest layers to the present weights (see `project`), with their biases, and frozen where
            they are; otherwise from a fresh, trainable initialisation.

    Returns:
        A `Replacement`: `print` it for the table, ask it for `parameter_groups`.

    Raises:
        StructureError: names the layer that cannot take the structure, has hooks, or shares a parameter with another module.
        ConfigError: where a pattern matches no layer, or no layer is left to replace.
    """
    chosen = _choose(model, structure, skip)
    _refuse_shared(model, chosen)
    new = {}
    for name, (old, own) in chosen.items():
        try:
            new[old] = _structured(old, own, weight_norm, from_weights)
        except StructureError as error:
            raise StructureError(f"layer {name!r}: {error}") from None
    report = tuple(_report(name, old, new[old], from_weights) for name, (old, _) in chosen.items())
    for module in list(model.modules()):
        for child_name, child in list(module._modules.items()):
            if child is not None and child in new:
                setattr(module, child_name, new[child])
    return Replacement(report, model)


def _choose(
    model: nn.Module, structure: Structure | str | Mapping[str, Structure | str], skip: Sequence[str]
) -> dict[str, tuple[nn.Module, Structure]]:
    """The layers to replace, by their first name, and what each becomes."""
    by_pattern = structure if isinstance(structure, Mapping) else {"*": structure}
    parsed = {p: Structure.of(s) for p, s in by_pattern.items()}
    linears = dict(plain_linears(model))
    for argument, patterns in (("skip", skip), ("structure", parsed if isinstance(structure, Mapping) else ())):
        for pattern in patterns:
            if not any(fnmatchcase(name, pattern) for name in linears):
                raise ConfigError(f"{argument}: {pattern!r} matches no linear layer; there are {', '.join(linears) or 'none'}")
    kept = [name for name in linears if not any(fnmatchcase(name, p) for p in skip)]
    matched = {name: [s for pattern, s in parsed.items() if fnmatchcase(name, pattern)] for name in kept}
    chosen = {name: (linears[name], found[0]) for name, found in matched.items() if found}
    if not chosen:
        raise ConfigError(f"model: {type(model).__name__} has no linear layer left to replace; {len(linears)} are skipped")
    if "" in chosen:
        kind = type(model).__name__
        raise ConfigError(f"model: it is itself a {kind}, which cannot be replaced in place; use EinsumLinear or project")
    return chosen


def _refuse_shared(model: nn.Module, chosen: Mapping[str, tuple[nn.Module, Structure]]) -> None:
    """Raise where a parameter to be replaced is also another module's, such as an embedding's, or a layer has hooks."""
    owners = {p: (name, own, old) for name, (old, _) in chosen.items() for own, p in old.named_parameters()}
    for owner, module in model.named_modules():
        for parameter in module.parameters(recurse=False):
            name, own, old = owners.get(parameter, ("", "", module))
            if old is not module:
                raise StructureError(f"layer {name!r}: its {own} is shared with {owner!r}; untie them, or add it to skip")
    for name, (old, _) in chosen.items():
        if old._forward_hooks or old._forward_pre_hooks or old._backward_hooks or old._backward_pre_hooks:
            raise StructureError(
                f"layer {name!r}: it has hooks, which its replacement would lose; remove them, or add it to skip"
            )


def _structured(old: nn.Module, structure: Structure, weight_norm: bool, from_weights: bool) -> EinsumLinear:
    """The layer that takes the place of `old`."""
    weight = matrix(old)
    d_out, d_in = weight.shape
    bias = old._parameters.get("bias")
    if from_weights:
        new = project(weight.detach(), structure, bias=bias, weight_norm=weight_norm).requires_grad_(weight.requires_grad)
    else:
        new = EinsumLinear(
            d_in, d_out, structure, bias is not None, weight_norm=weight_norm, device=weight.device, dtype=weight.dtype
        )
    return new.train(old.training)


def _report(name: str, old: nn.Module, new: EinsumLinear, from_weights: bool) -> ReplacedLayer:
    before, after = (sum(p.numel() for p in layer.parameters()) for layer in (old, new))
    error = relative_error(matrix(old).detach(), new) if from_weights else None
    macs = new.d_in * new.d_out
    return ReplacedLayer(name, new.structure, new.d_in, new.d_out, macs, new.realization.macs, before, after, error)
