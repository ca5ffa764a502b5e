"""The Triton kernels, in Triton's interpreter: no GPU is needed, and none has run them here."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from trainers.layers import EinsumLinear
from trainers.plans import choice, grouped
from trainers.plans.grouped import Grouped

ROOT = Path(__file__).parents[2]

SCRIPT = """
import torch
from space.catalogue import PAPER
from space.structure import Structure
from trainers.layers import EinsumLinear
from trainers.plans import choice, grouped

torch.manual_seed(0)
square, padded = ((16, 16), torch.float32, 1e-4), ((13, 34), torch.float16, 2e-2)
for structure, (widths, dtype, tolerance) in (("l2", square), ("btt15", padded), ("tt4", square), ("g2", padded)):
    layer = EinsumLinear(*widths, Structure.from_theta(PAPER[structure]), bias=True, dtype=dtype)
    x = torch.randn(17, widths[0], dtype=dtype, requires_grad=True)
    found = []
    for name in ("rows", "triton"):
        with choice.pinned(name):
            assert choice.choose(layer.problem(x)).name == name
            y = layer(x)
            found.append([y, *torch.autograd.grad(y.float().square().sum(), [x, *layer.parameters()])])
    for got, want in zip(found[1], found[0], strict=True):
        torch.testing.assert_close(got, want, rtol=tolerance, atol=tolerance)

grouped.SHARE = 32  # a sum over tokens is split into shares
layer = EinsumLinear(16, 16, "generic:1/4")
x = torch.randn(70, 16, requires_grad=True)
found = []
for name in ("rows", "triton"):
    with choice.pinned(name):
        found.append(torch.autograd.grad(layer(x).square().sum(), [x, *layer.parameters()]))
for got, want in zip(*found, strict=True):
    torch.testing.assert_close(got, want, rtol=1e-4, atol=1e-4)
"""


def test_kernels_equal_the_plain_products_also_where_a_long_sum_is_split() -> None:
    environment = os.environ | {"TRITON_INTERPRET": "1"}
    subprocess.run([sys.executable, "-c", SCRIPT], cwd=ROOT, env=environment, check=True)


def test_the_plan_is_for_cuda_alone_when_kernels_are_compiled() -> None:
    layer = EinsumLinear(16, 16, "monarch")
    assert not Grouped().supports(layer.problem(torch.empty(4, 16)))


def test_layers_work_where_triton_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "triton", None)
    monkeypatch.setenv("TRITON_INTERPRET", "1")  # the plan would take a CPU
    monkeypatch.setattr("trainers.plans.grouped.installed", grouped.installed.__wrapped__)
    layer = EinsumLinear(16, 16, "monarch")
    x = torch.randn(4, 16)
    assert not Grouped().supports(layer.problem(x))
    with choice.pinned("triton"):
        layer(x).sum().backward()
