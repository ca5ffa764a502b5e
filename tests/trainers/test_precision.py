from __future__ import annotations

from pathlib import Path

import pytest
import torch

from trainers import precision

CPU = torch.device("cpu")


@pytest.mark.parametrize("asked", ["fp32", "bf16"])
def test_what_is_asked_is_taken_on_a_cpu(asked: str) -> None:
    assert precision.choose(asked, CPU) == asked


@pytest.mark.skipif(not Path("/proc/cpuinfo").exists(), reason="the kernel's own list of CPU features is the truth here")
def test_auto_is_bf16_exactly_where_the_kernel_lists_it() -> None:
    features = set(Path("/proc/cpuinfo").read_text().split())
    native = bool({"amx_tile", "avx512_bf16"} & features)
    assert precision.choose("auto", CPU) == ("bf16" if native else "fp32")


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_auto_is_bf16_on_a_gpu_that_has_it() -> None:
    native = torch.cuda.get_device_capability() >= (8, 0)
    assert precision.choose("auto", torch.device("cuda")) == ("bf16" if native else "fp32")


def test_auto_is_fp32_on_other_devices() -> None:
    assert precision.choose("auto", torch.device("meta")) == "fp32"


@pytest.mark.parametrize(("chosen", "dtype"), [("fp32", torch.float32), ("bf16", torch.bfloat16)])
def test_autocast_runs_products_in_the_chosen_precision(chosen: str, dtype: torch.dtype) -> None:
    x = torch.ones(4, 4)
    with precision.autocast(chosen, CPU):
        assert (x @ x).dtype == dtype
    assert (x @ x).dtype == torch.float32
