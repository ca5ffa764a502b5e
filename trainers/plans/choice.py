"""Which plan executes a layer: pinned, or timed once and remembered, or estimated.

1. A pin: `with pinned("materialised"):` or the environment variable EINSEARCH_PLAN. A plan that cannot execute a layer, such
   as a two-product plan of a dense one, is passed over there.
2. The autotuner (`trainers.plans.autotune`), unless EINSEARCH_AUTOTUNE=0 or `with estimated():` switch it off.
3. The estimate of each plan's cost. It depends on nothing but the problem, so that a run repeats bit for bit on another day:
   trials use it, whatever the autotuner knows.

Under a compiler or a function transform the choice is estimated among the plain plans, and nothing is timed or read.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache

import torch
from torch import Tensor

from space.errors import ConfigError
from trainers import precision
from trainers.plans import autotune
from trainers.plans.chained import Chained, ChainedParts
from trainers.plans.grouped import Grouped
from trainers.plans.merged import Merged
from trainers.plans.native import Native, NativeMaterialised
from trainers.plans.plain import Materialised, Rows
from trainers.plans.problem import HALVES, Plan, Problem
from trainers.plans.strided import Strided
from trainers.plans.wide import WideMaterialised

PLAIN: tuple[Plan, ...] = (Rows(), Chained(), Materialised())
"""Plans that a compiler or a function transform can look through."""

PLANS: tuple[Plan, ...] = (
    *PLAIN,
    ChainedParts(),
    WideMaterialised(),
    Merged(),
    Native(),
    NativeMaterialised(),
    Grouped(),
    Strided(),
    Strided(swapped=True),
    Strided(chunk=1 << 20),
    Strided(chunk=1 << 18, wide=True),
)
"""Every plan there is."""

HALF_PRODUCTS: tuple[Plan, ...] = (*PLAIN, Merged(), Strided(), Strided(swapped=True))
"""Plans that multiply inputs of 16 bits as they are."""

KEPT = 2
"""How often the room of its input and output a plan may keep for the backward pass: what needs more is not a fair exchange."""

_pin: ContextVar[str | None] = ContextVar("pin", default=None)
_estimate_only: ContextVar[bool] = ContextVar("estimate_only", default=False)


@contextmanager
def pinned(name: str) -> Iterator[None]:
    """Execute layers by the plan of this name wherever it supports them.

    Raises:
        ConfigError: no plan has this name.
    """
    token = _pin.set(_known(name, "plan"))
    try:
        yield
    finally:
        _pin.reset(token)


@contextmanager
def estimated() -> Iterator[None]:
    """Choose plans by their estimated cost alone: nothing is timed, and the choice is the same every time."""
    token = _estimate_only.set(True)
    try:
        yield
    finally:
        _estimate_only.reset(token)


def execute(problem: Problem, x: Tensor, factors: Sequence[Tensor], bias: Tensor | None) -> Tensor:
    """The layer's output, by the plan chosen for it."""
    return choose(problem, plain=transformed(x))(x, factors, bias, problem)


def choose(problem: Problem, plain: bool = False) -> Plan:
    """The plan that executes `problem`.

    Args:
        problem: the layer, and the number of tokens.
        plain: choose among `PLAIN`, by estimate.

    Raises:
        ConfigError: EINSEARCH_PLAN names no plan.
    """
    if plain:
        return _plain(problem)
    pin = _pin.get() or os.environ.get("EINSEARCH_PLAN")
    if pin:
        plan = plan_named(_known(pin, "EINSEARCH_PLAN"))
        return plan if plan.supports(problem) else estimate(problem)
    if _estimate_only.get() or os.environ.get("EINSEARCH_AUTOTUNE") == "0":
        return estimate(problem)
    name = autotune.fastest(problem, candidates)
    return plan_named(name) if name else estimate(problem)


def plan_named(name: str) -> Plan:
    """The plan of a name in `PLANS`."""
    return _by_name()[name]


@cache
def estimate(problem: Problem) -> Plan:
    """The plan of the lowest estimated cost."""
    return candidates(problem)[0]


def candidates(problem: Problem) -> list[Plan]:
    """The plans that support `problem`, the cheapest by estimate first.

    A CPU that only emulates 16-bit products, tens of times slower than those of float32, is not asked for any. Of the plans
    that materialise, which differ in how W is built, there is the cheapest. None is there that keeps more for the backward pass
    than `KEPT` times what the input and the output take.
    """
    emulated = problem.dtype in HALVES and _emulates_halves(problem.device)
    able = (plan for plan in PLANS if plan.supports(problem) and not (emulated and plan in HALF_PRODUCTS))
    modest = (plan for plan in able if not problem.grad or plan.kept(problem) <= KEPT * (problem.d_in + problem.d_out))
    ordered = sorted(modest, key=lambda plan: plan.cost(problem))
    materialised = [plan for plan in ordered if plan.name.startswith("materialised")]
    return [plan for plan in ordered if plan not in materialised[1:]]


def transformed(x: Tensor) -> bool:
    """Whether torch is looking at operations rather than executing them, or differentiates in a way that only plain ones do."""
    if torch.compiler.is_compiling():
        return True
    functorch = torch._C._functorch.peek_interpreter_stack() is not None
    forward_mode = torch.autograd.forward_ad._current_level >= 0
    return functorch or forward_mode or type(x) not in (Tensor, torch.nn.Parameter) or x.device.type not in ("cpu", "cuda")


def _plain(problem: Problem) -> Plan:
    rows, chained, dense = PLAIN
    products = rows if problem.chain is None else chained
    return products if products.supports(problem) and products.cost(problem) < dense.cost(problem) else dense


@cache
def _emulates_halves(device: torch.device) -> bool:
    return device.type == "cpu" and precision.choose("auto", device) == "fp32"


@cache
def _by_name() -> dict[str, Plan]:
    return {plan.name: plan for plan in PLANS}


def _known(name: str, what: str) -> str:
    if name not in _by_name():
        raise ConfigError(f"{what} is {name!r}; it must be one of {', '.join(_by_name())}")
    return name
