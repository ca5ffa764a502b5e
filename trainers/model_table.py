"""What a model is made of: its linear layers, dense or structured, with their cost, and the parameters of everything else."""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from trainers.layers import EinsumLinear
from trainers.linears import is_linear, widths


@dataclass(frozen=True, slots=True)
class LayerRow:
    """A linear layer, or all other modules of one class together.

    Attributes:
        name: qualified name of the layer, or "other".
        kind: class of the module, or the structure of an `EinsumLinear`; with their number, for other modules.
        d_in: width of the input; None for other modules.
        d_out: width of the output; None for other modules.
        flops: of one product with one input vector, 2 per multiply-accumulate; None where that depends on the input.
        params: parameters that no row above has counted: 0 for a layer whose weight is tied to one of them.
    """

    name: str
    kind: str
    d_in: int | None
    d_out: int | None
    flops: int | None
    params: int


@dataclass(frozen=True, repr=False, slots=True)
class ModelTable:
    """The table of `describe_model`. Its `str` and `repr` are readable."""

    rows: tuple[LayerRow, ...]

    @property
    def flops(self) -> int:
        """FLOPs of one product with each linear layer. Attention, convolutions and norms are not in it."""
        return sum(row.flops or 0 for row in self.rows)

    @property
    def params(self) -> int:
        """Parameters of the model."""
        return sum(row.params for row in self.rows)

    def __str__(self) -> str:
        wide, wider = (max(9, *map(len, column)) for column in ([r.name for r in self.rows], [r.kind for r in self.rows]))
        lines = [f"{'layer':<{wide}} {'kind':<{wider}} {'d_in':>7} {'d_out':>7} {'FLOPs':>15} {'parameters':>15}"]
        for r in (*self.rows, LayerRow("total", "", None, None, self.flops, self.params)):
            d_in, d_out, flops = ("" if n is None else f"{n:{f}}" for n, f in ((r.d_in, ""), (r.d_out, ""), (r.flops, ",")))
            lines.append(f"{r.name:<{wide}} {r.kind:<{wider}} {d_in:>7} {d_out:>7} {flops:>15} {r.params:>15,}")
        return "\n".join(lines)

    __repr__ = __str__


def describe_model(model: nn.Module) -> ModelTable:
    """The linear layers of any model, each with its FLOPs per input vector and parameters; then what else has parameters.

    A layer or parameter that a model holds in several places counts once, under its first name.
    """
    seen: set[nn.Parameter] = set()
    linears: list[LayerRow] = []
    others: dict[str, tuple[int, int]] = {}
    for name, module in model.named_modules():
        own = set(module.parameters(recurse=False)) - seen
        seen |= own
        params = sum(p.numel() for p in own)
        if isinstance(module, EinsumLinear):
            flops = 2 * module.realization.macs
            linears.append(LayerRow(name, str(module.structure), module.d_in, module.d_out, flops, params))
        elif is_linear(module):
            d_in, d_out = widths(module)
            linears.append(LayerRow(name, type(module).__name__, d_in, d_out, 2 * d_in * d_out, params))
        elif own:
            count, total = others.get(type(module).__name__, (0, 0))
            others[type(module).__name__] = count + 1, total + params
    rest = [LayerRow("other", f"{count} {kind}", None, None, None, total) for kind, (count, total) in others.items()]
    return ModelTable((*linears, *rest))
