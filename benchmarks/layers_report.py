"""Rows of the layer benchmark, and what they come to: the report beside the CSV file."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, fields
from itertools import groupby
from typing import Any

SIZES = (256, 512, 1024, 2048, 4096)
STRUCTURES = 23


@dataclass(frozen=True, slots=True)
class Row:
    """One structure at one size. Seconds are the least of a forward and backward pass; 0 for what was not run.

    `to_dense` is how many times faster than the dense layer: the median over turns.
    """

    device: str
    threads: int
    dtype: str
    d_in: int
    d_out: int
    tokens: int
    structure: str
    nu: float
    macs: int
    between: int
    plan: str
    seconds: float
    dense_seconds: float
    to_dense: float
    turns: int
    bmm_seconds: float
    einsum_seconds: float
    peak_bytes: int
    dense_bytes: int
    tuning_seconds: float

    @classmethod
    def of(cls, record: dict[str, str]) -> Row:
        """A row as the CSV file has it."""
        kinds: dict[str, Callable[[str], Any]] = {"int": int, "float": float, "str": str}
        return cls(**{field.name: kinds[str(field.type)](record[field.name]) for field in fields(cls)})

    @property
    def key(self) -> tuple[str, ...]:
        """What is measured: a later run of the same replaces it."""
        return tuple(map(str, (self.device, self.threads, self.dtype, self.d_in, self.d_out, self.tokens, self.structure)))

    @property
    def order(self) -> tuple[Any, ...]:
        """How rows are sorted."""
        return self.device, self.threads, self.dtype, min(self.d_in, self.d_out), self.d_in, self.d_out, self.nu, self.structure

    @property
    def to_bmm(self) -> float:
        """How many times faster than two batched products; 0 if that was not run."""
        return self.bmm_seconds / self.seconds

    @property
    def to_einsum(self) -> float:
        """How many times faster than two einsums; 0 if that was not run."""
        return self.einsum_seconds / self.seconds

    @property
    def promised(self) -> float:
        """The ratio of FLOPs."""
        return self.d_in * self.d_out / self.macs

    @property
    def allowed_bytes(self) -> int:
        """Memory of the dense layer, and what lies between the products."""
        width = 4 if self.dtype == "float32" else 2
        return self.dense_bytes + self.between * self.tokens * width

    def __str__(self) -> str:
        rate = 6 * self.macs * self.tokens / self.seconds / 1e9
        peak = 6 * self.d_in * self.d_out * self.tokens / self.dense_seconds / 1e9
        text = [f"{ratio:.2f}" if ratio else "–" for ratio in (self.to_bmm, self.to_einsum)]
        memory = f"{self.peak_bytes / 2**20:.0f} / " + (f"{self.dense_bytes / 2**20:.0f}" if self.dense_bytes else "–")
        cells = [self.structure, f"{self.nu:.2f}", f"{self.seconds * 1e3:.1f}", f"{self.to_dense:.2f}", f"{self.promised:.1f}"]
        return "| " + " | ".join([*cells, *text, f"{rate:.0f} ({rate / peak:.0%})", memory, self.plan]) + " |"


@dataclass(frozen=True, slots=True)
class Tuning:
    """Seconds that the first step of a GPT-2 spends on timing plans."""

    device: str
    threads: int
    dtype: str
    seconds: float

    def __str__(self) -> str:
        where = f"{self.device}, {self.threads} threads, {self.dtype}"
        return f"- {_verdict(self.seconds < 2)}: autotuning of a whole GPT-2 under 2 s; {self.seconds:.2f} s ({where})\n"


HEAD = (
    "| structure | ν | ms | × dense | FLOPs promise | × two bmm | × two einsum"
    " | GFLOP/s (of dense's) | peak MiB, ours / dense | plan |"
    "\n|---|---|---|---|---|---|---|---|---|---|"
)


INTRODUCTION = """# Speed of structured layers

Forward + backward. `python -m benchmarks.layers` measures this and writes it, in parts that are merged. Versions run in
turns, and freed memory is kept by the process. Times are the least of all turns; "× dense" is the median over turns of the
ratio within one. Dense is `torch.nn.Linear`, or our dense layer where that is faster (16 bits on a CPU without 16-bit
products). Textbook versions that would take long run on an eighth of the tokens, and count eight times. Memory is the peak of
tensors in a pass, beyond what was held before.
"""


def report(rows: list[Row], tuning: Tuning) -> str:
    """All rows by machine, precision and size, after what they come to."""
    parts = [INTRODUCTION, str(tuning)]
    ordered = sorted(rows, key=lambda row: row.order)
    for (device, threads, dtype), group in groupby(ordered, lambda row: (row.device, row.threads, row.dtype)):
        mine = list(group)
        parts += [f"## {device}, {threads} threads, {dtype}\n", summary(mine), missing(mine)]
        for (d_in, d_out, tokens), cells in groupby(mine, lambda row: (row.d_in, row.d_out, row.tokens)):
            these = list(cells)
            dense = min(row.dense_seconds for row in these)
            parts += [f"### {d_in} → {d_out}, {tokens} tokens; dense {dense * 1e3:.1f} ms\n", HEAD, *map(str, these), ""]
    return "\n".join(parts)


def mean(ratios: Iterable[float]) -> float:
    """Geometric mean of what was run; 0 for nothing."""
    logs = [math.log(ratio) for ratio in ratios if ratio]
    return math.exp(sum(logs) / len(logs)) if logs else 0.0


def summary(rows: list[Row]) -> str:
    """Geometric means, and the bars."""
    cuda, half = "cuda" in rows[0].device.lower() or "nvidia" in rows[0].device.lower(), rows[0].dtype != "float32"
    wide = [row for row in rows if min(row.d_in, row.d_out) == 4096 and row.nu <= 2 / 3 + 1e-9]
    slow = [row for row in rows if row.nu < 1 and row.to_dense < 0.95]
    least = min(rows, key=lambda row: row.to_dense)
    to_bmm, needed = mean(row.to_bmm for row in rows), 3.0 if half else 1.5
    share = [row.to_dense / (row.promised / 2 if cuda else 2.5) for row in wide]
    over = [row for row in rows if row.dense_bytes and row.peak_bytes > row.allowed_bytes]
    tuned = max(row.tuning_seconds for row in rows)
    versions = {"two bmm": to_bmm, "two einsum": mean(r.to_einsum for r in rows), "dense": mean(r.to_dense for r in rows)}
    means = ", ".join(f"{ratio:.2f}× {name}" for name, ratio in versions.items() if ratio)
    target = "half of what the FLOPs promise" if cuda else "2.5"
    worst = f"least {least.to_dense:.2f} ({least.structure}, {least.d_in} → {least.d_out})"
    at_4096 = f"least {min(row.to_dense for row in wide):.2f} of {len(wide)} cells" if wide else "not run"
    lines = [
        f"Geometric means over {len(rows)} cells: {means}.\n",
        f"- {_verdict(not slow)}: at least 0.95 × dense; {worst}, {len(slow)} cells below",
        f"- {_verdict(to_bmm >= needed) if to_bmm else 'open'}: geometric mean at least {needed:g} × two bmm; {to_bmm:.2f}",
        f"- {_verdict(min(share) >= 1) if wide else 'open'}: d = 4096, ν ≤ 2/3 at least {target} × dense; {at_4096}",
        f"- {_verdict(not over)}: memory at most dense's and what lies between the products; {len(over)} cells above",
        f"- {_verdict(tuned < 2)}: autotuning of one layer under 2 s; most {tuned:.2f} s",
    ]
    return "\n".join(lines) + "\n"


def _verdict(passed: bool) -> str:
    return "pass" if passed else "FAIL"


def missing(rows: list[Row]) -> str:
    """Which cells of the whole benchmark are not here."""
    run = {(row.d_in, row.d_out): 0 for row in rows}
    for row in rows:
        run[row.d_in, row.d_out] += 1
    sizes = [(by_in * d, by_out * d) for d in SIZES for by_in, by_out in ((1, 1), (1, 4), (4, 1))]
    absent = [f"{d_in} → {d_out}" for d_in, d_out in sizes if (d_in, d_out) not in run]
    partly = [f"{d_in} → {d_out} ({n} of {STRUCTURES})" for (d_in, d_out), n in run.items() if n < STRUCTURES]
    return f"Not run: {', '.join(absent) or 'nothing'}. In part: {', '.join(partly) or 'nothing'}.\n"
