"""`EinsumLinear`: any Einsum structure, or a dense matrix, as a drop-in for `torch.nn.Linear`."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from space.errors import StructureError
from space.realization import Realization
from space.structure import Structure
from trainers.chain import Chain, chain_materialise
from trainers.factors import products
from trainers.plans.choice import execute
from trainers.plans.problem import Problem
from trainers.products import Edges, materialise

DTYPES = (torch.float32, torch.float64, torch.bfloat16, torch.float16)
"""Types that weights may have."""


class EinsumLinear(nn.Module):
    """y = x W^T + bias with a structured W.

    The factors `a` and `b` (dense: `a` alone, of shape (d_out, d_in)) are laid out as `trainers.products` says, those of three
    factors or more, `a`, `b`, `c` and on, as `trainers.chain` does. A width that its divisors cannot match is padded with
    zeros: every input is read and every output is written.

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
        StructureError: names the layer, where the structure, a width, the dtype or the device cannot be used.
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
        self.structure = Structure.of(structure)
        what = f"layer {d_in} -> {d_out}, {self.structure}"
        kind = torch.get_default_dtype() if dtype is None else dtype
        if kind not in DTYPES:
            allowed = ", ".join(map(str, DTYPES))
            raise StructureError(f"{what}: dtype is {kind}; a layer's weights are of one of {allowed}")
        try:
            self.realization: Realization = self.structure.realize(d_in, d_out)
        except StructureError as error:
            raise StructureError(f"{what}: {error}") from None
        self.d_in, self.d_out = d_in, d_out
        self.weight_norm = weight_norm
        self.products = products(self.realization)
        self._smallest = min(range(len(self.products)), key=lambda i: math.prod(self.products[i].shape))
        self._edges = Edges.of(self.realization) if self.realization.factors == 2 else None
        self._chain = Chain.of(self.realization) if self.realization.factors > 2 else None
        try:
            self._create(bias, weight_norm and gain, device, kind)
        except (RuntimeError, AssertionError, NotImplementedError) as error:  # torch's own, by kind of device
            reason = str(error).partition("\n")[0]
            raise StructureError(f"{what}: device {str(device)!r} cannot hold it ({reason}); give one such as 'cpu'") from error
        self.reset_parameters()

    def _create(self, bias: bool, gain: bool, device: torch.device | str | None, dtype: torch.dtype) -> None:
        for p in self.products:
            self.register_parameter(p.factor, nn.Parameter(torch.empty(p.shape, device=device, dtype=dtype)))
            if gain:
                self.register_parameter(f"gain_{p.factor}", nn.Parameter(torch.ones((), device=device, dtype=dtype)))
        self.bias = nn.Parameter(torch.zeros(self.d_out, device=device, dtype=dtype)) if bias else None

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
        """The structured product, by the plan that `trainers.plans.choice` chooses for this number of tokens.

        Raises:
            StructureError: where the last dimension of `x` is not `d_in`, or its type is not that of the weights.
        """
        if x.shape[-1:] != (self.d_in,):
            raise StructureError(f"{self}: input of shape {tuple(x.shape)}; its last dimension must be {self.d_in}")
        kind = x.device.type
        factors = self._factors()
        if torch.is_autocast_enabled(kind) and x.dtype != torch.float64:
            x = x.to(torch.get_autocast_dtype(kind))
            with torch.autocast(kind, enabled=False):
                return self._execute(x, factors)
        if x.dtype != factors[0].dtype:
            raise StructureError(
                f"{self}: input of type {x.dtype}, weights of {factors[0].dtype}; convert one of them, or use torch.autocast"
            )
        return self._execute(x, factors)

    def _execute(self, x: Tensor, factors: list[Tensor]) -> Tensor:  # (*batch, d_in) -> (*batch, d_out)
        rows = x.reshape(-1, self.d_in)
        if rows.stride(1) != 1:
            rows = rows.contiguous()
        return execute(self._problem(rows, any(factor.requires_grad for factor in factors)), rows, factors, self.bias).view(
            *x.shape[:-1], self.d_out
        )

    def problem(self, x: Tensor) -> Problem:
        """What a plan is chosen for, given an input: what `trainers.plans.choice.choose` takes."""
        return self._problem(x.reshape(-1, self.d_in), any(p.requires_grad for p in self.parameters()))

    def _problem(self, rows: Tensor, trained: bool) -> Problem:
        """Tokens count to the next power of two."""
        tokens = max(1, rows.shape[0])
        return Problem(
            self._edges,
            self.d_in,
            self.d_out,
            1 << (tokens - 1).bit_length(),
            rows.dtype,
            rows.device,
            torch.is_grad_enabled() and (rows.requires_grad or trained),
            1 if torch.compiler.is_compiling() else torch.get_num_threads(),
            self._chain,
        )

    def dense_weight(self) -> Tensor:  # (d_out, d_in)
        """The layer's matrix, materialised; gradients flow through it to the factors."""
        factors = self._factors()
        if self._chain is not None:
            return chain_materialise(factors, self._chain)[: self.d_out, : self.d_in]
        if self._edges is None:
            return factors[0]
        return materialise(factors[0], factors[1], self._edges)[: self.d_out, : self.d_in]

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
        """The factors in the order of contraction. If normalised, all scales go into the one that has the fewest weights."""
        factors: list[Tensor] = [getattr(self, product.factor) for product in self.products]
        if self.weight_norm:
            scales = [self._scale(product.factor, product.std) for product in self.products]
            factors[self._smallest] = factors[self._smallest] * torch.stack(scales).prod()
        return factors

    def _scale(self, name: str, std: float) -> Tensor:  # ()
        """What weight normalisation multiplies a factor by, g / max(1, RMS / std)."""
        weights: Tensor = getattr(self, name)
        excess: Tensor = weights.norm() / (std * math.sqrt(weights.numel()))
        scale = excess.clamp(min=1.0).reciprocal()
        gain: Tensor | None = getattr(self, f"gain_{name}", None)
        return scale if gain is None else gain * scale

    def extra_repr(self) -> str:
        """Widths, structure and cost, as `repr` shows them."""
        bias = ", bias" if self.bias is not None else ""
        return f"{self.d_in} -> {self.d_out}, {self.structure}, {self.realization.macs:,} MACs{bias}"
