"""The structured layer closest to a trained dense matrix.

    W          (d_out, d_in), the matrix; zeros where a width is padded
    M          one of the gamma phi blocks of W, rearranged: rows (y2, x2), columns (y1, x1) (edges as in `trainers.products`)
    rho        size of the edge between the factors, the rank that a structure gives to every block

A factor of a two-factor structure touches each block by rows alone or by columns alone, and no two blocks share a weight. So
the closest layer in the Frobenius norm is the truncated singular value decomposition of every block, and its squared error is
the sum of the squares of the singular values left out (Van Loan and Pitsianis 1993 for a Kronecker product; Eckart, Young).
Layers of three factors or more have no closest one in closed form: see `trainers.project_chain`.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from space.errors import StructureError
from space.realization import Realization
from space.structure import Structure
from trainers.chain import Chain
from trainers.layers import EinsumLinear
from trainers.project_chain import fill_chain
from trainers.truncation import truncate

CHUNK = 2**24
"""Elements of W whose blocks are decomposed together, in float64: bounds memory, where one block is not larger by itself."""


@torch.no_grad()
def project(
    weight: Tensor,  # (d_out, d_in)
    structure: Structure | str,
    *,
    bias: Tensor | None = None,  # (d_out,)
    weight_norm: bool = False,
) -> EinsumLinear:
    """The `EinsumLinear` whose matrix is closest to `weight` in the Frobenius norm: to rounding, for a member of the family.

    With three factors or more it is a good one, not surely the closest, and to rounding for members of the named families.

    Each singular value is split evenly between the two factors, so that both have the same norm. Where a block has fewer than
    rho singular values that are not 0, one factor keeps directions that the other multiplies by 0, so that the layer can still
    learn there. With `weight_norm` each factor takes the size of a fresh one, and its gain, a power of two, holds the rest.

    Where a width is padded, what the layer's matrix is beyond W is free. If beta and delta are 1 the result is still the
    closest; else it is found by iteration, better than zeros there and usually, but not surely, the closest.

    Args:
        weight: any float dtype, on any device; decomposed in float64.
        structure: a `Structure`, or text that `Structure.parse` takes.
        bias: copied into the layer; None gives a layer without one.
        weight_norm: as in `EinsumLinear`, with gains.

    Returns:
        A layer of the dtype and on the device of `weight`. It owns its parameters, also where it is dense.

    Raises:
        StructureError: where `weight` is not a finite matrix of floats, or `bias` does not fit it.
    """
    parsed = Structure.of(structure)
    _check(weight, bias)
    d_out, d_in = weight.shape
    blank = EinsumLinear(d_in, d_out, parsed, bias is not None, weight_norm=weight_norm, device="meta", dtype=weight.dtype)
    layer = blank.to_empty(device=weight.device)
    if layer.realization.is_dense:
        layer.get_parameter("a").copy_(weight)
    elif layer.realization.factors > 2:
        fill_chain(layer, weight, Chain.of(layer.realization))
    else:
        _fill(layer, weight)
    for product in layer.products if weight_norm else ():
        _normalise(layer, product.factor, product.std)
    if layer.bias is not None and bias is not None:
        layer.bias.copy_(bias)
    return layer


@torch.no_grad()
def relative_error(weight: Tensor, layer: EinsumLinear) -> float:
    """Frobenius norm of `weight` minus the layer's matrix, over that of `weight` (0 where both are 0)."""
    pairs = list(zip(torch.split(weight, 1024), torch.split(layer.dense_weight(), 1024), strict=True))
    missed = math.sqrt(sum(float((w.double() - m.double()).square().sum()) for w, m in pairs))
    return missed / (math.sqrt(sum(float(w.double().square().sum()) for w, _ in pairs)) or 1.0)


def _check(weight: Tensor, bias: Tensor | None) -> None:
    if weight.ndim != 2 or not weight.is_floating_point():
        raise StructureError(f"weight: {tuple(weight.shape)} of {weight.dtype}; give a (d_out, d_in) matrix of floats")
    if weight.is_meta:
        raise StructureError("weight: it is on the meta device and has no values; load the weights before projecting")
    if not bool(weight.isfinite().all()):
        raise StructureError("weight: some of its values are infinite or NaN; only a finite matrix has a projection")
    if bias is not None and bias.shape != weight.shape[:1]:
        raise StructureError(f"bias: shape {tuple(bias.shape)}; a weight of {tuple(weight.shape)} takes ({weight.shape[0]},)")


def _fill(layer: EinsumLinear, weight: Tensor) -> None:
    """Set both factors, some values of phi at a time."""
    realization, (left_product, right_product) = layer.realization, reversed(layer.products)
    second, first = (layer.get_parameter(p.factor) for p in (left_product, right_product))
    gamma, rho, phi, y1, x1 = right_product.shape
    _, y2, _, x2, _ = left_product.shape
    fresh = left_product.std * math.sqrt(y2 * x2), right_product.std * math.sqrt(y1 * x1)
    rows = y1 * y2
    padded = (realization.padded_out, realization.padded_in) != weight.shape
    step = max(1, CHUNK // (rows * realization.padded_in))
    for start in range(0, phi, step):
        part = weight[start * rows : (start + step) * rows].double()
        blocks = _blocks(part, realization, min(step, phi - start))
        known = _blocks(torch.ones_like(part), realization, min(step, phi - start)) > 0 if padded else None
        left, right = truncate(blocks, rho, fresh, exact=weight.dtype == torch.float64, known=known)
        stop = start + blocks.shape[0] // gamma
        second[start:stop] = left.view(-1, gamma, y2, x2, rho).transpose(1, 2).to(second.dtype)
        first[:, :, start:stop] = right.view(-1, gamma, rho, y1, x1).permute(1, 2, 0, 3, 4).to(first.dtype)


def _blocks(weight: Tensor, realization: Realization, phi: int) -> Tensor:  # (rows, d_in) -> (phi gamma, y2 x2, y1 x1)
    """The blocks of `phi` values of phi; rows and columns that are missing are 0."""
    s = realization.sizes
    missing = phi * s["YA"] * s["YB"] - weight.shape[0]
    padded = F.pad(weight, (0, realization.padded_in - realization.d_in, 0, missing))
    parts = padded.view(phi, s["YA"], s["YB"], s["XAB"], s["XB"], s["XA"])
    parts = parts.permute(0, 3, 2, 4, 1, 5) if realization.order == "A" else parts.permute(0, 3, 1, 5, 2, 4)
    return parts.flatten(4, 5).flatten(2, 3).flatten(0, 1)


def _normalise(layer: EinsumLinear, factor: str, std: float) -> None:
    """Move the size of a factor into its gain, so that the weight normalisation leaves the matrix as it is."""
    weights, gain = layer.get_parameter(factor), layer.get_parameter(f"gain_{factor}")
    excess = float(weights.double().norm()) / (std * math.sqrt(weights.numel()))
    power = 2.0 ** math.ceil(math.log2(excess)) if excess else 1.0
    weights.div_(power)
    gain.fill_(power)
