"""A file of another lab, checked: its manifest, its columns, and every row of it."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from types import TracebackType
from typing import Any

from space.edges import EDGES
from space.errors import StructureError, UserError
from space.structure import Structure
from storage.exchange import ADDED, FORMAT, MANIFEST, RECORDED, TRIALS, schema
from storage.proposals import exponents
from storage.schema import FLOP_CONVENTIONS, LAYER_KINDS, TRIAL_KINDS, TRIAL_STATES

_SPENT = ("flops", "seconds", "start_flops", "start_seconds", "tokens", "steps", "step", "budget")
_AMOUNTS = ("loss", "train_loss", "bound", "frontier", *_SPENT, *LAYER_KINDS)
_NEEDED = {
    "trial": ("number", "kind", "state", "flops", "tokens", "steps", "seconds", "seed", "created"),
    "attempt": ("attempt", "state", "flops", "seconds", "started", "host", "versions"),
    "evaluation": ("attempt", "step", "tokens", "flops", "loss", "seconds", "warmup"),
    "coordinate check": ("step", *LAYER_KINDS),
    "decision": ("step", "flops", "loss", "budget", "bound", "frontier", "stopped", "decided"),
}
_LISTS = {"attempt": "attempts", "evaluation": "points", "coordinate check": "coordinates", "decision": "decisions"}
_NEAR = 1e-6


class ImportRefusedError(UserError):
    """A file that is not the export of a study, is broken, or does not fit what is here. Nothing was imported."""


class Exported:
    """An open file, with its manifest checked.

    Attributes:
        study: the study as its own database records it.
        source: its name across databases (see `exchange.source_of`).

    Raises:
        ImportRefusedError: it cannot be read, is no export, or one that this version does not understand.
    """

    def __init__(self, path: Path) -> None:
        import pyarrow as pa
        import pyarrow.parquet as pq

        self.path = path
        try:
            self._file = pq.ParquetFile(path)
        except FileNotFoundError:
            raise self.refusal("there is no such file; give the path of one that `einsearch export --data` wrote") from None
        except (OSError, pa.ArrowException) as error:
            raise self.refusal(f"it is not a Parquet file that can be read ({error})") from error
        held = (self._file.schema_arrow.metadata or {}).get(MANIFEST)
        if held is None:
            raise self.refusal("it is not the export of a study; write one with `einsearch export STUDY --data FILE.parquet`")
        manifest = json.loads(held)
        self._check_manifest(manifest)
        self.study: dict[str, Any] = manifest["study"]
        self.source: str = manifest["source"]

    def __enter__(self) -> Exported:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._file.close()

    def refusal(self, reason: str) -> ImportRefusedError:
        """The error that says why this file is not imported."""
        return ImportRefusedError(f"{self.path}: {reason} (nothing was imported)")

    def rows(self) -> Iterator[list[dict[str, Any]]]:
        """Its trials, some at a time, each checked.

        Raises:
            ImportRefusedError: a row that cannot be; says which, and why.
        """
        import pyarrow as pa

        try:
            for batch in self._file.iter_batches(TRIALS):
                rows = pa.Table.from_batches([batch]).select(self._columns.names).cast(self._columns).to_pylist()
                for row in rows:
                    row |= {name: row.get(name) or [] for name in ADDED}
                    self._check(row)
                yield rows
        except (OSError, pa.ArrowException) as error:
            raise self.refusal(f"it is broken: {error}") from error

    def _check_manifest(self, manifest: Mapping[str, Any]) -> None:
        import pyarrow as pa

        if manifest["format"] > FORMAT:
            raise self.refusal(f"it is of a newer einsearch (format {manifest['format']}, this one knows {FORMAT}); upgrade")
        if manifest["theta_order"] != list(EDGES):
            raise self.refusal(f"its theta is in the order {manifest['theta_order']}; ours is {list(EDGES)}")
        self._columns = pa.schema([field for field in schema() if manifest["format"] > 1 or field.name not in ADDED])
        conventions = {manifest["flop_convention"], manifest["study"]["flop_convention"]}
        if len(conventions) > 1 or not conventions <= set(FLOP_CONVENTIONS):
            said = " and ".join(sorted(map(repr, conventions)))
            raise self.refusal(f"its FLOP convention is {said}; known are {', '.join(FLOP_CONVENTIONS)}")
        missing = [name for name in RECORDED if name not in manifest["study"]]
        missing += [name for name in self._columns.names if name not in self._file.schema_arrow.names]
        if missing:
            raise self.refusal(f"{missing[0]} is missing from it")

    def _check(self, row: Mapping[str, Any]) -> None:
        """A trial with its attempts and evaluations."""
        where = f"trial {row['number']}"
        self._check_numbers(where, "trial", row)
        for name, allowed in (("kind", TRIAL_KINDS), ("state", TRIAL_STATES)):
            if row[name] not in allowed:
                raise self.refusal(f"{where}: {name} is {row[name]!r}; allowed: {', '.join(allowed)}")
        for kind, name in _LISTS.items():
            for one in row[name]:
                self._check_numbers(f"{where}, {kind}", kind, one)
        spent = math.fsum(attempt["flops"] for attempt in row["attempts"])
        if not math.isclose(spent, row["flops"], rel_tol=_NEAR, abs_tol=1.0):
            raise self.refusal(f"{where}: it spent {row['flops']} FLOPs, and its attempts {spent} together")
        if row["key"] is not None:
            problem = _problem(row["key"], tuple(row["theta"] or ()))
            if problem:
                raise self.refusal(f"{where}: {problem}")

    def _check_numbers(self, where: str, kind: str, row: Mapping[str, Any]) -> None:
        for name in _NEEDED[kind]:
            if row[name] is None:
                raise self.refusal(f"{where}: {name} is missing")
        for name in _AMOUNTS:
            value = row.get(name)
            if value is not None and not 0 <= value < math.inf:
                raise self.refusal(f"{where}: {name} is {value}; it must be finite and not negative")


@cache
def _problem(key: str, theta: tuple[float, ...]) -> str | None:
    """What is wrong with a structure's key and exponents, None where nothing is."""
    try:
        structure = Structure.parse(key)
        if len(theta) == len(EDGES):
            Structure.from_theta(theta)
    except StructureError as error:
        return f"theta is broken: {error}"
    if structure.key != key:
        return f"its structure {key} is not in canonical form; that is {structure.key}"
    mine = exponents(structure)
    if len(mine) != len(theta) or any(abs(a - b) > _NEAR for a, b in zip(mine, theta, strict=True)):
        return f"theta {list(theta)} is not that of its structure {key}, {mine}"
    return None
