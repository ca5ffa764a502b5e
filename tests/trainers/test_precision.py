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


def test_what_a_study_records_is_what_auto_comes_to_on_this_machine() -> None:
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    assert precision.of_this_machine() == precision.choose("auto", device)


@pytest.mark.parametrize("feature", ["amx_tile", "avx512_bf16"])
def test_torch_is_asked_where_the_cpu_may_have_bf16(feature: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Path, "read_text", lambda _: f"flags : fpu {feature} sse")
    monkeypatch.setattr(precision, "choose", lambda asked, _: f"torch's word on {asked}")
    assert precision.of_this_machine() == "torch's word on auto"


def test_torch_is_asked_where_there_may_be_a_gpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "nvidiactl").touch()
    monkeypatch.setattr(precision, "GPU_DEVICES", (str(tmp_path / "nvidiactl"),))
    monkeypatch.setattr(precision, "choose", lambda asked, _: f"torch's word on {asked}")
    assert precision.of_this_machine() == "torch's word on auto"


def test_auto_is_fp32_on_other_devices() -> None:
    assert precision.choose("auto", torch.device("meta")) == "fp32"


@pytest.mark.parametrize(("chosen", "dtype"), [("fp32", torch.float32), ("bf16", torch.bfloat16)])
def test_autocast_runs_products_in_the_chosen_precision(chosen: str, dtype: torch.dtype) -> None:
    x = torch.ones(4, 4)
    with precision.autocast(chosen, CPU):
        assert (x @ x).dtype == dtype
    assert (x @ x).dtype == torch.float32
