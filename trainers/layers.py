"""`EinsumLinear`: any two-factor Einsum structure, or a dense matrix, as a drop-in for `torch.nn.Linear`."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from space.errors import StructureError
from space.realization import Realization
from space.structure import Structure
from trainers.products import Edges, contract, materialise, products, transpose

MOVE_COST = 40
"""Time to move one feature of one token between products, in MACs of a large product (CPU, float32, widths 64 to 1280)."""


class EinsumLinear(nn.Module):
    """y = x W^T + bias with a structured W.

    The factors `a` and `b` (dense: `a` alone, of shape (d_out, d_in)) are laid out as `trainers.products` says. A width that
    its divisors cannot match is padded with zeros: every input is read and every output is written.

    Args:
        d_in: width of the input.
        d_out: width of the output.
        structure: a `Structure`, or text that `Structure.parse` takes.
        bias: whether to add a learnable bias, zero at first.
        weight_norm: whether to bound each factor's root mean square by its value at initialisation,
            M g / max(1, RMS(M) / std), g a learnable scalar that starts at 1 (P2 section 5.1).
        gain: with `weight_norm`, whether there is a g.
        device: as in `torch.nn.Linear`.
        dtype: as in `torch.nn.Linear`; a floating-point type.

    Raises:
        StructureError: where the structure, a width or the dtype cannot be used.
    """

    def __init__(
        self,
        d_in: int,
        d_out: int,
        structure: Structure | str,
        bias: bool = False,
        *,
        weight_norm: bool = False,
        gain: bool = True,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        if dtype is not None and not dtype.is_floating_point:
            raise StructureError(f"dtype is {dtype}; a layer's weights are of a floating-point type such as torch.float32")
        self.structure = Structure.parse(structure) if isinstance(structure, str) else structure
        self.realization: Realization = self.structure.realize(d_in, d_out)
        self.d_in, self.d_out = d_in, d_out
        self.weight_norm = weight_norm
        self.products = products(self.realization)
        for p in self.products:
            self.register_parameter(p.factor, nn.Parameter(torch.empty(p.shape, device=device, dtype=dtype)))
            if weight_norm and gain:
                self.register_parameter(f"gain_{p.factor}", nn.Parameter(torch.ones((), device=device, dtype=dtype)))
        self.bias = nn.Parameter(torch.zeros(d_out, device=device, dtype=dtype)) if bias else None
        self.reset_parameters()

    @torch.no_grad()
    def reset_parameters(self, generator: torch.Generator | None = None, zero: bool = False) -> None:
        """Draw the factors from N(0, std**2), std as in `Product.std`; bias to 0 and gains to 1.

        Args:
            generator: source of the draws.
            zero: set the factor that is contracted last to 0 instead, so that the layer's output is 0.
        """
        for product in self.products:
            self.get_parameter(product.factor).normal_(0.0, product.std, generator=generator)
        if zero:
            self.get_parameter(self.products[-1].factor).zero_()
        for name, parameter in self.named_parameters(recurse=False):
            if name.startswith("gain"):
                parameter.fill_(1.0)
        if self.bias is not None:
            self.bias.zero_()

    def forward(self, x: Tensor) -> Tensor:  # (*batch, d_in) -> (*batch, d_out)
        """The structured product, by whichever plan is estimated to be faster for this number of tokens.

        Raises:
            StructureError: where the last dimension of `x` is not `d_in`.
        """
        if x.shape[-1] != self.d_in:
            raise StructureError(f"{self}: input of shape {tuple(x.shape)}; its last dimension must be {self.d_in}")
        tokens = x.numel() // self.d_in
        if self.realization.is_dense or materialising_is_faster(self.realization, tokens):
            return F.linear(x, self.dense_weight(), self.bias)
        y = transpose(self._contract(transpose(x.reshape(tokens, self.d_in)))).view(*x.shape[:-1], self.d_out)
        return y if self.bias is None else y + self.bias

    def columns(self, x: Tensor) -> Tensor:  # (d_in, tokens) -> (d_out, tokens)
        """W x without the bias, on feature-major activations: what the products take, so that nothing is transposed."""
        if self.realization.is_dense or materialising_is_faster(self.realization, x.shape[1]):
            return self.dense_weight() @ x
        return self._contract(x)

    def dense_weight(self) -> Tensor:  # (d_out, d_in)
        """The layer's matrix, materialised; gradients flow through it to the factors."""
        factors = self._factors()
        if self.realization.is_dense:
            return factors[0]
        return materialise(factors[0], factors[1], Edges.of(self.realization))[: self.d_out, : self.d_in]

    def _contract(self, x: Tensor) -> Tensor:  # (d_in, tokens) -> (d_out, tokens)
        """The two batched products, on a padded input."""
        first, second = self._factors()
        padding = self.realization.padded_in - self.d_in
        if padding:
            x = F.pad(x, (0, 0, 0, padding))
        return contract(x, first, second, Edges.of(self.realization))[: self.d_out]

    @property
    def weight(self) -> Tensor:  # (d_out, d_in)
        """`dense_weight()`, for code that reads the matrix of a `torch.nn.Linear`, as torch's own transformer does."""
        return self.dense_weight()

    @property
    def in_features(self) -> int:
        """`d_in`, by the name it has in `torch.nn.Linear`."""
        return self.d_in

    @property
    def out_features(self) -> int:
        """`d_out`, by the name it has in `torch.nn.Linear`."""
        return self.d_out

    def _factors(self) -> list[Tensor]:
        """The factors in the order of contraction, normalised if asked."""
        return [self._factor(product.factor, product.std) for product in self.products]

    def _factor(self, name: str, std: float) -> Tensor:
        weights: Tensor = getattr(self, name)
        if not self.weight_norm:
            return weights
        limit = std * math.sqrt(weights.numel())
        gain: Tensor | float = getattr(self, f"gain_{name}", 1.0)
        excess: Tensor = weights.norm() / limit
        return weights * (gain / excess.clamp(min=1.0))

    def extra_repr(self) -> str:
        """Widths, structure and cost, as `repr` shows them."""
        bias = ", bias" if self.bias is not None else ""
        return f"{self.d_in} -> {self.d_out}, {self.structure}, {self.realization.macs:,} MACs{bias}"


def materialising_is_faster(realization: Realization, tokens: int) -> bool:
    """Whether to build W and multiply densely rather than by two batched products.

    Compares two estimates in MACs of a large product. Building W and copying the factors count once per call; features count
    as they move: into the first product, between the two, and out. Over the structures of P1 at widths 64 to 1280 and 2048
    tokens, the plan chosen takes 1 % longer on average than the faster one. The counted cost of a layer does not depend on it.

    >>> materialising_is_faster(Structure.parse("monarch").realize(64, 64), 2048)
    True
    >>> materialising_is_faster(Structure.parse("monarch").realize(256, 256), 2048)
    False
    """
    e = Edges.of(realization)
    moved = realization.padded_in + e.gamma * e.x2 * e.rho * e.phi * e.y1 + realization.padded_out
    two_products = realization.macs * (tokens + 1) + MOVE_COST * moved * tokens
    return realization.d_in * realization.d_out * (tokens + e.rho) <= two_products
