"""Which arithmetic a run uses: fp32, or bf16 autocast where the hardware multiplies bf16 itself."""

from __future__ import annotations

from contextlib import AbstractContextManager

import torch

from space.errors import ConfigError


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
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=precision == "bf16")


def _multiplies_bf16(device: torch.device) -> bool:
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    return device.type == "cpu" and bool(torch.cpu._is_amx_tile_supported() or torch.cpu._is_avx512_bf16_supported())
