"""Which arithmetic a run uses: fp32, or bf16 autocast where the hardware multiplies bf16 itself."""

from __future__ import annotations

from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING

from space.errors import ConfigError

if TYPE_CHECKING:
    import torch

GPU_DEVICES = ("/dev/nvidiactl", "/dev/nvmap", "/dev/dxg", "/dev/kfd")
"""Files by which a process reaches a GPU on Linux: NVIDIA's, those of its small boards, Windows' beneath it, AMD's."""

CPU_FEATURES = {"amx_tile", "avx512_bf16"}
"""As the Linux kernel names them."""


def of_this_machine() -> str:
    """What "auto" comes to on this machine's first GPU, or on its CPU where it has none: "fp32" or "bf16".

    Torch is asked only where it might say bf16: loading it takes seconds, and a driver has no other need of it before it
    proposes.
    """
    if not _may_multiply_bf16():
        return "fp32"
    import torch

    return choose("auto", torch.device("cuda" if torch.cuda.is_available() else "cpu"))


def choose(precision: str, device: torch.device) -> str:
    """What a `precision` of "fp32", "bf16" or "auto" comes to on `device`: "fp32" or "bf16".

    "auto" is bf16 on CUDA devices and on CPUs with AMX or AVX512-BF16; elsewhere bf16 is emulated, and slower than fp32.

    Raises:
        ConfigError: bf16 is asked of a CUDA device that cannot run it.
    """
    native = _multiplies_bf16(device)
    if precision == "bf16" and device.type == "cuda" and not native:
        raise ConfigError(f"precision = 'bf16' is not possible on {device}; give 'fp32' or 'auto'")
    if precision == "auto":
        return "bf16" if native else "fp32"
    return precision


def autocast(precision: str, device: torch.device) -> AbstractContextManager[object]:
    """The context in which a forward pass of the chosen `precision` runs."""
    import torch

    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=precision == "bf16")


def _multiplies_bf16(device: torch.device) -> bool:
    import torch

    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    return device.type == "cpu" and bool(torch.cpu._is_amx_tile_supported() or torch.cpu._is_avx512_bf16_supported())


def _may_multiply_bf16() -> bool:
    """False only where it is sure without torch: Linux, no GPU, and a CPU whose features say so."""
    try:
        features = set(Path("/proc/cpuinfo").read_text().split())
    except OSError:
        return True
    return bool(features & CPU_FEATURES) or any(Path(device).exists() for device in GPU_DEVICES)
