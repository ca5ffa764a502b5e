"""Times the plans of a layer once, and remembers the fastest on disk.

A timing belongs to the device, torch's version and number of threads, the sizes of the layer, its types, whether gradients are
wanted, and the number of tokens to the next power of two. The tuner spends at most `BUDGET` seconds of a process, and
afterwards a hundredth of the time that passes; where that is used up, or a call is too short to be worth it, the estimate
decides. It runs on tensors of its own, draws no random numbers, and no trial is charged for it (trials do not use it).

The file, `plans.json` beside the other cached files, is replaced atomically. One that is corrupt, or of another version, is
taken as empty; a folder that cannot be written means that the next process times again.
"""

from __future__ import annotations

import json
import os
import platform
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import astuple, replace
from functools import cache
from pathlib import Path

import torch
from torch import Tensor

from trainers.corpus import default_cache
from trainers.plans.problem import Plan, Problem

VERSION = 1
"""Of the file and of the set of plans. Another one forgets all timings."""

BUDGET = 1.5
"""Seconds of timing that a process starts with."""

SHARE = 0.01
"""Seconds of timing earned per second that passes."""

AT_ONCE = 0.4
"""Most seconds spent on one problem."""

SHORTEST = 2e6
"""Estimated cost (MACs) below which a call is not worth timing."""

TRIAL = 5e8
"""Estimated cost (MACs) of the best plan to which the tokens of a trial are cut."""

HOPELESS = 4.0
"""A plan whose estimate is this many times the lowest is not timed."""

CLOSE = 1.3
"""Plans within this factor of the fastest are timed again."""

MARGIN = 0.97
"""A plan must take less than this share of the time of the one that was estimated to be best."""

ROUNDS = 4

_lock = threading.RLock()


class _Clock:
    """Seconds that may still be spent."""

    def __init__(self) -> None:
        self.started = time.monotonic()
        self.spent = 0.0

    @property
    def left(self) -> float:
        return BUDGET + SHARE * (time.monotonic() - self.started) - self.spent


_clock = _Clock()
_chosen: dict[Problem, str | None] = {}


def fastest(problem: Problem, candidates: Callable[[Problem], Sequence[Plan]]) -> str | None:
    """The name of the fastest plan, timed now or before.

    Args:
        problem: what is executed.
        candidates: the plans that support a problem, the best by estimate first.

    Returns:
        None where the estimate should decide.
    """
    if problem in _chosen:
        return _chosen[problem]
    if torch._C._len_torch_dispatch_stack() or (problem.device.type == "cuda" and torch.cuda.is_current_stream_capturing()):
        return None
    with _lock:
        if problem not in _chosen:
            _chosen[problem] = _look_up_or_time(problem, list(candidates(problem)))
        return _chosen[problem]


def seconds_spent() -> float:
    """Seconds of this process that went into timing plans."""
    return _clock.spent


def forget() -> None:
    """Start as a new process does: with the whole budget, and only what is on disk known."""
    with _lock:
        _clock.__init__()  # type: ignore[misc]
        _chosen.clear()


def cache_file() -> Path:
    """Where the winners are kept."""
    return default_cache() / "plans.json"


def _look_up_or_time(problem: Problem, plans: list[Plan]) -> str | None:
    key = _key(problem)
    known = _load().get(key)
    if known in [plan.name for plan in plans]:
        return known
    if len(plans) == 1 or plans[0].cost(problem) < SHORTEST or _clock.left <= 0:
        return None
    start = time.perf_counter()
    winner = time_plans(problem, plans, min(AT_ONCE, _clock.left))
    _clock.spent += time.perf_counter() - start
    _store(key, winner)
    return winner


def time_plans(problem: Problem, plans: Sequence[Plan], seconds: float) -> str:
    """Times plans, the best by estimate first, and the close ones again, within about `seconds`."""
    per_token = plans[0].cost(problem) / problem.tokens
    tokens = max(1, min(problem.tokens, int(TRIAL / per_token)))
    trial = replace(problem, tokens=tokens)
    end = time.perf_counter() + seconds
    inputs = _inputs(trial)
    _time(plans[0], trial, inputs)
    best: dict[str, float] = {}
    running = [plan for plan in plans if plan.cost(problem) <= HOPELESS * plans[0].cost(problem)]
    for _ in range(ROUNDS):
        for plan in running:
            if best and time.perf_counter() + _expected(plan, best, trial, problem, plans) > end:
                continue
            took = _time(plan, trial, inputs) * plan.cost(problem) / plan.cost(trial)
            best[plan.name] = min(took, best.get(plan.name, took))
        running = [plan for plan in running if best.get(plan.name, float("inf")) <= CLOSE * min(best.values())]
    winner = min(best, key=lambda name: best[name])
    return winner if best[winner] < MARGIN * best.get(plans[0].name, float("inf")) else plans[0].name


def _expected(plan: Plan, best: dict[str, float], trial: Problem, problem: Problem, plans: Sequence[Plan]) -> float:
    """Seconds that a trial will take, from its last one or from its estimate at the speed of the first plan."""
    if plan.name in best:
        return best[plan.name] * plan.cost(trial) / plan.cost(problem)
    first = plans[0]
    return best[first.name] * plan.cost(trial) / first.cost(problem) if first.name in best else 0.0


def _inputs(problem: Problem) -> tuple[Tensor, list[Tensor], Tensor]:
    """Input, factors and gradient of the output, of a value that neither overflows nor vanishes."""
    options = {"dtype": problem.dtype, "device": problem.device}
    with torch.inference_mode(False):
        x = torch.full((problem.tokens, problem.d_in), 0.01, requires_grad=problem.grad, **options)  # type: ignore[call-overload]
        factors = [torch.full(s, 0.01, requires_grad=problem.grad, **options) for s in problem.shapes]  # type: ignore[call-overload]
        return x, factors, torch.full((problem.tokens, problem.d_out), 0.01, **options)  # type: ignore[call-overload]


def _time(plan: Plan, problem: Problem, inputs: tuple[Tensor, list[Tensor], Tensor]) -> float:
    x, factors, dy = inputs
    _synchronize(problem.device)
    start = time.perf_counter()
    with torch.inference_mode(False), torch.set_grad_enabled(problem.grad):
        y = plan(x, factors, None, problem)
        if problem.grad:
            torch.autograd.grad(y, [x, *factors], dy)
    _synchronize(problem.device)
    return time.perf_counter() - start


def _synchronize(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _key(problem: Problem) -> str:
    structure = problem.chain.realization.structure.key if problem.chain else "dense"
    sizes = astuple(problem.edges) if problem.edges else structure
    grad = "grad" if problem.grad else "no grad"
    widths = f"{problem.d_in} -> {problem.d_out} x {problem.tokens}"
    return f"{device_name(problem.device)} | {problem.threads} threads | {problem.dtype} | {grad} | {widths} | {sizes}"


@cache
def device_name(device: torch.device) -> str:
    """The device in words, and on a CPU the instructions that torch uses of it."""
    if device.type == "cuda":
        return str(torch.cuda.get_device_name(device))
    with suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return f"{line.partition(':')[2].strip()} {torch.backends.cpu.get_cpu_capability()}"
    return f"{platform.processor() or platform.machine()} {torch.backends.cpu.get_cpu_capability()}"


def _header() -> dict[str, object]:
    return {"version": VERSION, "torch": str(torch.__version__)}


def _load() -> dict[str, str]:
    """What is on disk; nothing where that cannot be read."""
    try:
        content = json.loads(cache_file().read_text())
        plans = content.pop("plans")
    except (OSError, ValueError, KeyError, AttributeError, TypeError):
        return {}
    return plans if content == _header() and isinstance(plans, dict) else {}


def _store(key: str, name: str) -> None:
    """Add one choice to the file. Where that fails the choice holds for this process."""
    file = cache_file()
    content = json.dumps(_header() | {"plans": _load() | {key: name}}, indent=1)
    with suppress(OSError):
        file.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=file.parent, prefix=file.name)
        with os.fdopen(handle, "w") as stream:
            stream.write(content)
        Path(temporary).replace(file)
