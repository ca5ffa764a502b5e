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
import math
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

from trainers.cache import default_cache
from trainers.plans.problem import Plan, Problem

VERSION = 3
"""Of the file and of the set of plans. Another one forgets all timings."""

BUDGET = 1.4
"""Seconds of timing that a process starts with."""

SHARE = 0.01
"""Seconds of timing earned per second that passes."""

AT_ONCE = 0.35
"""Most seconds spent on one problem."""

SHORTEST = 2e6
"""Estimated cost (MACs) below which a call is not worth timing."""

HOPELESS = 2.0
"""A plan whose estimate is this many times the lowest is not timed."""

MOST = 5
"""Plans that are timed at most."""

FIRST = 1e8
"""MACs of a dense layer at the tokens of the first heat, which are `FEW` at least."""

FEW = 256

WARM = 32
"""Tokens of a call of each plan that comes before and is not timed: the first of a process takes longer."""

OVERDUE = 0.35
"""Seconds beyond its time after which a race is called off, where even the first calls took so long: the estimate decides."""

FAR = 1.5
"""How much cheaper than W and a dense product a plan must be by estimate to be taken untimed."""

CLOSE = ((2, 2.5), (1, 1.5), (0, 1.2))
"""For each heat: heats that are left after it, and how close to its fastest plan others must be to run again."""

TURNS = 3
"""How often each plan runs in a heat, in turns, while there is time; the least time counts."""

DOUBT = 1.0
"""How far few tokens count: of one, a time is multiplied by the plan's estimate, relative to the lowest, to this power; the
power falls to 0 with the logarithm of the tokens, where all of them were run. What falls out of a cache at many tokens, and
what is done once for all, make few of them misleading; the estimate knows of both."""

MARGIN = 0.95
"""A plan must take less than this share of the time of the one that materialises W, where that came to the last heat, and
else of the one that was estimated to be best. What small products take at all tokens, having run at few, is less sure than
what a dense one takes, and a layer must not be slower than the dense one that it replaces."""

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
_on_disk = True
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


def forget(disk: bool = True) -> None:
    """Start as a new process does, with the whole budget and only what is on disk known; without `disk`, not even that."""
    global _on_disk
    with _lock:
        _clock.__init__()  # type: ignore[misc]
        _chosen.clear()
        _on_disk = disk


def cache_file() -> Path:
    """Where the winners are kept."""
    return default_cache() / "plans.json"


def _look_up_or_time(problem: Problem, plans: list[Plan]) -> str | None:
    key = _key(problem)
    known = _load().get(key) if _on_disk else None
    if known in [plan.name for plan in plans]:
        return known
    if len(plans) == 1 or plans[0].cost(problem) < SHORTEST or _clock.left <= 0:
        return None
    start = time.perf_counter()
    winner = time_plans(problem, plans, min(AT_ONCE, _clock.left))
    _clock.spent += time.perf_counter() - start
    if _on_disk:
        _store(key, winner)
    return winner


def time_plans(problem: Problem, plans: Sequence[Plan], seconds: float) -> str:
    """Races plans, the best by estimate first, in heats of more and more tokens that take about `seconds` in all.

    What a plan would take for all tokens follows from its estimates for these and those, and is shrunk towards them (`DOUBT`).
    """
    end = time.perf_counter() + seconds
    lowest = plans[0].cost(problem)
    running = [plan for plan in plans if plan.cost(problem) <= HOPELESS * lowest][:MOST]
    tokens = min(problem.tokens, max(FEW, int(FIRST * problem.tokens / problem.dense_macs)))
    whole: dict[str, float] = {}
    few = replace(problem, tokens=min(tokens, WARM))
    inputs = _inputs(few)
    for plan in running:
        _time(plan, few, inputs)
        if time.perf_counter() > end + OVERDUE:
            return _untimed(problem, running)
    for heats_left, close in CLOSE:
        trial = replace(problem, tokens=tokens)
        times = _heat(running, trial, end)
        if times is None:
            if not whole:
                return _untimed(problem, running)
            break
        doubt = DOUBT * (1 - math.log(tokens) / math.log(problem.tokens)) if tokens < problem.tokens else 0.0
        for plan in running:
            cost = plan.cost(problem)
            whole[plan.name] = times[plan.name] * cost / plan.cost(trial) * (cost / lowest) ** doubt
        fastest = min(whole[plan.name] for plan in running)
        running = [plan for plan in running if whole[plan.name] <= close * fastest]
        per_token = TURNS * sum(times[plan.name] for plan in running) / tokens
        more = min(problem.tokens, int((end - time.perf_counter()) / max(1, heats_left) / per_token))
        if len(running) == 1 or more <= tokens:
            break
        tokens = more
    winner = min((plan.name for plan in running), key=lambda name: whole[name])
    sure = next((plan.name for plan in running if plan.name.startswith("materialised")), plans[0].name)
    return winner if whole[winner] < MARGIN * whole[sure] else sure


def _untimed(problem: Problem, plans: Sequence[Plan]) -> str:
    """The plan to take by estimate alone, the best first: the one that materialises W unless that is much dearer."""
    fair = (plan.name for plan in plans if plan.cost(problem) <= FAR * plans[0].cost(problem))
    return next((name for name in fair if name.startswith("materialised")), plans[0].name)


def _heat(plans: Sequence[Plan], trial: Problem, end: float) -> dict[str, float] | None:
    """Least seconds of each plan, which run in turns so that a disturbance falls on all of them; no turn begins after `end`.

    None where not even the first turn was over in time.
    """
    inputs = _inputs(trial)
    first: dict[str, float] = {}
    for plan in plans:
        if first and time.perf_counter() > end + OVERDUE:
            return None
        first[plan.name] = _time(plan, trial, inputs)
    turns = [first]
    while len(turns) < TURNS and time.perf_counter() < end:
        turns.append({plan.name: _time(plan, trial, inputs) for plan in plans})
    return {plan.name: min(turn[plan.name] for turn in turns) for plan in plans}


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
    structure = problem.chain.key[0] if problem.chain else "dense"
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
