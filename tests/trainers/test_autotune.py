"""The autotuner: what it measures, what it remembers, and what it leaves alone."""

from __future__ import annotations

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from trainers.layers import EinsumLinear
from trainers.plans import autotune, choice
from trainers.plans.problem import Plan, Problem


@pytest.fixture(autouse=True)
def tuner(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A tuner that is on, knows nothing, and writes to a folder of the test."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.delenv("EINSEARCH_AUTOTUNE")
    autotune.forget()
    yield
    autotune.forget()


class Known:
    """A plan of a known cost and time, and the number of times that it was timed."""

    def __init__(self, name: str, seconds: float, cost: float = 1e9) -> None:
        self.name, self.seconds, self._cost, self.calls = name, seconds, cost, 0

    def supports(self, _: Problem) -> bool:
        return True

    def cost(self, problem: Problem) -> float:
        return self._cost * problem.tokens

    def __call__(self, *_: object) -> Tensor:
        raise AssertionError("its time is known")


@pytest.fixture
def known_times(monkeypatch: pytest.MonkeyPatch) -> None:
    """Clocks that show what each plan says, so that other processes cannot disturb."""

    def timed(plan: Known, *_: object) -> float:
        plan.calls += 1
        return plan.seconds

    monkeypatch.setattr(autotune, "_time", timed)
    monkeypatch.setattr(autotune, "AT_ONCE", 60.0)
    monkeypatch.setattr(autotune, "BUDGET", 60.0)


def problem(tokens: int = 1024, d: int = 256, grad: bool = True) -> Problem:
    x = torch.empty(tokens, d, requires_grad=grad)
    return EinsumLinear(d, d, "dense").requires_grad_(grad).problem(x)


@pytest.mark.usefixtures("known_times")
def test_the_fastest_plan_is_found_and_remembered_on_disk() -> None:
    plans: list[Plan] = [Known("slow", 0.02), Known("fast", 0.001), Known("slower", 0.03)]
    assert autotune.fastest(problem(), lambda _: plans) == "fast"
    (name,) = json.loads(autotune.cache_file().read_text())["plans"].values()
    assert name == "fast"
    autotune.forget()
    again = [Known("slow", 0.0), Known("fast", 0.1)]
    assert autotune.fastest(problem(), lambda _: again) == "fast"
    assert again[0].calls == again[1].calls == 0


@pytest.mark.usefixtures("known_times")
def test_a_plan_that_is_not_clearly_faster_does_not_replace_the_estimated_one() -> None:
    close, clear = ([Known("estimated", 0.0100), Known("other", seconds)] for seconds in (0.0099, 0.0090))
    assert autotune.fastest(problem(512), lambda _: close) == "estimated"
    assert autotune.fastest(problem(1024), lambda _: clear) == "other"


@pytest.mark.usefixtures("known_times")
def test_a_plan_that_is_not_clearly_faster_does_not_replace_the_dense_product() -> None:
    close, clear = (
        [Known("native", seconds), Known("materialised-native", 0.0100, cost=1.4e9)] for seconds in (0.0097, 0.0090)
    )
    assert autotune.fastest(problem(512), lambda _: close) == "materialised-native"
    assert autotune.fastest(problem(1024), lambda _: clear) == "native"


@pytest.mark.parametrize(("cost", "taken"), [(1.4e9, "materialised"), (1.6e9, "native")])
@pytest.mark.parametrize("calls", [1, 2, 3])
def test_a_race_whose_first_calls_take_too_long_is_called_off(
    monkeypatch: pytest.MonkeyPatch, cost: float, taken: str, calls: int
) -> None:
    clock = [0.0]
    monkeypatch.setattr(autotune.time, "perf_counter", lambda: clock[0])
    native, dense = Known("native", 0.001), Known("materialised", 0.001, cost=cost)
    called: list[str] = []

    def slow(plan: Known, *_: object) -> float:
        called.append(plan.name)
        clock[0] += 1.01 * (0.35 + autotune.OVERDUE) / calls
        return plan.seconds

    monkeypatch.setattr(autotune, "_time", slow)
    assert autotune.time_plans(problem(), [native, dense], 0.35) == taken
    assert called == ["native", "materialised", "native"][:calls]  # the third is in the first heat


def test_what_an_earlier_heat_found_stands_where_a_later_one_is_called_off(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [0.0]
    monkeypatch.setattr(autotune.time, "perf_counter", lambda: clock[0])
    tokens: list[int] = []

    def timed(plan: Known, trial: Problem, *_: object) -> float:
        tokens.append(trial.tokens)
        clock[0] += 60.0 if trial.tokens > autotune.FEW else 0.0  # something else takes the machine
        return plan.seconds

    monkeypatch.setattr(autotune, "_time", timed)
    plans = [Known("estimated", 0.0100), Known("measured", 0.0090)]
    assert autotune.time_plans(problem(4096, 1024), plans, 30.0) == "measured"
    assert sum(count > autotune.FEW for count in tokens) == 1


@pytest.mark.usefixtures("known_times")
def test_times_of_few_tokens_count_less_beside_the_estimate(monkeypatch: pytest.MonkeyPatch) -> None:
    plans = [Known("estimated", 0.010), Known("other", 0.0088, cost=1.8e9)]
    assert autotune.fastest(problem(1024, 256), lambda _: plans) == "other"  # all tokens run
    monkeypatch.setattr(autotune, "AT_ONCE", 0.0)  # no time for more than the first heat, of 256 tokens
    assert autotune.fastest(problem(4096, 1024), lambda _: plans) == "estimated"
    assert autotune.fastest(problem(512, 1024), lambda _: plans) == "other"
    clearly = [Known("estimated", 0.010), Known("other", 0.006, cost=1.8e9)]
    assert autotune.fastest(problem(2048, 1024), lambda _: clearly) == "other"


@pytest.mark.usefixtures("known_times")
def test_plans_that_are_estimated_to_be_hopeless_are_not_run() -> None:
    plans = [Known("good", 0.002), Known("hopeless", 0.001, cost=1e9 * (autotune.HOPELESS + 1))]
    assert autotune.fastest(problem(), lambda _: plans) == "good"
    assert plans[1].calls == 0


@pytest.mark.usefixtures("known_times")
def test_a_process_spends_its_budget_and_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(autotune, "SHARE", 0.0)
    monkeypatch.setattr(autotune, "BUDGET", 1e-6)
    plans = [Known("one", 0.05), Known("two", 0.05)]
    assert autotune.fastest(problem(512), lambda _: plans) == "one"
    assert autotune.seconds_spent() > 1e-6
    before = [plan.calls for plan in plans]
    assert autotune.fastest(problem(1024), lambda _: plans) is None
    assert [plan.calls for plan in plans] == before


@pytest.mark.usefixtures("known_times")
@pytest.mark.parametrize("content", ["", "{", "[]", '{"plans": 3}', '{"version": 0, "torch": "1.0", "plans": {}}', "\x00\xff"])
def test_a_corrupt_or_old_file_is_replaced(content: str) -> None:
    autotune.cache_file().parent.mkdir(parents=True)
    autotune.cache_file().write_text(content)
    plans = [Known("one", 0.001), Known("two", 0.01)]
    assert autotune.fastest(problem(), lambda _: plans) == "one"
    assert "one" in json.loads(autotune.cache_file().read_text())["plans"].values()


@pytest.mark.usefixtures("known_times")
def test_a_folder_that_cannot_be_written_is_no_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    plans = [Known("one", 0.001), Known("two", 0.01)]
    assert autotune.fastest(problem(), lambda _: plans) == "one"


@pytest.mark.usefixtures("known_times")
def test_a_name_that_is_no_plan_any_more_is_timed_again() -> None:
    autotune.fastest(problem(), lambda _: [Known("old", 0.001), Known("older", 0.01)])
    autotune.forget()
    assert autotune.fastest(problem(), lambda _: [Known("new", 0.001), Known("newer", 0.01)]) == "new"


@pytest.mark.usefixtures("known_times")
def test_small_calls_single_candidates_and_counters_are_left_to_the_estimate() -> None:
    busy = [Known("one", 0.01), Known("two", 0.01)]
    tiny = [Known("one", 0.01, cost=1.0), Known("two", 0.01, cost=1.0)]
    assert autotune.fastest(problem(), lambda _: tiny) is None
    assert autotune.fastest(problem(512), lambda _: busy[:1]) is None
    from torch.utils.flop_counter import FlopCounterMode

    with FlopCounterMode(display=False):
        assert autotune.fastest(problem(256), lambda _: busy) is None
    assert not any(plan.calls for plan in (*busy, *tiny))


def test_a_layer_is_tuned_at_its_first_call_and_draws_no_random_numbers() -> None:
    layer = EinsumLinear(256, 256, "monarch")
    x = torch.randn(512, 256, requires_grad=True)
    state = torch.get_rng_state()
    y = layer(x)
    assert torch.equal(torch.get_rng_state(), state)
    assert autotune.seconds_spent() > 0
    kept = json.loads(autotune.cache_file().read_text())["plans"]
    assert len(kept) == 1
    assert choice.choose(layer.problem(x)).name in kept.values()
    with choice.pinned("rows"):
        torch.testing.assert_close(y, layer(x))
    spent = autotune.seconds_spent()
    layer(x[:500])  # 500 tokens count as 512
    assert autotune.seconds_spent() == spent


def test_inference_is_tuned_apart_and_in_inference_mode() -> None:
    layer = EinsumLinear(256, 256, "monarch")
    x = torch.randn(512, 256)
    with torch.inference_mode():
        y = layer(x)
    assert ["no grad" in key for key in json.loads(autotune.cache_file().read_text())["plans"]] == [True]
    torch.testing.assert_close(layer(x).detach(), y)


@pytest.mark.parametrize("how", ["estimated", "environment"])
def test_it_can_be_switched_off(how: str, monkeypatch: pytest.MonkeyPatch) -> None:
    layer, x = EinsumLinear(256, 256, "monarch"), torch.randn(512, 256)
    if how == "environment":
        monkeypatch.setenv("EINSEARCH_AUTOTUNE", "0")
        layer(x)
    else:
        with choice.estimated():
            layer(x)
    assert autotune.seconds_spent() == 0
    assert not autotune.cache_file().exists()


def test_a_compiled_layer_times_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(autotune, "fastest", lambda *_: pytest.fail("timed inside a graph"))
    layer = EinsumLinear(256, 256, "monarch", bias=True)
    compiled: Any = torch.compile(layer, backend="eager", fullgraph=True)
    x = torch.randn(512, 256)
    with choice.pinned("rows"):
        expected = layer(x)
    torch.testing.assert_close(compiled(x), expected)


def test_writers_at_once_leave_a_whole_file() -> None:
    """They share nothing but the file, which can be read at any time: a choice may be lost to another, no more."""
    autotune._store("first", "rows")

    def write(number: int) -> bool:
        autotune._store(f"key {number}", "rows")
        return bool(json.loads(autotune.cache_file().read_text())["plans"])

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(write, range(80)))
    assert autotune._load().keys() & {f"key {number}" for number in range(80)}
    assert not list(autotune.cache_file().parent.glob("plans.json?*"))
