"""Printing: tables for people, JSON and CSV for programs."""

from __future__ import annotations

import json
import math
import os
import shutil
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    import pandas as pd

ENDLESS = 10_000
"""Characters of a line where output goes to a file or a program, which wants every column."""


def line_width() -> int:
    """Characters of a line: those of the terminal, or what COLUMNS says; else no limit."""
    if sys.stdout.isatty() or "COLUMNS" in os.environ:
        return shutil.get_terminal_size((80, 24)).columns
    return ENDLESS


def emit_frame(
    frame: pd.DataFrame,
    format_: str,
    columns: Sequence[str] | None = None,
    empty: str = "nothing yet",
    below: str | None = None,
) -> None:
    """Print a frame: `table` shows `columns`, the other formats everything; theta is one list in JSON.

    Args:
        empty: what a person reads instead of a table without rows.
        below: a column of words that stands under the rows where it does not fit beside them.
    """
    if format_ == "csv":
        click.echo(frame.to_csv(index=False), nl=False)
    elif format_ == "json":
        emit_json([record(row) for row in frame.to_dict("records")])
    elif frame.empty:
        click.echo(f"({empty})")
    else:
        from dashboards.tables import table

        click.echo(table(frame, columns, width=line_width(), below=below))


def emit_json(value: Any) -> None:
    """Print JSON; what is not a number is null."""
    click.echo(json.dumps(json_value(value), indent=2))


def emit_pairs(pairs: Mapping[str, Any], format_: str, lines: Mapping[str, str]) -> None:
    """Print one record: `lines` for people, `pairs` as an object in JSON, or as two rows in CSV."""
    if format_ == "json":
        emit_json(pairs)
    elif format_ == "csv":
        import pandas as pd

        emit_frame(pd.DataFrame([flat(pairs)]), "csv")
    else:
        width = max(map(len, lines))
        for name, text in lines.items():
            click.echo(f"{name:<{width}}  {text}".rstrip())


def record(row: Mapping[Any, Any]) -> dict[str, Any]:
    """A row with its seven theta columns as one list."""
    theta = [value for name, value in row.items() if str(name).startswith("theta_")]
    rest = {str(name): value for name, value in row.items() if not str(name).startswith("theta_")}
    if not theta:
        return rest
    return {key: rest.pop(key) for key in ("study", "number", "structure", "key") if key in rest} | {"theta": theta} | rest


def json_value(value: Any) -> Any:
    """The value as JSON can hold it."""
    if isinstance(value, Mapping):
        return {str(key): json_value(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [json_value(item) for item in value]
    if hasattr(value, "item"):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def flat(pairs: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested mappings as columns, `sizes_XA` for `sizes` and `XA`."""
    found: dict[str, Any] = {}
    for name, value in pairs.items():
        if isinstance(value, Mapping):
            found |= flat(value, f"{prefix}{name}_")
        else:
            found[f"{prefix}{name}"] = value
    return found


def write_whole(path: Path, data: bytes) -> None:
    """Write a file, whole or not at all.

    Raises:
        DiskError: it cannot be written; an older file at that place is left as it was.
    """
    from space.errors import DiskError

    target = path.resolve()
    try:
        if target.exists() and not target.is_file():  # a device or a pipe
            target.write_bytes(data)
        else:
            _replace(target, data)
    except OSError as error:
        raise DiskError(f"{path} cannot be written ({error.strerror}); give another place with -o, or make room") from error


def _replace(target: Path, data: bytes) -> None:
    scratch = target.with_name(f".{target.name}.{os.getpid()}")
    try:
        scratch.write_bytes(data)
        scratch.replace(target)
    except OSError:
        scratch.unlink(missing_ok=True)
        raise
