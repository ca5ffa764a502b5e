"""The ledger against brute force: operations counted as torch executes them."""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import pairwise

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from space.errors import ConfigError
from space.structure import Structure
from trainers.flops import count, matched_width
from trainers.gpt import GPT
from trainers.gpt_config import GPTConfig
from trainers.layers import EinsumLinear
from trainers.plans.choice import pinned

CONFIG = GPTConfig(structure="dense", width=48, depth=2, d_head=16, context=32, vocab_size=96)
SHAPE = {"depth": 3, "d_head": 16, "context": 64, "vocab_size": 96}


@pytest.mark.parametrize("structure", ["dense", "monarch", "btt:1/4", "low_rank:1/2", "kronecker", "generic", "tt2", "btt8"])
def test_train_flops_are_those_of_a_forward_and_backward_pass(structure: str) -> None:
    config = replace(CONFIG, structure=structure)
    model = GPT(config)
    tokens = torch.randint(0, 96, (3, config.context))
    with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH), pinned("rows"):
        model.loss(tokens, tokens).backward()
    assert counter.get_total_flops() == count(config).total * tokens.numel()


def test_padding_is_counted() -> None:
    config = GPTConfig(structure="monarch", width=34, depth=1, d_head=2)
    layer = Structure.parse("monarch").realize(34, 34)
    assert layer.padded_in > 34
    assert count(config).parts["query"] == 6 * layer.macs


@pytest.mark.parametrize("convention", ["train_flops", "paper_macs"])
@pytest.mark.parametrize("structure", ["dense", "monarch", "generic:1/4"])
def test_linear_parts_are_the_layers_of_the_model(structure: str, convention: str) -> None:
    config = replace(CONFIG, structure=structure)
    found = count(config, convention)
    scale = 6 if convention == "train_flops" else 1
    for kind in config.layer_widths:
        built = [m for name, m in GPT(config).named_modules() if name.endswith(f".{kind}") and isinstance(m, EinsumLinear)]
        assert found.parts[kind] == scale * sum(layer.realization.macs for layer in built)
    assert found.total == sum(found.parts.values())


def test_paper_macs_by_hand() -> None:
    d, depth, context = 256, 3, 128
    linear = depth * 12 * d * d
    attention = depth * 2 * context * d
    norms = 5 * (depth * (2 + 2) + 1) * d
    assert count(GPTConfig(width=d), "paper_macs").total == linear + attention + norms


def test_report_is_a_table_of_named_parts() -> None:
    lines = str(count(GPTConfig(width=64, depth=1))).splitlines()
    assert lines[0] == "train_flops per token"
    assert [line.split()[0] for line in lines[1:]] == [
        "query", "key", "value", "out", "up", "down", "attention", "head", "total",
    ]  # fmt: skip
    assert lines[-1].split()[1] == f"{6 * (12 * 64**2 + 2 * 128 * 64 + 64 * 96):,}"


def test_an_unknown_convention_is_refused() -> None:
    with pytest.raises(ConfigError, match="convention is 'flops'"):
        count(CONFIG, "flops")


def brute_force(structure: str, target: float, max_width: int) -> int:
    costs = {w: count(GPTConfig(structure=structure, width=w, **SHAPE)).total for w in range(16, max_width + 1, 16)}
    return min(costs, key=lambda w: (abs(math.log(costs[w] / target)), w))


@pytest.mark.parametrize("structure", ["dense", "monarch", "btt:1/4", "low_rank:1/2", "kronecker", "generic", "btt9"])
@pytest.mark.parametrize("dense_width", [16, 48, 96, 160])
def test_matched_width_is_the_closest_of_all(structure: str, dense_width: int) -> None:
    target = count(GPTConfig(width=dense_width, **SHAPE)).total
    assert matched_width(structure, target, **SHAPE, max_width=2048) == brute_force(structure, target, 2048)
    assert matched_width(Structure.parse(structure), 1.1 * target, **SHAPE) == brute_force(structure, 1.1 * target, 2048)


def test_matched_width_is_itself_for_dense_and_breaks_ties_down() -> None:
    costs = [count(GPTConfig(width=w, **SHAPE)).total for w in (16, 32, 48)]
    assert [matched_width("dense", cost, **SHAPE) for cost in costs] == [16, 32, 48]
    for (below, above), width in zip(pairwise(costs), (16, 32), strict=True):
        middle = math.sqrt(below * above)
        assert matched_width("dense", middle * (1 - 1e-12), **SHAPE) == width
        assert matched_width("dense", middle * (1 + 1e-12), **SHAPE) == width + 16


def test_matched_width_stays_within_its_bounds() -> None:
    assert matched_width("dense", 1.0, **SHAPE) == 16
    assert matched_width("dense", 1e15, **SHAPE, max_width=100) == 96


@pytest.mark.parametrize("target", [0, -1.0, math.nan])
def test_matched_width_needs_a_positive_target(target: float) -> None:
    with pytest.raises(ConfigError, match="target_flops_per_token"):
        matched_width("dense", target, **SHAPE)


def test_matched_width_needs_room_for_a_head() -> None:
    with pytest.raises(ConfigError, match="max_width is 8"):
        matched_width("dense", 1e6, **SHAPE, max_width=8)
