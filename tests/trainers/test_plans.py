"""All plans compute one function and one gradient: pairwise in float64, and against float64 where a plan has less."""

from __future__ import annotations

import copy
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from space.catalogue import PAPER
from space.errors import ConfigError
from space.structure import Structure
from trainers.config import TrialConfig
from trainers.corpus import Corpus
from trainers.layers import EinsumLinear
from trainers.plans import autotune, chained, choice
from trainers.plans.native import library
from trainers.plans.problem import Plan
from trainers.plans.strided import Strided
from trainers.run import TrainingRun

CHUNKED = [Strided(chunk=40 * 64), Strided(chunk=40 * 64, swapped=True)]
"""Chunks of few tokens, so that there are several of them, and a last one that is shorter."""

EXACT: list[Plan] = [*choice.PLANS, *CHUNKED]
SIZES = [(64, 64), (48, 192), (192, 48), (35, 24), (13, 17)]
CASES = [(name, SIZES[(i + shift) % 5]) for i, name in enumerate(PAPER) for shift in (0, 2)]
"""Each structure at two sizes, and each size with many structures."""

TOKENS = 83


def layer_of(structure: str, widths: tuple[int, int], dtype: torch.dtype = torch.float64) -> tuple[EinsumLinear, Tensor]:
    torch.manual_seed(0)
    layer = EinsumLinear(*widths, Structure.from_theta(PAPER[structure]), bias=True, dtype=dtype)
    torch.nn.init.normal_(layer.bias)
    return layer, torch.randn(TOKENS, widths[0], dtype=dtype, requires_grad=True)


def execute(plan: Plan, layer: EinsumLinear, x: Tensor) -> list[Tensor]:
    """Output, and gradients with respect to the input and all parameters."""
    factors = [layer.get_parameter(product.factor) for product in layer.products]
    y = plan(x, factors, layer.bias, layer.problem(x))
    weights = torch.linspace(-1, 1, y.numel(), dtype=torch.float64).cos().view_as(y).to(y.dtype)
    return [y, *torch.autograd.grad(y, [x, *layer.parameters()], weights)]


@pytest.mark.parametrize(("structure", "widths"), CASES, ids=str)
def test_plans_agree_pairwise_in_float64(structure: str, widths: tuple[int, int]) -> None:
    layer, x = layer_of(structure, widths)
    plans = [plan for plan in EXACT if plan.supports(layer.problem(x))]
    assert {"rows", "materialised", "strided", "strided-swapped"} <= {plan.name for plan in plans}
    found = {plan.name: execute(plan, layer, x) for plan in plans}
    for name, results in found.items():
        for got, want in zip(results, found["rows"], strict=True):
            torch.testing.assert_close(got, want, msg=lambda text, name=name: f"{name}: {text}")


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize(("structure", "widths"), CASES[::2], ids=str)
def test_plans_of_less_precision_are_that_of_float64_rounded(
    structure: str, widths: tuple[int, int], dtype: torch.dtype
) -> None:
    layer, x = layer_of(structure, widths, dtype)
    exact = copy.deepcopy(layer).double()
    wanted = execute(choice.plan_named("rows"), exact, x.detach().double().requires_grad_())
    for plan in [*choice.PLANS, Strided(chunk=40 * 64, wide=dtype != torch.float32)]:
        if plan.supports(layer.problem(x)):
            for got, want in zip(execute(plan, layer, x), wanted, strict=True):
                error = (got.double() - want).norm() / want.norm()
                assert error < 16 * torch.finfo(dtype).eps, plan.name


@pytest.mark.parametrize("structure", ["monarch3", "tensor_train3:rank=4", "kronecker4"])
def test_parts_of_a_chain_equal_the_whole(structure: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chained, "PART", 16 * 64)
    parts, whole, dense = (choice.plan_named(name) for name in ("chained-parts", "chained", "materialised"))
    torch.manual_seed(0)
    layer = EinsumLinear(60, 64, structure, bias=True, dtype=torch.float64)
    x = torch.randn(TOKENS, 60, dtype=torch.float64, requires_grad=True)
    wanted = execute(whole, layer, x)
    for plan in (parts, dense):
        torch.testing.assert_close(execute(plan, layer, x), wanted)
    rough = execute(parts, copy.deepcopy(layer).bfloat16(), x.detach().bfloat16().requires_grad_())
    for got, want in zip(rough, wanted, strict=True):
        assert (got.double() - want).norm() < 16 * torch.finfo(torch.bfloat16).eps * want.norm()


@pytest.mark.skipif(library() is None, reason="no C++ compiler here")
@pytest.mark.parametrize("tokens", [0, 1, 7, 31, 32, 33, 100])
@pytest.mark.parametrize("widths", [(16, 16), (13, 17), (96, 24)], ids=str)
def test_the_native_kernel_takes_any_number_of_tokens(tokens: int, widths: tuple[int, int]) -> None:
    for structure in ("g2", "btt16", "tt4", "l1"):
        layer, _ = layer_of(structure, widths, torch.float32)
        x = torch.randn(tokens, widths[0], requires_grad=True)
        for got, want in zip(
            execute(choice.plan_named("native"), layer, x), execute(choice.plan_named("rows"), layer, x), strict=True
        ):
            torch.testing.assert_close(got, want, rtol=1e-4, atol=1e-5)


@pytest.mark.skipif(library() is None, reason="no C++ compiler here")
@pytest.mark.parametrize(
    ("structure", "widths"),
    [("btt10", (1024, 512)), ("btt11", (2048, 512)), ("btt16", (500, 1000)), ("g2", (2048, 512))],
    ids=str,
)
def test_the_native_kernel_sums_up_parts_of_what_lies_between_the_products(structure: str, widths: tuple[int, int]) -> None:
    layer, x = layer_of(structure, widths, torch.float32)
    exact = copy.deepcopy(layer).double()
    wanted = execute(choice.plan_named("rows"), exact, x.detach().double().requires_grad_())
    for got, want in zip(execute(choice.plan_named("native"), layer, x), wanted, strict=True):
        assert (got.double() - want).norm() < 16 * torch.finfo(torch.float32).eps * want.norm()


@pytest.mark.skipif(library() is None, reason="no C++ compiler here")
def test_the_native_kernel_passes_on_what_is_not_finite_and_repeats_its_bits() -> None:
    layer, x = layer_of("btt11", (64, 64), torch.bfloat16)
    plan = choice.plan_named("native")
    first, second = execute(plan, layer, x), execute(plan, layer, x)
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))
    with torch.no_grad():
        x[3] = float("inf")
        x[5] = float("nan")
        y = plan(x, [layer.a, layer.b], None, layer.problem(x))
    assert not torch.isfinite(y[3]).any()
    assert torch.isnan(y[5]).all()
    assert torch.isfinite(y[[0, 1, 2, 4, 6]]).all()


@pytest.mark.skipif(library() is None, reason="no C++ compiler here")
def test_threads_share_the_native_kernel_without_changing_its_results() -> None:
    layer, x = layer_of("g2", (64, 64), torch.float32)
    plan = choice.plan_named("native")
    alone = execute(plan, layer, x)
    torch.set_num_threads(2)
    try:
        shared = execute(plan, layer, x)
    finally:
        torch.set_num_threads(1)
    for got, want in zip(shared, alone, strict=True):
        torch.testing.assert_close(got, want)


@pytest.mark.parametrize("plan", ["strided", "strided-chunk1024k", "native", "materialised-native", "chained-parts"])
def test_gradients_can_be_differentiated_again(plan: str) -> None:
    chosen = choice.plan_named(plan)
    dtype = torch.float32 if "native" in plan else torch.float64
    layer, x = layer_of("btt16", (12, 8), dtype)
    if chosen.name == "chained-parts":
        layer = EinsumLinear(12, 8, "monarch3", bias=True, dtype=dtype)
    if not chosen.supports(layer.problem(x)):
        pytest.skip("no C++ compiler here")

    def twice(plan: Plan) -> tuple[Tensor, ...]:
        factors = [layer.get_parameter(product.factor) for product in layer.products]
        y = plan(x, factors, layer.bias, layer.problem(x)).pow(3).sum()
        (dx,) = torch.autograd.grad(y, x, create_graph=True)
        return torch.autograd.grad(dx.square().sum(), [x, *factors])

    for got, want in zip(twice(chosen), twice(choice.plan_named("materialised")), strict=True):
        torch.testing.assert_close(got, want, rtol=1e-3 if dtype == torch.float32 else 1e-7, atol=1e-4)


@pytest.mark.parametrize("plan", CHUNKED, ids=["chunked", "chunked swapped"])
def test_gradients_of_chunks_equal_differences(plan: Plan) -> None:
    layer, x = layer_of("g2", (12, 8))
    factors = [layer.a, layer.b]

    def run(x: Tensor, first: Tensor, second: Tensor, bias: Tensor) -> Tensor:
        return plan(x, [first, second], bias, layer.problem(x))

    small = replace(plan, chunk=160)  # type: ignore[type-var]
    assert small.supports(layer.problem(x))
    assert torch.autograd.gradcheck(run, (x[:9].detach().requires_grad_(), *factors, layer.bias))


def test_a_rows_stride_is_respected_and_other_strides_are_copied() -> None:
    for plan in choice.PLANS:
        layer, _ = layer_of("btt11", (64, 64), torch.float32)
        wide = torch.randn(TOKENS, 100)
        for view in (wide[:, 3:67], torch.randn(64, TOKENS).t(), wide[::2, :64]):
            with choice.pinned(plan.name):
                torch.testing.assert_close(layer(view), layer(view.contiguous()))


@pytest.mark.parametrize("structure", ["btt:1/4", "btt10", "btt13", "low_rank:1/2", "g2", "tt4", "monarch3", "dense"])
def test_a_plan_keeps_no_more_than_it_says(structure: str) -> None:
    """Counted in bytes of tensors that are saved for the backward pass, the input and what belongs to weights apart."""
    given = Structure.from_theta(PAPER[structure]) if structure in PAPER else Structure.parse(structure)
    layer, x = EinsumLinear(64, 64, given), torch.randn(8192, 64, requires_grad=True)
    problem = layer.problem(x)
    factors = [layer.get_parameter(product.factor) for product in layer.products]
    for plan in (plan for plan in choice.PLANS if plan.supports(problem)):
        kept: dict[int, int] = {}

        def keep(tensor: Tensor, kept: dict[int, int] = kept) -> Tensor:
            storage = tensor.untyped_storage()
            kept[storage.data_ptr()] = storage.nbytes() // tensor.itemsize
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            y = plan(x, factors, None, problem)
        kept.pop(x.untyped_storage().data_ptr(), None)
        kept.pop(y.untyped_storage().data_ptr(), None)
        weights = 4 * (layer.d_in * layer.d_out + sum(factor.numel() for factor in factors))
        assert sum(kept.values()) <= len(x) * plan.kept(problem) + weights, plan.name


def test_plans_that_keep_too_much_are_no_candidates_where_gradients_are_wanted() -> None:
    layer = EinsumLinear(2048, 2048, Structure.from_theta(PAPER["btt13"]), device="meta")
    problem = replace(layer.problem(torch.randn(16, 2048, device="meta")), device=torch.device("cpu"), grad=True)
    assert choice.plan_named("strided").kept(problem) > 3 * (2048 + 2048)
    found = [plan.name for plan in choice.candidates(problem)]
    assert "strided" not in found
    assert "strided-chunk1024k" in found
    assert "strided" in [plan.name for plan in choice.candidates(replace(problem, grad=False))]


def test_the_estimate_prefers_products_where_they_pay() -> None:
    def of(structure: str, d: int, tokens: int) -> str:
        layer = EinsumLinear(d, d, structure, device="meta")
        problem = replace(layer.problem(torch.empty(tokens, d, device="meta")), device=torch.device("cpu"))
        return choice.estimate(problem).name

    assert "materialised" not in of("monarch", 1024, 4096)
    assert "materialised" not in of("monarch", 1024, 1)
    assert "materialised" in of("(1/3|0|2/3|0|1/3|2/3|1/4)", 256, 4096)
    assert of("dense", 64, 4096) == "materialised"


def test_a_pin_holds_where_the_plan_supports_the_layer(monkeypatch: pytest.MonkeyPatch) -> None:
    layer, x = layer_of("btt1", (64, 64))
    dense = EinsumLinear(64, 64, "dense", dtype=torch.float64)
    with choice.pinned("rows"):
        assert choice.choose(layer.problem(x)).name == "rows"
        assert choice.choose(dense.problem(x)).name == "materialised"
    monkeypatch.setenv("EINSEARCH_PLAN", "materialised")
    assert choice.choose(layer.problem(x)).name == "materialised"
    with choice.pinned("strided"):
        assert choice.choose(layer.problem(x)).name == "strided"


def test_an_unknown_plan_is_refused_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match="plan is 'fast'; it must be one of rows, "), choice.pinned("fast"):
        pass
    monkeypatch.setenv("EINSEARCH_PLAN", "slow")
    layer, x = layer_of("btt1", (64, 64))
    with pytest.raises(ConfigError, match="EINSEARCH_PLAN is 'slow'"):
        layer(x)


def test_names_are_unique() -> None:
    names = [plan.name for plan in choice.PLANS]
    assert len(set(names)) == len(names)


def test_a_trial_never_times_plans(python_corpus: Corpus, monkeypatch: pytest.MonkeyPatch) -> None:
    """A resumed run must choose as the first one did."""
    monkeypatch.delenv("EINSEARCH_AUTOTUNE")
    monkeypatch.setattr(autotune, "fastest", lambda *_: pytest.fail("a plan was timed"))
    shape = {"width": 32, "depth": 1, "context": 32, "batch_size": 8, "warmup_steps": 1, "evaluations": 1, "eval_windows": 8}
    config = TrialConfig(structure="monarch", budget_flops=1e9, **shape)
    run = TrainingRun(config, python_corpus, "cpu")
    run.advance(max_steps=2)
    assert run.step == 2
