"""Scales at initialisation and learning rates: closed forms, and what they are for."""

from __future__ import annotations

import math
from typing import Any, Literal

import pytest
import torch
from torch import nn

from space.errors import ConfigError
from space.structure import Structure
from trainers.factors import products
from trainers.gpt import GPT
from trainers.gpt_config import GPTConfig
from trainers.layers import EinsumLinear
from trainers.mup import adam_multipliers, multipliers, parameter_groups, sgd_multipliers


@pytest.mark.parametrize(
    ("structure", "fans"),
    [
        ("dense", [("a", 256, 1024)]),
        ("monarch", [("a", 16, 32), ("b", 16, 32)]),
        ("low_rank:1/2", [("a", 256, 16), ("b", 16, 1024)]),
        ("kronecker", [("a", 16, 32), ("b", 16, 32)]),
        ("btt:1/4", [("a", 16, 4 * 32), ("b", 4 * 16, 32)]),
        ("generic", [("a", 16, 4 * 8), ("b", 4 * 4, 32)]),
    ],
)
def test_fans_of_each_product(structure: str, fans: list[tuple[str, int, int]]) -> None:
    found = products(Structure.parse(structure).realize(256, 1024))
    assert [(p.factor, p.fan_in, p.fan_out) for p in found] == fans


def test_fans_follow_the_cheaper_order() -> None:
    layer = Structure.parse("(1/3|2/3|0|1/3|2/3|0|0)").realize(64, 256)
    assert (layer.order, layer.sizes["XA"], layer.sizes["XB"], layer.sizes["YA"], layer.sizes["YB"]) == ("B", 4, 16, 8, 32)
    assert [(p.factor, p.fan_in, p.fan_out) for p in products(layer)] == [("b", 16, 32), ("a", 4, 8)]


D = 256
R = 4
CLOSED_FORMS = [
    ("dense", 1, None),
    ("low_rank:1/2", 1 / 2, D / (2 * 16)),
    ("kronecker", math.sqrt(D) / 2, math.sqrt(D) / 2),
    ("monarch", 16 / 2, 16 / 2),
    ("tensor_train:1/4", math.sqrt(D) / 2, math.sqrt(D) / (2 * R)),
    ("btt:1/4", math.sqrt(D) / 2, math.sqrt(D) / (2 * R)),
]


@pytest.mark.parametrize(("structure", "a", "b"), CLOSED_FORMS)
def test_multipliers_relative_to_dense(structure: str, a: float, b: float | None) -> None:
    found = adam_multipliers(Structure.parse(structure).realize(D, D), base_fan_in=D)
    assert found == {"a": a} | ({} if b is None else {"b": b})


def test_multipliers_of_a_monarch_with_b_blocks_are_half_of_b() -> None:
    layer = Structure.parse("(3/4|0|1/4|0|3/4|1/4|0)").realize(D, D)
    blocks = layer.sizes["XAB"]
    assert adam_multipliers(layer, D)["a"] == blocks / 2


@pytest.mark.parametrize("structure", ["dense", "monarch", "low_rank:1/2", "kronecker", "btt:1/4", "generic", "btt9", "tt2"])
@pytest.mark.parametrize("widths", [(64, 64), (64, 256), (256, 64)], ids=str)
def test_output_at_initialisation_has_the_predicted_rms(structure: str, widths: tuple[int, int]) -> None:
    torch.manual_seed(0)
    layer = EinsumLinear(*widths, structure)
    x = torch.randn(256, widths[0])
    draws = []
    with torch.no_grad():
        for _ in range(20):
            layer.reset_parameters()
            draws.append(layer(x).square().mean())
    predicted = math.prod(min(p.fan_in, p.fan_out) / p.fan_in for p in layer.products)
    assert torch.stack(draws).mean().item() == pytest.approx(predicted, rel=0.15)


@pytest.mark.parametrize("structure", ["dense", "monarch", "generic:1/4"])
def test_every_parameter_has_its_rate_exactly_once(structure: str) -> None:
    model = GPT(GPTConfig(structure=structure, width=64, depth=2, d_head=16))
    groups = parameter_groups(model, lr=0.1, base_width=32)
    assert sorted(id(p) for g in groups for p in g["params"]) == sorted(id(p) for p in model.parameters())
    rate = {id(p): g["lr"] for g in groups for p in g["params"]}
    for name, parameter in model.named_parameters():
        if ".gain_" in name or "norm" in name or name in ("embedding.weight", "positions.weight"):
            assert rate[id(parameter)] == pytest.approx(0.1), name
    assert rate[id(model.head.a)] == pytest.approx(0.1 * 32 / 64)
    for block in model.blocks:
        for layer, base_fan_in in ((block.attention.query, 32), (block.feed_forward.down, 4 * 32)):
            for product in layer.products:
                expected = 0.1 * base_fan_in / (len(layer.products) * product.fan_in)
                assert rate[id(layer.get_parameter(product.factor))] == pytest.approx(expected)
    torch.optim.AdamW(groups)


def test_at_the_base_width_every_dense_rate_is_the_base_rate() -> None:
    (group,) = parameter_groups(GPT(GPTConfig(width=64, depth=1, d_head=32)), lr=3e-3, base_width=64)
    assert (group["lr"], group["multiplier"]) == (3e-3, 1.0)


def test_ordinary_models_take_an_explicit_width_and_ordinary_linear_layers_are_dense() -> None:
    model = nn.Sequential(nn.Linear(64, 64), nn.LayerNorm(64), EinsumLinear(64, 64, "monarch", bias=True))
    assert multipliers(model, width=64, base_width=16) == {
        "0.weight": 0.25,
        "0.bias": 1.0,
        "1.weight": 1.0,
        "1.bias": 1.0,
        "2.a": 1.0,
        "2.b": 1.0,
        "2.bias": 1.0,
    }
    groups = parameter_groups(model, lr=1.0, base_width=16, width=64)
    assert [g["multiplier"] for g in groups] == [0.25, 1.0]


def test_a_model_that_does_not_say_its_width_needs_it() -> None:
    with pytest.raises(ConfigError, match=r"width: Linear has no config.width; give the width that 16 stands for"):
        parameter_groups(nn.Linear(4, 4), lr=1.0, base_width=16)


SGD = [
    ("dense", 256, 1024, 1.0, None),
    ("monarch", 256, 256, 16 / 2, 16 / 2),
    ("monarch", 256, 1024, 512 / 16 / 4 / 2, 1024 / 16 / 4 / 2),
    ("low_rank:1/2", 256, 256, 16 / 256 / 2, 256 / 16 / 2),
    ("kronecker", 256, 256, 16 / 2, 16 / 2),
    ("tensor_train:1/4", 256, 256, 4 * 16 / 2, 16 / 4 / 2),
]


@pytest.mark.parametrize(("structure", "d_in", "d_out", "a", "b"), SGD)
def test_multipliers_of_sgd(structure: str, d_in: int, d_out: int, a: float, b: float | None) -> None:
    """Features written over fan-in, over that of the dense layer, over the factors."""
    found = sgd_multipliers(Structure.parse(structure).realize(d_in, d_out))
    assert found == {"a": a} | ({} if b is None else {"b": b})


@pytest.mark.parametrize("structure", ["dense", "monarch", "kronecker", "tensor_train:1/4", "btt:1/4", "generic"])
def test_coordinate_check_of_sgd(structure: str) -> None:
    """Features that a fixed readout of scale 1 / width pulls on move as far in wide layers as in narrow ones."""

    def moved(width: int) -> float:
        torch.manual_seed(0)
        layer = EinsumLinear(width, width, structure)
        x, readout, target = torch.randn(16, width), torch.randn(width) / width, torch.randn(16).sign()
        before = layer(x).detach()
        optimizer = torch.optim.SGD(parameter_groups(layer, 0.3, width, width, optimizer="sgd"))
        for _ in range(10):
            loss = -(layer(x) @ readout * target).mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        return float((layer(x) - before).detach().square().mean().sqrt())

    assert abs(math.log(moved(576) / moved(64)) / math.log(9)) < 0.3


@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
def test_decay_shrinks_the_matrix_of_a_layer_as_a_dense_one(optimizer: Literal["adamw", "sgd"]) -> None:
    """With no gradient a step only decays: by lr times weight_decay, to first order, whatever the structure."""
    model = nn.ModuleDict({"structured": EinsumLinear(64, 64, "btt:1/4", bias=True), "dense": nn.Linear(64, 64)})
    groups = parameter_groups(model, 1e-3, 32, 64, optimizer=optimizer, weight_decay=0.1)

    def weights() -> list[torch.Tensor]:
        return [model["structured"].dense_weight().detach().clone(), model["dense"].weight.detach().clone()]

    before = weights()
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    bias = model["dense"].bias.detach().clone()
    {"adamw": torch.optim.AdamW, "sgd": torch.optim.SGD}[optimizer](groups).step()
    for old, new in zip(before, weights(), strict=True):
        torch.testing.assert_close(new, old * (1 - 1e-4), rtol=0, atol=1e-6)
    assert torch.equal(model["dense"].bias, bias)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"optimizer": "adam"}, "optimizer is 'adam'; it must be one of adamw, sgd"),
        ({"lr": 0.0}, "lr is 0.0; it must be positive"),
        ({"base_width": -1}, "base_width is -1; it must be positive"),
        ({"width": 0}, "width is 0; it must be positive"),
        ({"weight_decay": math.nan}, "weight_decay is nan; it must be 0 or more"),
    ],
    ids=str,
)
def test_arguments_out_of_their_range(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        parameter_groups(nn.Linear(4, 4), **({"lr": 1.0, "base_width": 4, "width": 4} | change))


def test_shared_layers_are_counted_once() -> None:
    shared = EinsumLinear(16, 16, "monarch")
    groups = parameter_groups(nn.Sequential(shared, nn.GELU(), shared), lr=1.0, base_width=16, width=16)
    assert sum(len(g["params"]) for g in groups) == 2


def movement(structure: str, width: int, *, scaled: bool = True) -> float:
    """RMS change of the residual stream after five Adam steps of a one-block model."""
    torch.manual_seed(0)
    model = GPT(GPTConfig(structure=structure, width=width, depth=1, d_head=16, context=16, vocab_size=32))
    streams: list[torch.Tensor] = []
    model.norm.register_forward_pre_hook(lambda _, inputs: streams.append(inputs[0].detach()))
    groups = parameter_groups(model, lr=3e-3, base_width=32)
    optimizer = torch.optim.Adam(groups if scaled else [{"params": model.parameters(), "lr": 3e-3}])
    tokens = torch.randint(0, 32, (8, 17), generator=torch.Generator().manual_seed(1))
    for _ in range(6):
        loss = model.loss(tokens[:, :-1], tokens[:, 1:])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return float((streams[-1] - streams[0]).square().mean().sqrt())


def slope(structure: str, *, scaled: bool = True) -> float:
    """Exponent of the movement in the width, from 32 to 512."""
    few, many = (sum(movement(structure, w, scaled=scaled) for w in widths) for widths in ((32, 64), (256, 512)))
    return math.log(many / few) / math.log(8)


@pytest.mark.parametrize("structure", ["dense", "monarch", "low_rank:1/2", "kronecker", "btt:1/4", "generic", "btt2"])
def test_coordinate_check_updates_do_not_grow_with_the_width(structure: str) -> None:
    assert abs(slope(structure)) < 0.12


def test_coordinate_check_detects_a_rate_that_is_not_scaled() -> None:
    assert slope("dense", scaled=False) > 0.4
