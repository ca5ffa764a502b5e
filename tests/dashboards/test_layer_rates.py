"""Learning rates shown are those that trials are trained with."""

from __future__ import annotations

import pytest

from dashboards.layer_rates import fan_ins, layer_rates
from space.structure import Structure
from trainers.mup import adam_multipliers

NAMES = [
    "dense",
    "monarch",
    "btt:1/4",
    "low_rank:1/2",
    "kronecker",
    "tensor_train:1/4",
    "generic:1/8",
    "kronecker3",
    "monarch3",
]


@pytest.mark.parametrize("name", [*NAMES, "block_tensor_train4:1/8"])
@pytest.mark.parametrize("width", [64, 96, 256])
def test_rates_are_those_of_the_trainers(name: str, width: int) -> None:
    structure = Structure.parse(name)
    trained = adam_multipliers(structure.realize(width, width), base_fan_in=64)
    shown = layer_rates(structure, width, 0.003, 64)
    assert [rate for _, _, rate in shown.factors] == pytest.approx([0.003 * scale for scale in trained.values()])
    assert [factor.lower() for factor, _, _ in shown.factors] == [name.lower() for name in trained]


def test_fan_ins_by_hand() -> None:
    assert fan_ins(Structure.parse("btt:1/4").realize(256, 256)) == {"A": 16, "B": 64}
