"""Forward + backward of every reference structure against dense and textbook layers: `python -m benchmarks.layers`.

The versions of a cell (one structure at one size) run in turns, A B C D A B C D, so that what else the machine does falls on
all of them, and the least time of each counts. Rows go to a CSV file, which keeps those of earlier runs, and the report beside
it is written anew from all of them: a long benchmark can be run in parts. What does not fit the time or memory is left out,
and the report says so.
"""

from __future__ import annotations

import argparse
import csv
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass, fields
from itertools import accumulate
from pathlib import Path

import torch
from torch import nn

from benchmarks.layers_report import Row, report
from benchmarks.textbook import TwoBmm, TwoEinsum
from space.catalogue import PAPER
from space.structure import Structure
from trainers.layers import EinsumLinear
from trainers.plans import autotune, choice

SIZES = (256, 512, 1024, 2048, 4096)
SHAPES = {"square": (1, 1), "up": (1, 4), "down": (4, 1)}
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}
LARGEST = 2e9
"""Bytes between the two products beyond which a textbook version is left out: it holds several such tensors."""


@dataclass(frozen=True)
class Settings:
    device: torch.device
    dtype: torch.dtype
    tokens: int
    seconds: float
    repetitions: int


def step(module: nn.Module, x: torch.Tensor, dy: torch.Tensor) -> Callable[[], None]:
    """One forward and backward pass, gradients of the input and of all weights."""
    inputs = [x, *module.parameters()]

    def run() -> None:
        torch.autograd.grad(module(x), inputs, dy)
        if x.device.type == "cuda":
            torch.cuda.synchronize()

    return run


def timed(run: Callable[[], None]) -> float:
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def in_turns(runs: dict[str, Callable[[], None]], settings: Settings, known: dict[str, float]) -> dict[str, float]:
    """Least seconds of each version; one that is slow runs less often, and one in `known` only where there is time."""
    best: dict[str, float] = dict(known)
    end = time.perf_counter() + settings.seconds
    for turn in range(settings.repetitions):
        for name, run in runs.items():
            expected = best.get(name, 0.0)
            if (turn == 0 and name not in known) or time.perf_counter() + expected < end:
                took = timed(run)
                best[name] = min(took, best.get(name, took))
    return best


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


def measure(d_in: int, d_out: int, structures: list[str], settings: Settings) -> Iterator[Row]:
    """The cells of one size; dense is timed again in each where there is time."""
    options = {"device": settings.device, "dtype": settings.dtype}
    x = torch.randn(settings.tokens, d_in, requires_grad=True, **options)
    dy = torch.randn(settings.tokens, d_out, **options)
    linear = nn.Linear(d_in, d_out, bias=False, **options)
    dense = step(linear, x, dy)
    known = {"dense": min(timed(dense) for _ in range(1 if settings.dtype != torch.float32 else 2))}
    dense_bytes = peak_bytes(dense, settings.device) if known["dense"] < 5 else 0
    for name in structures:
        structure = Structure.from_theta(PAPER[name])
        layer = EinsumLinear(d_in, d_out, structure, **options)
        autotune.forget()  # each layer is a model of its own, with the whole budget
        ours = step(layer, x, dy)
        ours()
        tuning = autotune.seconds_spent()
        runs = {"dense": dense, "ours": ours}
        padded = (layer.realization.padded_in, layer.realization.padded_out) != (d_in, d_out)
        e = layer.problem(x).edges
        between = e.between if e else 0
        if not padded and between * settings.tokens * settings.dtype.itemsize <= LARGEST:
            runs["bmm"] = step(TwoBmm(layer.realization, settings.dtype, settings.device), x, dy)
            runs["einsum"] = step(TwoEinsum(layer.realization, settings.dtype, settings.device), x, dy)
        best = in_turns(runs, settings, known)
        known["dense"] = min(known["dense"], best["dense"]) if known["dense"] > settings.seconds else best["dense"]
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
            between=between,
            plan=choice.choose(layer.problem(x)).name,
            seconds=best["ours"],
            dense_seconds=best["dense"],
            bmm_seconds=best.get("bmm", 0.0),
            einsum_seconds=best.get("einsum", 0.0),
            peak_bytes=peak_bytes(ours, settings.device),
            dense_bytes=dense_bytes,
            tuning_seconds=tuning,
        )


def load(path: Path) -> dict[tuple[str, ...], Row]:
    """Rows of earlier runs by their key."""
    rows = []
    with suppress(FileNotFoundError), path.open(newline="") as stream:
        rows = [Row.of(record) for record in csv.DictReader(stream)]
    return {row.key: row for row in rows}


def save(path: Path, rows: dict[tuple[str, ...], Row]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as stream:
        writer = csv.DictWriter(stream, [field.name for field in fields(Row)])
        writer.writeheader()
        writer.writerows(asdict(row) for row in sorted(rows.values(), key=lambda row: row.order))


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.layers", description=__doc__.partition("\n")[0])
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    parser.add_argument("--dtype", default="fp32", choices=list(DTYPES))
    parser.add_argument("--sizes", type=int, nargs="+", default=list(SIZES), help="d of d -> d, d -> 4d and 4d -> d")
    parser.add_argument("--shapes", nargs="+", default=list(SHAPES), choices=list(SHAPES))
    parser.add_argument("--structures", nargs="+", default=list(PAPER), choices=list(PAPER))
    parser.add_argument("--tokens", type=int, default=4096)
    parser.add_argument("--seconds", type=float, default=2.0, help="time per cell after its first turn")
    parser.add_argument("--repetitions", type=int, default=10, help="most turns per cell")
    parser.add_argument("--quick", action="store_true", help="one size, one turn: whether it runs at all")
    parser.add_argument("--output", type=Path, help="report (Markdown); rows go to the .csv beside it")
    return parser.parse_args()


def main() -> None:
    given = arguments()
    if given.quick:
        given.sizes, given.shapes, given.tokens, given.repetitions = [256], ["square"], 512, 1
    settings = Settings(torch.device(given.device), DTYPES[given.dtype], given.tokens, given.seconds, given.repetitions)
    table = given.output.with_suffix(".csv") if given.output else None
    rows = load(table) if table else {}
    for d_in, d_out, structures in cells(given.structures, given.sizes, given.shapes):
        for row in measure(d_in, d_out, structures, settings):
            print(row, flush=True)
            rows[row.key] = row
            if table:
                save(table, rows)
    text = report(list(rows.values()))
    if given.output:
        given.output.write_text(text)
    print(text)


if __name__ == "__main__":
    main()
