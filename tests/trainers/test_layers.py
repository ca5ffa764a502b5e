"""Every layer equals the seven-index einsum of its definition: output and all gradients, in float64."""

from __future__ import annotations

import copy
import pickle
import shutil
import subprocess
import sys
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from space.errors import StructureError
from space.sampling import sample_structure
from space.structure import Structure
from trainers.layers import EinsumLinear
from trainers.plans import choice

PUBLISHED = [
    "1/2 0 1/2 0 1/2 1/2 0",
    "1/3 0 2/3 0 2/3 1/3 0",
    "1/4 0 3/4 0 3/4 1/4 0",
    "2/3 0 1/3 0 1/3 2/3 0",
    "3/4 0 1/4 0 1/4 3/4 0",
    "2/3 0 1/3 0 2/3 1/3 0",
    "1/3 0 2/3 0 1/3 2/3 0",
    "3/4 0 1/4 0 3/4 1/4 0",
    "1/4 0 3/4 0 1/4 3/4 0",
    "1/2 0 1/2 0 1/2 1/2 1/4",
    "1/2 0 1/2 0 1/2 1/2 1/3",
    "1/3 0 2/3 0 2/3 1/3 1/4",
    "2/3 0 1/3 0 1/3 2/3 1/4",
    "2/3 0 1/3 0 2/3 1/3 1/4",
    "1/3 0 2/3 0 1/3 2/3 1/4",
    "1/2 1/2 0 1/2 1/2 0 0",
    "1/3 2/3 0 1/3 2/3 0 0",
    "1/2 1/2 0 1/2 1/2 0 1/4",
    "1/3 2/3 0 1/3 2/3 0 1/4",
    "1 0 0 0 1 0 3/4",
    "1 0 0 0 1 0 1/2",
    "1/2 1/4 1/4 1/4 1/2 1/4 0",
    "1/2 1/4 1/4 1/4 1/2 1/4 1/4",
]
"""Theta of the 23 structures of P1's experiments on language."""

STRUCTURES = [Structure.from_theta(map(Fraction, theta.split())) for theta in PUBLISHED]
RECTANGLES = [(64, 64), (48, 192), (192, 48), (35, 24), (13, 17)]


def reference(layer: EinsumLinear, x: Tensor) -> Tensor:
    """The definition, P1 eq. 4, with the layer's own factors: features are (gamma, beta, alpha) and (phi, delta, epsilon)."""
    if layer.realization.is_dense:
        y = x @ layer.a.T
    else:
        s = layer.realization.sizes
        if layer.realization.order == "A":
            a = layer.a.permute(4, 0, 3, 2, 1)  # gamma rho phi delta alpha -> alpha gamma delta phi rho
            b = layer.b.permute(3, 2, 1, 0, 4)  # phi epsilon gamma beta rho -> beta gamma epsilon phi rho
        else:
            b = layer.b.permute(4, 0, 3, 2, 1)
            a = layer.a.permute(3, 2, 1, 0, 4)
        padded = torch.cat([x, x.new_zeros(*x.shape[:-1], layer.realization.padded_in - layer.d_in)], dim=-1)
        edges = padded.view(*x.shape[:-1], s["XAB"], s["XB"], s["XA"])
        y = torch.einsum("bgefr,agdfr,...gba->...fde", b, a, edges).flatten(-3)[..., : layer.d_out]
    return y if layer.bias is None else y + layer.bias


def gradients(layer: EinsumLinear, y: Tensor, x: Tensor) -> list[Tensor]:
    weights = torch.linspace(-1, 1, y.numel(), dtype=y.dtype).view_as(y)
    return list(torch.autograd.grad((y * weights.cos()).sum(), [x, *layer.parameters()]))


def assert_conforms(layer: EinsumLinear, batch: tuple[int, ...]) -> None:
    x = torch.randn(*batch, layer.d_in, dtype=torch.float64, requires_grad=True)
    y, expected = layer(x), reference(layer, x)
    assert y.shape == (*batch, layer.d_out)
    assert y.is_contiguous()
    torch.testing.assert_close(y, expected)
    for got, want in zip(gradients(layer, y, x), gradients(layer, expected, x), strict=True):
        torch.testing.assert_close(got, want)


@pytest.fixture(params=["rows", "materialised", "strided"])
def plan(request: pytest.FixtureRequest) -> Iterator[str]:
    """Three kinds of plans, whatever the estimate of their costs says; tests of plans have them all."""
    with choice.pinned(request.param):
        yield request.param


@pytest.mark.parametrize("widths", RECTANGLES, ids=str)
@pytest.mark.parametrize("structure", [*STRUCTURES, Structure.parse("dense")], ids=str)
def test_forward_and_gradients_equal_the_definition(structure: Structure, widths: tuple[int, int]) -> None:
    """By the plain products, to which tests of plans hold all other plans."""
    torch.manual_seed(0)
    layer = EinsumLinear(*widths, structure, bias=True, dtype=torch.float64)
    torch.nn.init.normal_(layer.bias)
    with choice.pinned("rows"):
        assert_conforms(layer, (2, 3))
    x = torch.randn(4, widths[0], dtype=torch.float64)
    torch.testing.assert_close(layer(x), x @ layer.dense_weight().T + layer.bias)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 50), st.integers(1, 50))
def test_random_structures_equal_the_definition(seed: int, d_in: int, d_out: int) -> None:
    structure = sample_structure(np.random.default_rng(seed))
    layer = EinsumLinear(d_in, d_out, structure, dtype=torch.float64)
    assert_conforms(layer, (3,))
    torch.testing.assert_close(layer(torch.eye(d_in, dtype=torch.float64)).T, layer.dense_weight())


@pytest.mark.parametrize("batch", [(), (1,), (0,), (5,), (2, 0), (2, 3, 4)], ids=str)
def test_any_batch_shape(batch: tuple[int, ...], plan: str) -> None:
    assert_conforms(EinsumLinear(24, 36, "generic", dtype=torch.float64), batch)


def test_a_strided_input_is_read_correctly(plan: str) -> None:
    layer = EinsumLinear(16, 16, "btt:1/4", dtype=torch.float64)
    x = torch.randn(16, 4, 5, dtype=torch.float64).permute(2, 1, 0)
    torch.testing.assert_close(layer(x), reference(layer, x))


def test_both_orders_occur_among_published_layers() -> None:
    orders = {EinsumLinear(64, 256, structure).realization.order for structure in STRUCTURES}
    assert orders == {"A", "B"}


@pytest.mark.parametrize("structure", STRUCTURES, ids=str)
def test_parameters_are_those_the_realization_counts(structure: Structure) -> None:
    layer = EinsumLinear(48, 192, structure)
    assert [name for name, _ in sorted(layer.named_parameters())] == ["a", "b"]
    assert sum(p.numel() for p in layer.parameters()) == layer.realization.params


def test_padding_leaves_no_input_unread_and_no_output_dead() -> None:
    layer = EinsumLinear(13, 17, "monarch", dtype=torch.float64)
    assert (layer.realization.padded_in, layer.realization.padded_out) != (13, 17)
    weight = layer.dense_weight()
    assert weight.shape == (17, 13)
    assert weight.abs().sum(0).min() > 0
    assert weight.abs().sum(1).min() > 0


@pytest.mark.parametrize("structure", ["dense", "monarch", "generic:1/4"])
def test_weight_norm_bounds_the_rms_of_each_factor_and_gains_scale_it(structure: str) -> None:
    layer = EinsumLinear(64, 64, structure, weight_norm=True, dtype=torch.float64)
    plain = EinsumLinear(64, 64, structure, dtype=torch.float64)
    for product in layer.products:
        weights = layer.get_parameter(product.factor)
        weights.data.mul_(3.0)
        layer.get_parameter(f"gain_{product.factor}").data.fill_(2.0)
        plain.get_parameter(product.factor).data = 2 * weights.data * product.std / weights.data.square().mean().sqrt()
    torch.testing.assert_close(layer.dense_weight(), plain.dense_weight())
    x = torch.randn(5, 64, dtype=torch.float64)
    torch.testing.assert_close(layer(x), plain(x))


def test_weight_norm_leaves_small_factors_alone() -> None:
    layer = EinsumLinear(64, 64, "monarch", weight_norm=True, dtype=torch.float64)
    plain = EinsumLinear(64, 64, "monarch", dtype=torch.float64)
    with torch.no_grad():
        for name in ("a", "b"):
            layer.get_parameter(name).mul_(0.5)
    plain.load_state_dict(layer.state_dict(), strict=False)
    torch.testing.assert_close(layer.dense_weight(), plain.dense_weight())


def test_weight_norm_gradients_are_exact_and_finite_at_zero() -> None:
    torch.manual_seed(1)
    layer = EinsumLinear(4, 9, "monarch", weight_norm=True, dtype=torch.float64)
    layer.a.data.mul_(2.0)
    x = torch.randn(3, 4, dtype=torch.float64, requires_grad=True)
    values = [p.detach().clone().requires_grad_() for p in layer.parameters()]
    names = [name for name, _ in layer.named_parameters()]

    def run(x: Tensor, *parameters: Tensor) -> Tensor:
        return torch.func.functional_call(layer, dict(zip(names, parameters, strict=True)), (x,))

    assert torch.autograd.gradcheck(run, (x, *values))
    layer.reset_parameters(zero=True)
    layer(x).sum().backward()
    assert all(torch.isfinite(p.grad).all() for p in layer.parameters())
    assert layer.b.grad.abs().sum() > 0


def test_without_a_gain_the_norm_still_bounds() -> None:
    layer = EinsumLinear(64, 64, "monarch", weight_norm=True, gain=False)
    assert {name for name, _ in layer.named_parameters()} == {"a", "b"}
    before = layer.dense_weight().detach()
    layer.a.data.mul_(100.0)
    assert layer.dense_weight().norm() < 1.5 * before.norm()


def test_zero_reset_silences_the_layer_but_not_its_first_factor() -> None:
    layer = EinsumLinear(32, 32, "btt:1/4", bias=True)
    layer.reset_parameters(zero=True)
    assert layer(torch.randn(3, 32)).abs().max() == 0
    assert layer.a.abs().max() > 0


def test_reset_is_reproducible_from_a_generator() -> None:
    one, two = EinsumLinear(32, 32, "generic"), EinsumLinear(32, 32, "generic")
    for layer in (one, two):
        layer.reset_parameters(torch.Generator().manual_seed(5))
    torch.testing.assert_close(one.dense_weight(), two.dense_weight(), rtol=0, atol=0)


def test_copies_and_round_trips_compute_the_same() -> None:
    layer = EinsumLinear(30, 42, "generic:1/4", bias=True, weight_norm=True)
    x = torch.randn(3, 30)
    fresh = EinsumLinear(30, 42, "generic:1/4", bias=True, weight_norm=True)
    fresh.load_state_dict(layer.state_dict())
    for other in (copy.deepcopy(layer), pickle.loads(pickle.dumps(layer)), fresh):
        assert torch.equal(other(x), layer(x))
        assert other.realization == layer.realization


def test_bfloat16_autocast(plan: str) -> None:
    layer = EinsumLinear(64, 64, "monarch", weight_norm=True)
    x = torch.randn(8, 64, requires_grad=True)
    with torch.autocast("cpu", torch.bfloat16):
        y = layer(x)
    assert y.dtype == torch.bfloat16
    torch.testing.assert_close(y.float(), layer(x), rtol=0.05, atol=0.05)
    y.float().sum().backward()
    assert layer.a.grad.dtype == torch.float32


@pytest.mark.filterwarnings("ignore:Dynamo detected a call to a `functools.lru_cache`")
@pytest.mark.parametrize("structure", ["generic:1/4", "monarch3"])
def test_compiles_without_a_graph_break(structure: str) -> None:
    layer = EinsumLinear(30, 42, structure, weight_norm=True)
    compiled = torch.compile(layer, backend="aot_eager", fullgraph=True)
    x = torch.randn(3, 30, requires_grad=True)
    torch.testing.assert_close(compiled(x), layer(x))
    (got,) = torch.autograd.grad(compiled(x).sum(), x)
    (want,) = torch.autograd.grad(layer(x).sum(), x)
    torch.testing.assert_close(got, want)


def test_per_sample_gradients_by_vmap(plan: str) -> None:
    layer = EinsumLinear(12, 12, "btt:1/4", dtype=torch.float64)
    x = torch.randn(4, 3, 12, dtype=torch.float64)
    parameters = dict(layer.named_parameters())

    def loss(parameters: dict[str, Tensor], sample: Tensor) -> Tensor:
        return torch.func.functional_call(layer, parameters, (sample,)).square().sum()

    per_sample = torch.func.vmap(torch.func.grad(loss), in_dims=(None, 0))(parameters, x)
    for i, sample in enumerate(x):
        torch.testing.assert_close(per_sample["a"][i], torch.func.grad(loss)(parameters, sample)["a"])


@pytest.mark.parametrize(
    ("arguments", "options", "message"),
    [
        ((0, 8, "monarch"), {}, "d_in is 0"),
        ((8, -1, "monarch"), {}, "d_out is -1"),
        ((8, 8.0, "monarch"), {}, "d_out is 8.0"),
        ((8, 8, "monark"), {}, "did you mean 'monarch'"),
        ((8, 8, None), {}, "structure is None; give a Structure, or a text"),
        ((8, 8, (0.5, 0, 0.5)), {}, r"structure is \(0.5, 0, 0.5\); give a Structure"),
        ((8, 8, "monarch"), {"dtype": torch.int64}, "dtype is torch.int64"),
        ((8, 8, "monarch"), {"dtype": torch.complex64}, "layer 8 -> 8, monarch: dtype is torch.complex64"),
        ((8, 8, "monarch"), {"dtype": torch.float8_e4m3fn}, "dtype is torch.float8_e4m3fn; .* one of torch.float32"),
        ((8, 8, "monarch"), {"device": "nonsense"}, "layer 8 -> 8, monarch: device 'nonsense' cannot hold it"),
        ((2**31, 8, "monarch"), {}, "layer 2147483648 -> 8, monarch: .*d_in is 2147483648"),
    ],
)
def test_wrong_arguments_fail_at_construction(
    arguments: tuple[Any, ...], options: dict[str, torch.dtype | str], message: str
) -> None:
    EinsumLinear(8, 8, "monarch")  # what is known of an equal width must not let another type pass
    with pytest.raises(StructureError, match=message):
        EinsumLinear(*arguments, **options)


def test_an_input_of_another_width_fails_with_both_widths() -> None:
    with pytest.raises(StructureError, match=r"input of shape \(2, 7\); its last dimension must be 8"):
        EinsumLinear(8, 8, "monarch")(torch.randn(2, 7))
    with pytest.raises(StructureError, match=r"input of shape \(\); its last dimension must be 8"):
        EinsumLinear(8, 8, "monarch")(torch.tensor(1.0))


def test_an_input_of_another_type_fails_with_both_types() -> None:
    with pytest.raises(StructureError, match=r"input of type torch.float64, weights of torch.float32"):
        EinsumLinear(8, 8, "monarch")(torch.randn(2, 8, dtype=torch.float64))


def test_half_precision_autocast_adds_the_bias_in_half() -> None:
    layer = EinsumLinear(64, 64, "btt:1/4", bias=True)
    torch.nn.init.normal_(layer.bias)
    x = torch.randn(8, 64)
    for dtype in (torch.bfloat16, torch.float16):
        with torch.autocast("cpu", dtype):
            y = layer(x)
        assert y.dtype == dtype
        torch.testing.assert_close(y.float(), layer(x), rtol=0.05, atol=0.05)


@pytest.mark.parametrize("structure", ["monarch3", "monarch:blocks=4", "low_rank:rank=3"])
@pytest.mark.parametrize("widths", [(64, 64), (36, 60)], ids=str)
def test_other_kinds_of_structures_equal_their_matrix(structure: str, widths: tuple[int, int]) -> None:
    layer = EinsumLinear(*widths, structure, bias=True, weight_norm=True, dtype=torch.float64)
    torch.nn.init.normal_(layer.bias)
    x = torch.randn(2, 3, widths[0], dtype=torch.float64, requires_grad=True)
    for name in ("chained", "chained-parts", "rows", "materialised"):
        expected = x @ layer.dense_weight().T + layer.bias
        with choice.pinned(name):
            y = layer(x)
        torch.testing.assert_close(y, expected)
        for got, want in zip(gradients(layer, y, x), gradients(layer, expected, x), strict=True):
            torch.testing.assert_close(got, want)


def test_a_layer_follows_moves_of_type() -> None:
    layer = EinsumLinear(48, 36, "generic:1/4", bias=True)
    x = torch.randn(5, 48)
    torch.testing.assert_close(layer.double()(x.double()).float(), layer.float()(x), rtol=1e-4, atol=1e-4)


REPLICA = """
import sys
import torch
from trainers.layers import EinsumLinear

def backward(rank, store):
    torch.set_num_threads(1)
    torch.manual_seed(3)
    layer = EinsumLinear(24, 36, "generic:1/4", bias=True, weight_norm=True, dtype=torch.float64)
    x = torch.randn(8, 24, dtype=torch.float64)
    torch.distributed.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=2)
    try:
        replica = torch.nn.parallel.DistributedDataParallel(layer)
        replica(x.chunk(2)[rank]).square().mean().backward()
    finally:
        torch.distributed.destroy_process_group()
    return layer, x
"""


def test_two_processes_come_to_the_gradients_of_one(tmp_path: Path) -> None:
    """Each has half of the batch; their gradients are averaged by DistributedDataParallel."""
    store = tmp_path / "store"
    command = [sys.executable, "-c", f"{REPLICA}\nbackward(1, {str(store)!r})"]
    defined: dict[str, Any] = {}
    exec(REPLICA, defined)
    with subprocess.Popen(command, cwd=Path(__file__).parents[2]) as other:
        layer, x = defined["backward"](0, store)
        assert other.wait() == 0
    expected = torch.autograd.grad(layer(x).square().mean(), list(layer.parameters()))
    for parameter, want in zip(layer.parameters(), expected, strict=True):
        torch.testing.assert_close(parameter.grad, want)


@pytest.mark.skipif(shutil.which("c++") is None, reason="inductor needs a C++ compiler")
@pytest.mark.filterwarnings("ignore:.*torch.jit.script_method.*:DeprecationWarning")  # inductor's own
def test_inductor_compiles_a_layer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))
    from torch._inductor import config

    monkeypatch.setattr(config, "cpp_cache_precompile_headers", False)  # they pay from the second graph on
    monkeypatch.setattr(config.cpp, "vec_isa_ok", False)  # nothing is compiled to try what the processor has
    layer = EinsumLinear(36, 16, "monarch")
    compiled = torch.compile(layer, backend="inductor", fullgraph=True)
    x = torch.randn(3, 36)
    with torch.no_grad():  # gradients of compiled layers are tested above; compiling them in C++ takes long
        torch.testing.assert_close(compiled(x), layer(x))
