"""Forward + backward of every reference structure against dense and textbook layers: `python -m benchmarks.layers`.

The versions of a cell (one structure at one size) run in turns (`benchmarks.turns`). Textbook versions that would take long
run on an eighth of the tokens, and count eight times. Rows go to a CSV file, which keeps those of earlier runs, and the
report beside it is written anew from all of them: a long benchmark can be run in parts. What does not fit the time or memory
is left out, and the report says so.
"""

from __future__ import annotations

import argparse
import csv
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass, fields
from itertools import accumulate
from pathlib import Path
from typing import Any

import torch
from torch import nn

from benchmarks.layers_report import Row, Tuning, report
from benchmarks.textbook import TwoBmm, TwoEinsum
from benchmarks.turns import keep_freed_memory, timed, to_dense, until_sure
from space.catalogue import PAPER
from space.structure import Structure
from trainers.layers import EinsumLinear
from trainers.plans import autotune, choice

SIZES = (256, 512, 1024, 2048, 4096)
SHAPES = {"square": (1, 1), "up": (1, 4), "down": (4, 1)}
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}
TEXTBOOK = {"bmm": TwoBmm, "einsum": TwoEinsum}
GPT2 = ((768, 2304), (768, 768), (768, 3072), (3072, 768))
"""Widths of the linear layers of each of its twelve blocks."""

PART = 8
"""Parts of the tokens that a textbook version is tried on, and timed on where all of them would take too long."""

FEW, MUCH = 16, 5
"""Tokens that the two dense layers of 16 bits are tried on first, and how many times as long as ours torch's must take on them
to be out: where it emulates products, all tokens would take it minutes."""

LARGEST = 5e8
"""Bytes between the two products of a part beyond which a textbook version is left out: it holds several such tensors."""


@dataclass(frozen=True)
class Settings:
    device: torch.device
    dtype: torch.dtype
    tokens: int
    seconds: float
    repetitions: int
    versions: tuple[str, ...]

    @property
    def options(self) -> dict[str, Any]:
        return {"device": self.device, "dtype": self.dtype}


def step(module: nn.Module, x: torch.Tensor, dy: torch.Tensor) -> Callable[[], None]:
    """One forward and backward pass, gradients of the input and of all weights."""
    inputs = [x, *module.parameters()]

    def run() -> None:
        torch.autograd.grad(module(x), inputs, dy)
        if x.device.type == "cuda":
            torch.cuda.synchronize()

    return run


def textbook(
    layer: EinsumLinear, x: torch.Tensor, dy: torch.Tensor, settings: Settings
) -> tuple[dict[str, Callable[[], None]], dict[str, float]]:
    """Textbook versions that can run in turns, and the seconds of those that would take too long: of a part, scaled up."""
    runs: dict[str, Callable[[], None]] = {}
    seconds: dict[str, float] = {}
    r, e = layer.realization, layer.problem(x).edges
    padded = (r.padded_in, r.padded_out) != (r.d_in, r.d_out)
    if padded or e is None or e.between * len(x) // PART * settings.dtype.itemsize > LARGEST:
        return {}, {}
    few = x.detach()[: len(x) // PART].requires_grad_(), dy[: len(x) // PART]
    for name in settings.versions:
        module = TEXTBOOK[name](r, settings.dtype, settings.device)
        part = step(module, *few)
        first = timed(part)
        seconds[name] = PART * (min(first, timed(part)) if first < settings.seconds else first)
        if seconds[name] < settings.seconds / settings.repetitions / 2:
            runs[name] = step(module, x, dy)
    return runs, seconds


def peak_bytes(run: Callable[[], None], device: torch.device) -> int:
    """Most memory of tensors that a pass takes beyond what was held before it."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        run()
        return torch.cuda.max_memory_allocated() - before
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as profile:
        run()
    events = [event for event in profile.profiler.kineto_results.events() if event.name() == "[memory]"]
    changes = [event.nbytes() for event in sorted(events, key=lambda event: event.start_ns())]
    return max(accumulate(changes), default=0)


def cells(structures: list[str], sizes: list[int], shapes: list[str]) -> Iterator[tuple[int, int, list[str]]]:
    for size in sizes:
        for shape in shapes:
            by_in, by_out = SHAPES[shape]
            yield by_in * size, by_out * size, structures


def fastest_dense(d_in: int, d_out: int, x: torch.Tensor, dy: torch.Tensor, settings: Settings) -> Callable[[], None]:
    """A dense layer: torch's own, or with 16 bits on a CPU ours if that is faster, as it is where torch emulates products."""
    torchs = nn.Linear(d_in, d_out, bias=False, **settings.options)
    if settings.device.type == "cuda" or settings.dtype == torch.float32:
        return step(torchs, x, dy)
    ours = EinsumLinear(d_in, d_out, "dense", **settings.options)
    few = x.detach()[:FEW].requires_grad_(), dy[:FEW]
    if timed(step(torchs, *few)) > MUCH * timed(step(ours, *few)):
        return step(ours, x, dy)
    return min(step(torchs, x, dy), step(ours, x, dy), key=timed)


def measure(d_in: int, d_out: int, structures: list[str], settings: Settings) -> Iterator[Row]:
    """The cells of one size; dense is timed again in each."""
    x = torch.randn(settings.tokens, d_in, requires_grad=True, **settings.options)
    dy = torch.randn(settings.tokens, d_out, **settings.options)
    dense = fastest_dense(d_in, d_out, x, dy, settings)
    dense_bytes = peak_bytes(dense, settings.device)
    dense()
    for name in structures:
        structure = Structure.from_theta(PAPER[name])
        layer = EinsumLinear(d_in, d_out, structure, **settings.options)
        autotune.forget(disk=False)  # each layer is a model of its own, with the whole budget
        ours = step(layer, x, dy)
        plan = choice.choose(layer.problem(x)).name
        tuning = autotune.seconds_spent()
        books, estimates = textbook(layer, x, dy, settings)
        times = until_sure({"dense": dense, "ours": ours, **books}, settings.seconds, settings.repetitions)
        least = estimates | {version: min(seconds) for version, seconds in times.items()}
        e = layer.problem(x).edges
        yield Row(
            device=autotune.device_name(settings.device),
            threads=torch.get_num_threads(),
            dtype=str(settings.dtype).removeprefix("torch."),
            d_in=d_in,
            d_out=d_out,
            tokens=settings.tokens,
            structure=name,
            nu=float(structure.nu),
            macs=layer.realization.macs,
            between=e.between if e else 0,
            plan=plan,
            seconds=least["ours"],
            dense_seconds=least["dense"],
            to_dense=to_dense(times),
            turns=len(times["ours"]),
            bmm_seconds=least.get("bmm", 0.0),
            einsum_seconds=least.get("einsum", 0.0),
            peak_bytes=peak_bytes(ours, settings.device),
            dense_bytes=dense_bytes,
            tuning_seconds=tuning,
        )


def tuning(settings: Settings) -> Tuning:
    """What the first step of a GPT-2 with structured layers spends on timing plans, when nothing is known."""
    autotune.forget(disk=False)
    for d_in, d_out in GPT2:
        x = torch.randn(settings.tokens, d_in, requires_grad=True, **settings.options)
        step(
            EinsumLinear(d_in, d_out, "btt:1/4", **settings.options), x, torch.randn(settings.tokens, d_out, **settings.options)
        )()
    device = autotune.device_name(settings.device)
    return Tuning(device, torch.get_num_threads(), str(settings.dtype).removeprefix("torch."), autotune.seconds_spent())


def load(path: Path) -> dict[tuple[str, ...], Row]:
    """Rows of earlier runs by their key."""
    rows = []
    with suppress(FileNotFoundError), path.open(newline="") as stream:
        rows = [Row.of(record) for record in csv.DictReader(stream)]
    return {row.key: row for row in rows}


def save(path: Path, rows: dict[tuple[str, ...], Row]) -> None:
    """Whole or not at all: a run that is stopped loses no earlier one's rows."""
    path.parent.mkdir(parents=True, exist_ok=True)
    new = path.with_suffix(".csv.new")
    with new.open("w", newline="") as stream:
        writer = csv.DictWriter(stream, [field.name for field in fields(Row)])
        writer.writeheader()
        writer.writerows(asdict(row) for row in sorted(rows.values(), key=lambda row: row.order))
    new.replace(path)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.layers", description=__doc__.partition("\n")[0])
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    parser.add_argument("--dtype", default="fp32", choices=list(DTYPES))
    parser.add_argument("--sizes", type=int, nargs="+", default=list(SIZES), help="d of d -> d, d -> 4d and 4d -> d")
    parser.add_argument("--shapes", nargs="+", default=list(SHAPES), choices=list(SHAPES))
    parser.add_argument("--structures", nargs="+", default=list(PAPER), choices=list(PAPER))
    parser.add_argument("--tokens", type=int, default=4096)
    parser.add_argument("--seconds", type=float, default=2.0, help="time per cell")
    parser.add_argument(
        "--repetitions", type=int, default=10, help="most turns per cell; textbook versions that do not fit run on fewer tokens"
    )
    parser.add_argument("--versions", nargs="*", default=list(TEXTBOOK), choices=list(TEXTBOOK), help="textbook ones to run")
    parser.add_argument("--report", action="store_true", help="run nothing but the tuning: write the report of what is kept")
    parser.add_argument("--quick", action="store_true", help="one size, one turn: whether it runs at all")
    parser.add_argument("--output", type=Path, help="report (Markdown); rows go to the .csv beside it")
    return parser.parse_args()


def main() -> None:
    given = arguments()
    keep_freed_memory()
    if given.quick:
        given.sizes, given.shapes, given.tokens, given.repetitions = [256], ["square"], 512, 1
    how = (given.seconds, given.repetitions, tuple(given.versions))
    settings = Settings(torch.device(given.device), DTYPES[given.dtype], given.tokens, *how)
    table = given.output.with_suffix(".csv") if given.output else None
    rows = load(table) if table else {}
    for d_in, d_out, structures in cells(given.structures, [] if given.report else given.sizes, given.shapes):
        for row in measure(d_in, d_out, structures, settings):
            print(row, flush=True)
            rows[row.key] = row
            if table:
                save(table, rows)
    text = report(list(rows.values()), tuning(settings))
    if given.output:
        given.output.write_text(text)
    print(text)


if __name__ == "__main__":
    main()
