"""Both products fused, by a kernel for CPUs: `native.cpp` and its headers, compiled once for this processor and kept on disk.

It needs a C++ compiler: the one that the environment variable CXX names, or `c++`. EINSEARCH_NATIVE=0 switches it off. Where
there is none, or it cannot build the kernel, the other plans serve.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from trainers.cache import default_cache, locked
from trainers.plans.plain import MOVE, edges_of, parameters, products_macs, reading_macs
from trainers.plans.problem import HALVES, Problem, differentiable_gradients, padded, trimmed
from trainers.plans.wide import wide_linear
from trainers.products import Edges, materialise

SOURCES = [Path(__file__).with_suffix(".cpp"), *sorted(Path(__file__).parent.glob("native_*.h"))]

FLAGS = [
    "-std=c++17",
    "-O3",
    "-march=native",
    "-ffp-contract=fast",
    "-fno-math-errno",
    "-fno-trapping-math",
    "-fPIC",
    "-fopenmp",
]
"""Nothing that changes what NaN and infinity do."""

SUMS = 4
"""Each thread sums gradients of its own: up to this many dense matrices in all."""

BLOCK = 32
"""Tokens that go through the kernel together: TOKENS there."""

VISIT = 12
"""Time to keep one feature between the products of one token, in MACs of a large product."""


@dataclass(frozen=True, slots=True)
class Native:
    """See the module. Arithmetic is in float32, whatever the rows are."""

    name: str = "native"

    def supports(self, problem: Problem) -> bool:
        """Two factors on a CPU, rows of 32 bits or of bfloat16, and a compiler."""
        e = problem.edges
        if e is None or problem.device.type != "cpu" or problem.dtype not in (torch.float32, torch.bfloat16):
            return False
        return problem.threads * parameters(e) <= SUMS * problem.d_in * problem.d_out and library() is not None

    def cost(self, problem: Problem) -> float:
        """The products at somewhat less than the speed of a large one, what lies between them, the weights read for each block,
        and each feature moved once.
        """
        e = edges_of(problem)
        moved = MOVE / 8 * (e.d_in + e.d_out)
        return problem.tokens * (1.4 * products_macs(e) + VISIT * e.between + reading_macs(e, BLOCK) + moved)

    def kept(self, problem: Problem) -> int:  # noqa: ARG002
        """Nothing."""
        return 0

    def __call__(self, x: Tensor, factors: Sequence[Tensor], bias: Tensor | None, problem: Problem) -> Tensor:
        """See `Plan`."""
        e = edges_of(problem)
        if bias is not None and e.d_out != problem.d_out:
            bias = torch.nn.functional.pad(bias, (0, e.d_out - problem.d_out))
        y: Tensor = _Native.apply(padded(x, e.d_in), *factors, bias, e)  # type: ignore[no-untyped-call]
        return trimmed(y, problem.d_out)


@dataclass(frozen=True, slots=True)
class NativeMaterialised:
    """W, built by the kernel, in one dense product: of 32 bits, whatever the rows are."""

    name: str = "materialised-native"

    def supports(self, problem: Problem) -> bool:
        """Two factors on a CPU, and a compiler."""
        if problem.edges is None or problem.device.type != "cpu" or problem.dtype not in (torch.float32, *HALVES):
            return False
        return library() is not None

    def cost(self, problem: Problem) -> float:
        """The dense product, and W built in place."""
        e = edges_of(problem)
        return problem.dense_macs + problem.d_in * problem.d_out * (4 * e.rho + MOVE)

    def kept(self, problem: Problem) -> int:  # noqa: ARG002
        """Nothing."""
        return 0

    def __call__(self, x: Tensor, factors: Sequence[Tensor], bias: Tensor | None, problem: Problem) -> Tensor:
        """See `Plan`."""
        first, second = (factor.float() for factor in factors)
        whole: Tensor = _Matrix.apply(first, second, edges_of(problem))  # type: ignore[no-untyped-call]
        fits = whole.shape == (problem.d_out, problem.d_in)
        weight = whole if fits else whole[: problem.d_out, : problem.d_in]
        if x.dtype == torch.float32:
            return torch.nn.functional.linear(x, weight, bias)
        return wide_linear(x, weight, bias)


@cache
def library() -> ctypes.CDLL | None:
    """The compiled kernel; None where it cannot be had."""
    compiler = shutil.which(os.environ.get("CXX", "c++"))
    if os.environ.get("EINSEARCH_NATIVE") == "0" or compiler is None:
        return None
    try:
        return ctypes.CDLL(str(_build(compiler)))
    except (OSError, subprocess.SubprocessError):
        return None


def _build(compiler: str) -> Path:
    """The shared library: its name is a hash of all it depends on, and it appears whole or not at all.

    It is linked without a runtime of OpenMP, so that it takes torch's, and with it torch's threads.
    """
    version = subprocess.run([compiler, "--version"], capture_output=True, check=True).stdout
    identity = b"\0".join(
        [*(source.read_bytes() for source in SOURCES), " ".join(FLAGS).encode(), version, _processor().encode()]
    )
    target = default_cache() / f"native-{hashlib.sha256(identity).hexdigest()[:16]}.so"
    if not target.exists():
        target.parent.mkdir(parents=True, exist_ok=True)
        with locked(target.with_suffix(".lock")):
            _compile(compiler, target)
    return target


def _compile(compiler: str, target: Path) -> None:
    """Unless another process just has."""
    if target.exists():
        return
    with tempfile.TemporaryDirectory(dir=target.parent) as folder:
        made, linked = Path(folder) / "native.o", Path(folder) / "native.so"
        for command in ([*FLAGS, "-c", str(SOURCES[0]), "-o", str(made)], ["-shared", str(made), "-o", str(linked)]):
            subprocess.run([compiler, *command], capture_output=True, check=True, timeout=120)
        linked.replace(target)


def _processor() -> str:
    """What `-march=native` depends on."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return ""
    return "\n".join(sorted({line for line in lines if line.startswith(("model name", "flags", "Features", "CPU part"))}))


def _address(tensor: Tensor | None) -> ctypes.c_void_p:
    return ctypes.c_void_p(None if tensor is None else tensor.data_ptr())


def _sizes(e: Edges) -> Any:
    """The struct Sizes of the kernel."""
    return (ctypes.c_int64 * 8)(e.x1, e.x2, e.gamma, e.y1, e.y2, e.phi, e.rho, e.a_first)


class _Native(torch.autograd.Function):
    """Nothing but the inputs is kept for the backward pass."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, first: Tensor, second: Tensor, bias: Tensor | None, e: Edges) -> Tensor:
        ctx.save_for_backward(x, first, second, bias)
        ctx.edges = e
        y = x.new_empty(len(x), e.d_out)
        rows = x.contiguous()
        f, s = (factor.float().contiguous() for factor in (first, second))
        b = None if bias is None else bias.float().contiguous()
        half, tokens = int(x.dtype == torch.bfloat16), ctypes.c_int64(len(x))
        _call("forward", e, tokens, half, _address(rows), _address(f), _address(s), _address(b), _address(y))
        return y

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor | None, ...]:
        x, first, second, bias = ctx.saved_tensors
        d_bias = None if bias is None else dy.sum(0, dtype=bias.dtype)
        if torch.is_grad_enabled():
            wanted = ctx.needs_input_grad[:3]
            return (*differentiable_gradients(ctx.edges, (x, first, second), wanted, dy), d_bias, None)
        rows, d_rows = x.contiguous(), dy.contiguous()
        f, s = (factor.float().contiguous() for factor in (first, second))
        dx = torch.empty_like(rows)
        sums = torch.zeros(torch.get_num_threads(), f.numel() + s.numel())
        half, tokens = int(x.dtype == torch.bfloat16), ctypes.c_int64(len(x))
        addresses = [_address(t) for t in (rows, f, s, d_rows, dx, sums)]
        _call("backward", ctx.edges, tokens, half, *addresses)
        total, e = sums.sum(0), ctx.edges
        d_first, turned = total[: f.numel()].view(f.shape), total[f.numel() :].view(e.phi, e.inner, e.y2)
        d_second = turned.mT.reshape(s.shape)
        return dx, d_first.to(first.dtype), d_second.to(second.dtype), d_bias, None


class _Matrix(torch.autograd.Function):
    """The matrix of two factors of 32 bits."""

    @staticmethod
    def forward(ctx: Any, first: Tensor, second: Tensor, e: Edges) -> Tensor:
        ctx.save_for_backward(first, second)
        ctx.edges = e
        weight = first.new_empty(e.d_out, e.d_in)
        factors = [first.contiguous(), second.contiguous()]
        _call("matrix", e, *map(_address, (*factors, weight)))
        return weight

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor | None, ...]:
        first, second = ctx.saved_tensors
        if torch.is_grad_enabled():
            weight = materialise(first, second, ctx.edges)
            wanted = [t for t, needed in zip((first, second), ctx.needs_input_grad, strict=False) if needed]
            found = iter(torch.autograd.grad(weight, wanted, dy, create_graph=True))
            return tuple(next(found) if needed else None for needed in ctx.needs_input_grad)
        d_first, d_second = torch.empty(first.shape), torch.zeros(second.shape)
        inputs = (first.contiguous(), second.contiguous(), dy.contiguous())
        _call("matrix_gradient", ctx.edges, *map(_address, (*inputs, d_first, d_second)))
        return d_first, d_second, None


FUNCTIONS = ("matrix", "matrix_gradient", "forward", "backward")
"""Of the kernel, in the order in which it says how much room each takes."""


@cache
def _room(e: Edges) -> dict[str, int]:
    """Floats that a thread of each function works with: a multiple of a cache line."""
    floats = (ctypes.c_int64 * len(FUNCTIONS))()
    found = library()
    assert found is not None
    found.einsearch_room(_sizes(e), floats)
    return {name: -(-count // 16) * 16 for name, count in zip(FUNCTIONS, floats, strict=True)}


def _call(name: str, e: Edges, *arguments: Any) -> None:
    found, threads = library(), torch.get_num_threads()
    assert found is not None
    room = torch.empty(threads * _room(e)[name], dtype=torch.float32)
    getattr(found, f"einsearch_{name}")(_sizes(e), *arguments, _address(room), threads)
