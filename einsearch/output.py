"""Printing: tables for people, JSON and CSV for programs."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    import pandas as pd


def emit_frame(frame: pd.DataFrame, format_: str, columns: Sequence[str] | None = None) -> None:
    """Print a frame: `table` shows `columns`, the other formats everything; theta is one list in JSON."""
    if format_ == "table":
        from dashboards.tables import table

        click.echo(table(frame, columns))
    elif format_ == "csv":
        click.echo(frame.to_csv(index=False), nl=False)
    else:
        emit_json([record(row) for row in frame.to_dict("records")])


def emit_json(value: Any) -> None:
    """Print JSON; what is not a number is null."""
    click.echo(json.dumps(plain(value), indent=2))


def emit_pairs(pairs: Mapping[str, Any], format_: str) -> None:
    """Print one record: aligned lines for people, an object in JSON, two rows in CSV."""
    if format_ == "json":
        emit_json(pairs)
    elif format_ == "csv":
        import pandas as pd

        emit_frame(pd.DataFrame([flat(pairs)]), "csv")
    else:
        lines = flat(pairs)
        width = max(map(len, lines))
        for name, value in lines.items():
            click.echo(f"{name:<{width}}  {shown(value)}")


def record(row: Mapping[Any, Any]) -> dict[str, Any]:
    """A row with its seven theta columns as one list."""
    theta = [value for name, value in row.items() if str(name).startswith("theta_")]
    rest = {str(name): value for name, value in row.items() if not str(name).startswith("theta_")}
    if not theta:
        return rest
    return {key: rest.pop(key) for key in ("study", "number", "structure", "key") if key in rest} | {"theta": theta} | rest


def plain(value: Any) -> Any:
    """The value as JSON can hold it."""
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if hasattr(value, "item"):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def flat(pairs: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested mappings as dotted names."""
    found: dict[str, Any] = {}
    for name, value in pairs.items():
        if isinstance(value, Mapping):
            found |= flat(value, f"{prefix}{name}.")
        else:
            found[f"{prefix}{name}"] = value
    return found


def shown(value: Any) -> str:
    """One value for people."""
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}"
    if isinstance(value, list | tuple):
        return " ".join(shown(item) for item in value)
    return re.sub(r"\s+", " ", str(value))
