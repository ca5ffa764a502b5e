"""The closest structured layer: against singular values taken block by block, and against every attempt to do better."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from space.errors import StructureError
from space.structure import Structure
from trainers import truncation
from trainers.layers import EinsumLinear
from trainers.project import project, relative_error

STRUCTURES = [
    "monarch",
    "kronecker",
    "low_rank:1/2",
    "btt:1/4",
    "tensor_train:1/4",
    "generic",
    "generic:1/4",
    "(1/3|2/3|0|1/3|2/3|0|0)",
    "monarch:blocks=4",
    "low_rank:rank=5",
]
WIDTHS = [(36, 64), (64, 36), (48, 48)]
LONG = ["monarch3", "kronecker3", "tensor_train3:1/6", "block_tensor_train3:rank=2", "block_tensor_train4:1/6"]
"""Structures of three factors or more."""
GENERIC = "(" + "|".join(["1/4", "1/4", "1/4", "0", "0", "0", "1/4"] * 2 + ["1/9", "0", "1/9", "0"]) + ")"
"""Inner edges that are no chain."""


def random_matrix(d_in: int, d_out: int, dtype: torch.dtype = torch.float64) -> Tensor:
    """A matrix with singular values that decay, as trained ones do."""
    generator = torch.Generator().manual_seed(d_in * d_out)
    left, right = (torch.randn(d, d, generator=generator, dtype=torch.float64) for d in (d_out, d_in))
    decay = torch.arange(1, d_out + 1, dtype=torch.float64) ** -0.5
    return (left * decay @ torch.eye(d_out, d_in, dtype=torch.float64) @ right).to(dtype)


def discarded(weight: Tensor, structure: str) -> float:
    """Root of the sum of squares of the singular values beyond rho, each block picked out of W index by index."""
    d_out, d_in = weight.shape
    s = Structure.parse(structure).realize(d_in, d_out).sizes
    sides = [range(s[name]) for name in ("YA", "XA", "YB", "XB")]
    total = 0.0
    for gamma in range(s["XAB"]):
        for phi in range(s["YAB"]):
            rows = [
                [
                    float(weight[(phi * s["YA"] + y_a) * s["YB"] + y_b, (gamma * s["XB"] + x_b) * s["XA"] + x_a])
                    for y_b in sides[2]
                    for x_b in sides[3]
                ]
                for y_a in sides[0]
                for x_a in sides[1]
            ]
            total += float((np.linalg.svd(np.array(rows), compute_uv=False)[s["AB"] :] ** 2).sum())
    return math.sqrt(total)


@pytest.mark.parametrize("widths", WIDTHS, ids=str)
@pytest.mark.parametrize("structure", STRUCTURES)
def test_error_is_that_of_the_discarded_singular_values(structure: str, widths: tuple[int, int]) -> None:
    weight = random_matrix(*widths)
    expected = discarded(weight, structure) / float(weight.norm())
    assert relative_error(weight, project(weight, structure)) == pytest.approx(expected, rel=1e-9, abs=1e-12)
    single = weight.float()
    assert relative_error(single, project(single, structure)) == pytest.approx(expected, rel=1e-5, abs=1e-6)


@pytest.mark.parametrize("structure", ["monarch:blocks=4", "kronecker", "generic:1/4", "btt:1/4"])
def test_nothing_near_it_is_closer(structure: str) -> None:
    """Its gradient is 0, random steps lose, and descent from a perturbed copy comes back to the same error and no lower."""
    torch.manual_seed(0)
    weight = random_matrix(24, 36)
    layer = project(weight, structure)
    error = (layer.dense_weight() - weight).square().sum()
    gradients = torch.autograd.grad(error, [layer.a, layer.b])
    best = error.detach()
    assert max(float(g.abs().max()) for g in gradients) < 1e-9 * float(best)
    other = project(weight, structure)
    start = [p.detach().clone() for p in (other.a, other.b)]
    for _ in range(50):
        for p, s in zip((other.a, other.b), start, strict=True):
            p.data.copy_(s + 1e-3 * torch.randn_like(s))
        assert (other.dense_weight() - weight).square().sum() > best
    optimizer = torch.optim.Adam([other.a, other.b], 3e-3)
    for _ in range(300):
        loss = (other.dense_weight() - weight).square().sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        assert loss.item() > best.item() * (1 - 1e-12)
    assert loss.item() == pytest.approx(best.item(), rel=1e-3)


@pytest.mark.parametrize("weight_norm", [False, True], ids=["plain", "weight_norm"])
@pytest.mark.parametrize("widths", [*WIDTHS, (17, 23)], ids=str)
@pytest.mark.parametrize("structure", ["dense", *STRUCTURES])
def test_members_of_the_family_come_back(structure: str, widths: tuple[int, int], weight_norm: bool) -> None:
    """At (17, 23) every structure is padded."""
    torch.manual_seed(0)
    for dtype, tolerance in ((torch.float64, 1e-8 if widths == (17, 23) else 1e-13), (torch.float32, 1e-6)):
        weight = 3 * EinsumLinear(*widths, structure, dtype=dtype).dense_weight().detach()
        again = project(weight, structure, weight_norm=weight_norm)
        assert relative_error(weight, again) < tolerance
        torch.testing.assert_close(again.dense_weight(), weight, rtol=0, atol=10 * tolerance * float(weight.norm()))


@pytest.mark.parametrize("widths", [(64, 27), (48, 96)], ids=str)
@pytest.mark.parametrize("structure", LONG)
def test_members_of_a_long_family_come_back(structure: str, widths: tuple[int, int]) -> None:
    torch.manual_seed(0)
    weight = 3 * EinsumLinear(*widths, structure, dtype=torch.float64).dense_weight().detach()
    for normed in (False, True):
        assert relative_error(weight, project(weight, structure, weight_norm=normed)) < 1e-13
    single = project(weight.float(), structure)
    assert single.a.dtype == torch.float32 and relative_error(weight.float(), single) < 1e-6
    norms = torch.stack([single.get_parameter(p.factor).detach().norm() for p in single.products])
    torch.testing.assert_close(norms, norms.mean().expand_as(norms))


@pytest.mark.parametrize("structure", ["monarch3", "tensor_train3:rank=2", GENERIC])
def test_no_search_finds_a_closer_long_layer(structure: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Quasi-Newton steps from it gain next to nothing, those from fresh layers end higher, and refining helped."""
    torch.manual_seed(0)
    weight = random_matrix(16, 36)

    def searched(layer: EinsumLinear) -> float:
        optimizer = torch.optim.LBFGS(layer.parameters(), max_iter=300, line_search_fn="strong_wolfe", tolerance_change=1e-12)

        def loss() -> Tensor:
            optimizer.zero_grad()
            missed = (layer.dense_weight() - weight).square().sum()
            missed.backward()
            return missed

        optimizer.step(loss)  # type: ignore[no-untyped-call]
        return relative_error(weight, layer)

    found = relative_error(weight, project(weight, structure))
    assert searched(project(weight, structure)) > 0.99 * found
    assert min(searched(EinsumLinear(16, 36, structure, dtype=torch.float64)) for _ in range(3)) > 0.98 * found
    monkeypatch.setattr("trainers.project_chain.SWEEPS", 0)
    assert found < relative_error(weight, project(weight, structure))


def test_a_long_layer_from_zeros_is_zero_and_learns() -> None:
    layer = project(torch.zeros(64, 64), "block_tensor_train3:rank=2")
    assert not layer.dense_weight().any()
    (layer(torch.ones(3, 64)) - 1).square().mean().backward()
    assert max(float(p.grad.abs().max()) for p in layer.parameters() if p.grad is not None) > 1e-4


def test_padding_is_filled_in_to_come_closer() -> None:
    weight = random_matrix(17, 23)
    structure = Structure.parse("kronecker")
    zeros = torch.zeros(24, 18, dtype=torch.float64)
    zeros[:23, :17] = weight
    layer = project(weight, structure)
    assert (layer.realization.padded_out, layer.realization.padded_in) == zeros.shape
    plain = project(zeros, structure).dense_weight()[:23, :17]
    assert (weight - layer.dense_weight()).norm() < 0.999 * (weight - plain).norm()


def test_dense_is_a_copy_and_bias_is_taken() -> None:
    weight, bias = random_matrix(12, 8), torch.randn(8, dtype=torch.float64)
    layer = project(weight, "dense", bias=bias)
    assert torch.equal(layer.a, weight) and layer.bias is not None and torch.equal(layer.bias, bias)
    layer.a.data.zero_()
    assert weight.abs().sum() > 0
    assert project(weight, "monarch").bias is None


def test_factors_share_the_norm_evenly() -> None:
    layer = project(random_matrix(36, 64), "btt:1/4")
    torch.testing.assert_close(layer.a.norm(), layer.b.norm())


@pytest.mark.parametrize("structure", ["dense", "monarch", "kronecker"])
@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e3])
def test_weight_norm_holds_the_size_in_the_gains(structure: str, scale: float) -> None:
    weight = scale * random_matrix(36, 64, torch.float32)
    plain, normed = project(weight, structure), project(weight, structure, weight_norm=True)
    torch.testing.assert_close(normed.dense_weight(), plain.dense_weight(), rtol=1e-5, atol=1e-6 * scale)
    for product in normed.products:
        rms = float(normed.get_parameter(product.factor).detach().square().mean().sqrt())
        assert 0.5 * product.std <= rms <= product.std


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_loses_only_its_rounding(dtype: torch.dtype) -> None:
    weight = random_matrix(36, 64, dtype)
    layer = project(weight, "btt:1/4", weight_norm=True)
    assert layer.a.dtype == layer.gain_a.dtype == dtype
    exact = relative_error(weight.double(), project(weight.double(), "btt:1/4"))
    assert exact <= relative_error(weight, layer) < exact + 2 * torch.finfo(dtype).eps


def test_a_layer_from_zeros_is_zero_and_learns() -> None:
    layer = project(torch.zeros(16, 16), "monarch")
    assert not layer.dense_weight().any()
    loss = (layer(torch.ones(3, 16)) - 1).square().mean()
    loss.backward()
    assert max(float(p.grad.abs().max()) for p in (layer.a, layer.b) if p.grad is not None) > 1e-3


def test_the_result_leaves_the_random_state_and_the_weight_alone() -> None:
    weight = random_matrix(36, 64).requires_grad_()
    before, state = weight.detach().clone(), torch.get_rng_state()
    layer = project(weight, "monarch")
    assert torch.equal(weight, before) and torch.equal(torch.get_rng_state(), state)
    assert layer.a.requires_grad and layer.a.is_leaf


@pytest.mark.parametrize(("structure", "widths"), [("generic:1/4", (48, 64)), ("btt:1/4", (53, 61))])
def test_parts_are_decomposed_as_the_whole(monkeypatch: pytest.MonkeyPatch, structure: str, widths: tuple[int, int]) -> None:
    weight = random_matrix(*widths)
    whole = project(weight, structure)
    assert whole.realization.sizes["YAB"] > 1
    monkeypatch.setattr("trainers.project.CHUNK", 1)
    torch.testing.assert_close(project(weight, structure).dense_weight(), whole.dense_weight())


@pytest.mark.parametrize("decay", [0.5, 1.0])
@pytest.mark.parametrize("rho", [1, 6])
def test_the_search_in_large_blocks_is_as_close(monkeypatch: pytest.MonkeyPatch, rho: int, decay: float) -> None:
    """The excess of the squared error, over that of a full decomposition, is within the rounding of float32."""
    torch.manual_seed(0)
    values = torch.arange(1, 601, dtype=torch.float64) ** -decay
    block = (torch.randn(600, 600, dtype=torch.float64) * values @ torch.randn(600, 650, dtype=torch.float64))[None]
    monkeypatch.setattr(truncation, "LARGE", 100)
    monkeypatch.setattr(truncation, "_from_gram", None)
    left, right = truncation.truncate(block, rho, (1.0, 1.0), exact=False)
    best = torch.linalg.svdvals(block)[0, rho:].square().sum()
    assert (block - left @ right).square().sum().item() == pytest.approx(best.item(), rel=1e-7)


@pytest.mark.parametrize(
    ("weight", "bias", "structure", "message"),
    [
        (torch.ones(4), None, "monarch", r"weight: \(4,\) of torch.float32; give a \(d_out, d_in\) matrix of floats"),
        (torch.ones(4, 4, dtype=torch.int64), None, "monarch", r"weight: \(4, 4\) of torch.int64"),
        (torch.full((4, 4), math.nan), None, "monarch", "weight: some of its values are infinite or NaN"),
        (torch.empty(4, 4, device="meta"), None, "monarch", "weight: it is on the meta device"),
        (torch.ones(4, 9), torch.ones(9), "monarch", r"bias: shape \(9,\); a weight of \(4, 9\) takes \(4,\)"),
        (torch.ones(4, 9), None, "monrach", "'monrach' is not a structure"),
    ],
    ids=["vector", "integers", "nan", "meta", "bias", "name"],
)
def test_what_cannot_be_projected_is_refused(weight: Tensor, bias: Tensor | None, structure: str, message: str) -> None:
    with pytest.raises(StructureError, match=message):
        project(weight, structure, bias=bias)
